//! Shares of money as decimal strings.

use crate::money::Money;

/// `part / whole` with four decimals, rounded half to even; `None` where the whole is not above zero.
pub(super) fn ratio(part: Money, whole: Money) -> Option<String> {
    let scaled = part.mul_ratio(10_000, whole.picos())?.picos();
    let sign = if scaled < 0 { "-" } else { "" };
    let magnitude = scaled.unsigned_abs();
    Some(format!(
        "{sign}{}.{:04}",
        magnitude / 10_000,
        magnitude % 10_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_four_decimals_and_a_sign() {
        let usd = |text: &str| Money::parse(text).unwrap();
        assert_eq!(
            ratio(usd("-849.1572131"), usd("5161.29")).as_deref(),
            Some("-0.1645")
        );
        assert_eq!(ratio(usd("1"), usd("3")).as_deref(), Some("0.3333"));
        assert_eq!(ratio(usd("-700"), usd("200")).as_deref(), Some("-3.5000"));
        assert_eq!(ratio(usd("1"), Money::ZERO), None);
        assert_eq!(ratio(usd("1"), usd("-2")), None);
    }
}
