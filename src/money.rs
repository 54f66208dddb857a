//! Exact money: an integer count of pico-dollars.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An exact amount of US dollars, counted in pico-dollars (10⁻¹² USD).
///
/// Providers publish prices per million tokens with at most six decimals, so the price of one token
/// is a whole number of pico-dollars and no product of price and count is ever rounded.
/// An `i128` holds 1.7 × 10²⁶ dollars: sums of real ledgers cannot overflow it, and products of a
/// price and a token count are made with [`Money::checked_mul`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

/// Why a text is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text is not a decimal number such as `12.50`.
    #[error("expected a decimal number of dollars such as \"12.50\"")]
    NotDecimal,
    /// The text has more decimals than the smallest unit can hold.
    #[error("has more than {0} decimals and cannot be kept exactly")]
    TooFine(usize),
    /// The amount is larger than any price or sum that makes sense.
    #[error("is out of range (at most 1000000000000 dollars)")]
    OutOfRange,
}

const DECIMALS: usize = 12;
const PICOS_PER_USD: i128 = 1_000_000_000_000;
const MAX_USD: i128 = 1_000_000_000_000;

impl Money {
    /// No money.
    pub const ZERO: Money = Money(0);
    /// More than any limit, budget or sum: used where an upper bound is unknown.
    pub const MAX: Money = Money(MAX_USD * PICOS_PER_USD);

    /// An amount from its count of pico-dollars.
    pub const fn from_picos(picos: i128) -> Money {
        Money(picos)
    }

    /// The amount as a count of pico-dollars.
    pub const fn picos(self) -> i128 {
        self.0
    }

    /// The amount as pico-dollars in 64 bits, as stores keep one entry; `None` past 9.2 million dollars.
    pub fn picos_i64(self) -> Option<i64> {
        i64::try_from(self.0).ok()
    }

    /// A whole number of dollars.
    pub const fn from_usd(usd: i64) -> Money {
        Money(usd as i128 * PICOS_PER_USD)
    }

    /// Reads a decimal string (`"-12.5"`, `"0.000000000001"`). No exponent, no sign but `-`, no float on the way.
    ///
    /// # Errors
    /// See [`MoneyError`].
    pub fn parse(text: &str) -> Result<Money, MoneyError> {
        Self::parse_scaled(text, DECIMALS)
    }

    /// Reads a price in dollars *per million units* and returns the price of *one* unit.
    ///
    /// # Errors
    /// [`MoneyError::TooFine`] past six decimals: the price of one token would be no whole number of pico-dollars.
    pub fn parse_per_million(text: &str) -> Result<Money, MoneyError> {
        Self::parse_scaled(text, DECIMALS - 6)
    }

    fn parse_scaled(text: &str, decimals: usize) -> Result<Money, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let dangling_point = digits.len() != whole.len() && fraction.is_empty();
        if whole.is_empty() || dangling_point || !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::NotDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            return Err(MoneyError::TooFine(decimals));
        }
        let mut units: i128 = 0;
        let padding = std::iter::repeat_n(b'0', decimals - fraction.len());
        for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
            units = units
                .checked_mul(10)
                .and_then(|units| units.checked_add(i128::from(digit - b'0')))
                .ok_or(MoneyError::OutOfRange)?;
        }
        if units > Self::MAX.0 {
            return Err(MoneyError::OutOfRange);
        }
        Ok(Money(if negative { -units } else { units }))
    }

    /// The sum, or `None` on overflow.
    pub fn checked_add(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// The amount taken `count` times, or `None` on overflow.
    pub fn checked_mul(self, count: u64) -> Option<Money> {
        self.0.checked_mul(i128::from(count)).map(Money)
    }

    /// The amount taken `count` times, held at the largest amount: for upper bounds only, never for a bill.
    pub fn saturating_mul(self, count: u64) -> Money {
        Money(self.0.saturating_mul(i128::from(count)))
    }

    /// `self * numerator / denominator`, rounded half to even: the one place where money is rounded.
    /// `None` when the denominator is not positive or the product overflows.
    pub fn mul_ratio(self, numerator: i128, denominator: i128) -> Option<Money> {
        if denominator <= 0 {
            return None;
        }
        let product = self.0.checked_mul(numerator)?;
        let quotient = product.div_euclid(denominator);
        let twice = product.rem_euclid(denominator).checked_mul(2)?;
        let up = twice > denominator || (twice == denominator && quotient % 2 != 0);
        quotient.checked_add(i128::from(up)).map(Money)
    }

    /// Rounded half to even to `decimals` (at most 12) places: for display only.
    pub fn round(self, decimals: u32) -> Money {
        let unit = 10_i128.pow(12_u32.saturating_sub(decimals));
        self.mul_ratio(1, unit)
            .map_or(self, |units| Money(units.0.saturating_mul(unit)))
    }

    /// Dollars as a float, for Prometheus samples and charts only.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / PICOS_PER_USD as f64
    }

    /// The amount without its sign.
    pub const fn abs(self) -> Money {
        Money(self.0.saturating_abs())
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

const TEN_TO_18: u64 = 1_000_000_000_000_000_000;

/// A short text, written from its end.
struct Backwards {
    /// The 39 digits of an `i128`, its point and its sign.
    bytes: [u8; 41],
    start: usize,
}

impl Default for Backwards {
    fn default() -> Backwards {
        Backwards {
            bytes: [0; 41],
            start: 41,
        }
    }
}

impl Backwards {
    fn push(&mut self, byte: u8) {
        if let Some(at) = self.start.checked_sub(1)
            && let Some(place) = self.bytes.get_mut(at)
        {
            *place = byte;
            self.start = at;
        }
    }

    /// At least so many digits.
    fn digits(&mut self, mut number: u64, least: usize) {
        let mut written = 0;
        while number > 0 || written < least {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
            written += 1;
        }
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(self.start..).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Prints a plain decimal, exact, with at least two decimals and no further trailing zeros.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let unit = PICOS_PER_USD.unsigned_abs();
        // Nearly all amounts fit in 64 bits, where a division is one instruction.
        let (whole, mut rest) = match (u64::try_from(magnitude), unit as u64) {
            (Ok(magnitude), unit) => (u128::from(magnitude / unit), magnitude % unit),
            (Err(_), _) => (magnitude / unit, (magnitude % unit) as u64),
        };
        // The fraction without its trailing zeros, but for two decimals at least.
        let mut decimals = DECIMALS;
        while decimals > 2 && rest % 10 == 0 {
            rest /= 10;
            decimals -= 1;
        }
        // Each answer tells its cost: from the last digit to the first, a fifth of what the formatter takes.
        let mut text = Backwards::default();
        text.digits(rest, decimals);
        text.push(b'.');
        match u64::try_from(whole) {
            Ok(whole) => text.digits(whole, 1),
            Err(_) => {
                text.digits((whole % u128::from(TEN_TO_18)) as u64, 18);
                text.digits((whole / u128::from(TEN_TO_18)) as u64, 1);
            }
        }
        if self.0 < 0 {
            text.push(b'-');
        }
        match f.width() {
            Some(_) => f.pad(text.as_str()),
            None => f.write_str(text.as_str()),
        }
    }
}

impl FromStr for Money {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Money, MoneyError> {
        Money::parse(text)
    }
}

impl std::ops::Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Money {
    type Output = Money;
    fn sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Neg for Money {
    type Output = Money;
    fn neg(self) -> Money {
        Money(self.0.saturating_neg())
    }
}

impl std::ops::AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Money {
    fn sub_assign(&mut self, other: Money) {
        *self = *self - other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::ZERO, |sum, amount| sum + amount)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        let text = String::deserialize(deserializer)?;
        Money::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_price_of_one_token_is_exact() {
        // GPT-4o input at 2.50 dollars per million tokens: 2.5 micro-dollars a token.
        let token = Money::parse_per_million("2.50").unwrap();
        assert_eq!(token, Money::from_picos(2_500_000));
        assert_eq!(token.checked_mul(165).unwrap().to_string(), "0.0004125");
    }

    #[test]
    fn amounts_print_as_plain_decimals_with_cents() {
        for (text, printed) in [
            ("200", "200.00"),
            ("0.1", "0.10"),
            ("-849.1572131", "-849.1572131"),
            ("0", "0.00"),
        ] {
            assert_eq!(Money::parse(text).unwrap().to_string(), printed);
        }
        assert_eq!(
            Money::from_picos(i128::MIN).to_string(),
            "-170141183460469231731687303.715884105728"
        );
        assert_eq!(
            Money::from_usd(2)
                .checked_mul(10_000_000_000_000_000_000)
                .unwrap()
                .to_string(),
            "20000000000000000000.00"
        );
        assert_eq!(format!("{:>8}", Money::from_usd(-5)), "   -5.00");
    }

    #[test]
    fn what_is_not_an_exact_decimal_is_refused() {
        for text in [
            "", "-", ".5", "5.", "1e3", "+1", "1_000", "1,5", "0x1", "NaN", " 1", "١",
        ] {
            assert_eq!(Money::parse(text), Err(MoneyError::NotDecimal), "{text:?}");
        }
        assert_eq!(
            Money::parse("0.0000000000001"),
            Err(MoneyError::TooFine(12))
        );
        assert_eq!(
            Money::parse_per_million("0.0000001"),
            Err(MoneyError::TooFine(6))
        );
        assert_eq!(
            Money::parse("1000000000000.01"),
            Err(MoneyError::OutOfRange)
        );
        assert_eq!(Money::parse(&"9".repeat(80)), Err(MoneyError::OutOfRange));
    }

    #[test]
    fn ratios_round_half_to_even() {
        let picos = |n| Money::from_picos(n);
        assert_eq!(picos(5).mul_ratio(1, 2), Some(picos(2)));
        assert_eq!(picos(7).mul_ratio(1, 2), Some(picos(4)));
        assert_eq!(picos(-5).mul_ratio(1, 2), Some(picos(-2)));
        assert_eq!(picos(1).mul_ratio(1, 0), None);
    }

    proptest! {
        #[test]
        fn every_amount_survives_printing_and_reading(picos in -(Money::MAX.picos())..Money::MAX.picos()) {
            let money = Money::from_picos(picos);
            prop_assert_eq!(Money::parse(&money.to_string()), Ok(money));
        }
    }
}
