//! Durations, sizes and percentages as people write them.

use std::time::Duration;

/// Reads a whole number and a unit: `"500ms"`, `"5s"`, `"15m"`, `"5h"`, `"7d"`.
pub fn duration(text: &str) -> Option<Duration> {
    let (count, unit) = split(text)?;
    let unit_ms = DURATIONS.iter().find(|(name, _)| *name == unit)?.1;
    Some(Duration::from_millis(count.checked_mul(unit_ms)?))
}

/// Reads a whole number of bytes with or without a unit: `"64KiB"`, `"10MB"`, `"512"`.
pub fn size(text: &str) -> Option<u64> {
    let (count, unit) = split(text)?;
    let unit_bytes = SIZES.iter().find(|(name, _)| *name == unit)?.1;
    count.checked_mul(unit_bytes)
}

/// Reads a percentage of at most four decimals, with or without `%`, as parts per million: `"2.9%"` is 29,000.
pub fn percent_ppm(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 4 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let fraction: u32 = format!("{fraction:0<4}").parse().ok()?;
    whole.checked_mul(10_000)?.checked_add(fraction)
}

/// A duration as it would be written: in the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(ms, DURATIONS)
}

/// A size as it would be written: in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    show(bytes, SIZES)
}

fn show(count: u64, units: &[(&str, u64)]) -> String {
    let (name, unit) = units
        .iter()
        .find(|(_, unit)| count >= *unit && count.is_multiple_of(*unit))
        .unwrap_or(&("", 1));
    format!("{}{name}", count / unit)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (count, unit) = text.split_at_checked(end)?;
    Some((count.parse().ok()?, unit.trim_start()))
}

/// Largest first.
const DURATIONS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Binary units first, each kind largest first.
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_a_whole_number_and_a_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("15m", 900_000),
            ("5h", 18_000_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)));
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("32MiB", 33_554_432),
            ("10MB", 10_000_000),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Some(bytes));
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(size("512"), Some(512));
    }

    #[test]
    fn what_has_no_unit_a_fraction_or_too_many_digits_is_none() {
        for text in [
            "",
            "5",
            "s",
            "5 parsecs",
            "1.5s",
            "-5s",
            "5S",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "18446744073709551615GiB", "٣B"] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn percentages_are_exact_parts_per_million() {
        assert_eq!(percent_ppm("2.9%"), Some(29_000));
        assert_eq!(percent_ppm("2.9"), Some(29_000));
        assert_eq!(percent_ppm("0.0001"), Some(1));
        assert_eq!(percent_ppm("100"), Some(1_000_000));
        for text in ["", "%", "-1", ".5", "5.", "1.00001", "1e2", "99999999999"] {
            assert_eq!(percent_ppm(text), None, "{text:?}");
        }
    }
}
