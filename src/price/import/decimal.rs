//! Exact amounts out of the text of JSON numbers.

use crate::money::Money;

/// Why a JSON number is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAnAmount {
    /// It is no number, or below zero.
    NotANumber,
    /// It has more than twelve decimals, and not only because a binary float was printed.
    TooFine,
    /// It is larger than any price.
    OutOfRange,
}

/// An amount, and whether it had to be rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) money: Money,
    pub(super) rounded: bool,
}

/// Reads dollars for one unit, such as `2.5e-06`, exactly: the digits are shifted, no float is made of them.
///
/// Price maps are written by programs that compute with floats: `1.5000000000000002e-07` means 1.5e-07. A number of 15
/// or more digits that lies within a billionth of a whole count of pico-dollars is taken for that count.
pub(super) fn amount(text: &str) -> Result<Amount, NotAnAmount> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
            let exponent: i32 = exponent.parse().map_err(|_| NotAnAmount::NotANumber)?;
            (mantissa, exponent)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(NotAnAmount::NotANumber);
    }
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        let money = Money::ZERO;
        return Ok(Amount {
            money,
            rounded: false,
        });
    }
    if significant.len() > MAX_DIGITS {
        return Err(NotAnAmount::TooFine);
    }
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    let units: i128 = significant.parse().map_err(|_| NotAnAmount::NotANumber)?;
    // The amount is `units` times ten to the power of `scale`, in pico-dollars.
    let scale = i64::from(exponent) - fraction.len() as i64 + trailing_zeros as i64 + 12;
    if scale >= 0 {
        let power = u32::try_from(scale)
            .ok()
            .and_then(|scale| 10_i128.checked_pow(scale));
        let picos = power.and_then(|power| units.checked_mul(power));
        return match picos.map(Money::from_picos) {
            Some(money) if money <= Money::MAX => Ok(Amount {
                money,
                rounded: false,
            }),
            _ => Err(NotAnAmount::OutOfRange),
        };
    }
    let divisor = u32::try_from(-scale)
        .ok()
        .and_then(|scale| 10_i128.checked_pow(scale))
        .ok_or(NotAnAmount::TooFine)?;
    let picos = (units + divisor / 2) / divisor;
    let off = (units - picos * divisor).abs();
    let is_float_noise = significant.len() >= 15 && off.saturating_mul(1_000_000_000) <= units;
    if !is_float_noise || picos == 0 {
        return Err(NotAnAmount::TooFine);
    }
    Ok(Amount {
        money: Money::from_picos(picos),
        rounded: true,
    })
}

/// More digits than a float prints; 10 to this power times a billion still fits 128 bits.
const MAX_DIGITS: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picos(text: &str) -> Result<i128, NotAnAmount> {
        amount(text).map(|amount| amount.money.picos())
    }

    #[test]
    fn floats_are_read_by_their_digits() {
        for (text, expected) in [
            ("2.5e-06", 2_500_000),
            ("0.0000025", 2_500_000),
            ("3E-7", 300_000),
            ("1.25e-7", 125_000),
            ("3.625e-09", 3625),
            ("0", 0),
            ("0.0e+9", 0),
            ("15", 15_000_000_000_000),
            ("1e2", 100_000_000_000_000),
            ("0.00100", 1_000_000_000),
        ] {
            assert_eq!(picos(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_noise_of_a_computed_float_is_rounded_away_and_told() {
        for (text, expected) in [
            ("1.5000000000000002e-07", 150_000),
            ("2.9999999999999997e-06", 3_000_000),
        ] {
            let amount = amount(text).unwrap();
            assert_eq!(amount.money.picos(), expected, "{text}");
            assert!(amount.rounded);
        }
    }

    #[test]
    fn what_cannot_be_kept_exactly_is_refused() {
        assert_eq!(picos("1e-13"), Err(NotAnAmount::TooFine));
        assert_eq!(picos("0.000566666667e-6"), Err(NotAnAmount::TooFine));
        assert_eq!(picos("1e-999999"), Err(NotAnAmount::TooFine));
        assert_eq!(picos("1e999999"), Err(NotAnAmount::OutOfRange));
        assert_eq!(picos("1e99999999999"), Err(NotAnAmount::NotANumber));
        assert_eq!(picos("-1e-6"), Err(NotAnAmount::NotANumber));
        assert_eq!(picos("\"3\""), Err(NotAnAmount::NotANumber));
        assert_eq!(picos("null"), Err(NotAnAmount::NotANumber));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.eE+-]{0,40}") {
            let _ = amount(&text);
        }

        #[test]
        fn a_decimal_and_its_exponent_form_are_the_same(units in 1_i128..1_000_000_000, shift in 0_u32..6) {
            let scaled = units * 10_i128.pow(shift);
            let text = format!("{units}e-{}", 12 - shift);
            prop_assert_eq!(picos(&text), Ok(scaled));
        }
    }
}
