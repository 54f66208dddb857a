//! Moments on the command line.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// Reads a moment in RFC 3339, or a date, which is its midnight in UTC.
///
/// # Errors
/// A sentence for the person at the terminal.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    text.parse::<Date>()
        .ok()
        .filter(|_| text.len() == 10)
        .and_then(|date| {
            Offset::UTC
                .to_timestamp(date.to_datetime(jiff::civil::Time::midnight()))
                .ok()
        })
        .ok_or_else(|| {
            "expected a date (2025-03-01) or an RFC 3339 time (2025-03-01T12:00:00Z)".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_midnights_in_utc() {
        assert_eq!(moment("2025-03-01"), moment("2025-03-01T00:00:00Z"));
        assert_eq!(
            moment("2025-03-01T02:00:00+02:00"),
            moment("2025-03-01T00:00:00Z")
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "yesterday",
            "2025-3-1",
            "2025-03-01T12:00",
            "1740787200",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
