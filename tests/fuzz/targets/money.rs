//! What reads as money prints as what reads as the same money, and arithmetic on it says when it does not fit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::money::Money;

fuzz_target!(|text: &str| {
    if let Ok(money) = Money::parse(text) {
        assert_eq!(Money::parse(&money.to_string()), Ok(money));
        assert_eq!(money.checked_mul(1), Some(money));
        let doubled = money.checked_add(money);
        assert_eq!(doubled, money.checked_mul(2));
    }
    if let (Ok(price), Ok(million)) = (Money::parse_per_million(text), Money::parse(text)) {
        // Exact or refused: a million tokens cost what was written.
        assert_eq!(price.checked_mul(1_000_000), Some(million));
    }
});
