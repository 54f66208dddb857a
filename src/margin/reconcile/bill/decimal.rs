//! Amounts of money as bills write them.

use super::BillError;
use crate::money::Money;

/// Reads a decimal number, quoted or not, with or without an exponent, times ten to the power of `shift`. Digits beyond
/// the pico-dollar are rounded half to even: a bill may have been through a float before it came here.
pub(super) fn decimal(text: &str, shift: i32) -> Result<Money, BillError> {
    let bad = || BillError::Amount(text.to_owned());
    let number = text.trim().trim_matches('"');
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let value: i128 = digits.parse().map_err(|_| bad())?;
    let decimals = i32::try_from(fraction.len()).map_err(|_| bad())?;
    let power = exponent
        .checked_add(shift)
        .and_then(|sum| sum.checked_add(12 - decimals))
        .filter(|power| (-60..=26).contains(power))
        .ok_or_else(bad)?;
    let ten = |power: i32| 10_i128.checked_pow(power.unsigned_abs());
    let picos = if power >= 0 {
        ten(power).and_then(|factor| value.checked_mul(factor).map(Money::from_picos))
    } else {
        // Past 38 digits there is nothing left of the value.
        match ten(power) {
            Some(divisor) => Money::from_picos(value).mul_ratio(1, divisor),
            None => Some(Money::ZERO),
        }
    };
    picos
        .map(|money| if negative { -money } else { money })
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_by_their_digits() {
        for (text, shift, read) in [
            ("0.1", 0, "0.1"),
            ("-1.5e2", 0, "-150"),
            ("12", -2, "0.12"),
            ("0.30000000000000004", 0, "0.3"),
            ("1e-50", 0, "0"),
        ] {
            assert_eq!(decimal(text, shift).ok(), Money::parse(read).ok(), "{text}");
        }
        assert!(decimal("1e40", 0).is_err() && decimal(".", 0).is_err());
    }
}
