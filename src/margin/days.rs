//! UTC days as numbers, and the moments at which days and months begin.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use crate::ledger::store::TimeRange;
use crate::period::WindowSpan;

/// A day in milliseconds: UTC days all have the same length.
pub(super) const DAY_MS: i64 = 86_400_000;
/// An hour in milliseconds.
pub(super) const HOUR_MS: i64 = 3_600_000;

/// A time range in whole milliseconds.
pub(super) fn span_of(range: TimeRange) -> WindowSpan {
    WindowSpan {
        start_ms: range.since.as_millisecond(),
        end_ms: range.until.as_millisecond(),
    }
}

/// The start of a day.
pub(super) fn midnight_ms(day: Date) -> i64 {
    Offset::UTC
        .to_timestamp(day.to_datetime(jiff::civil::Time::midnight()))
        .map_or(i64::MAX, Timestamp::as_millisecond)
}

/// A moment from its milliseconds; moments beyond what the calendar holds are its ends.
pub(super) fn timestamp_of(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// The day in which a moment lies.
pub(super) fn date_of(ms: i64) -> Date {
    Offset::UTC.to_datetime(timestamp_of(ms)).date()
}

/// Days since 1970.
pub(super) fn day_number(ms: i64) -> i32 {
    i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// The start of a day given by its number.
pub(super) fn day_start(number: i32) -> i64 {
    i64::from(number).saturating_mul(DAY_MS)
}

/// The whole of a day given by its number.
pub(super) fn day_span(number: i32) -> WindowSpan {
    WindowSpan {
        start_ms: day_start(number),
        end_ms: day_start(number).saturating_add(DAY_MS),
    }
}

/// The start of the calendar month in which a moment lies.
pub(super) fn month_start(ms: i64) -> i64 {
    midnight_ms(date_of(ms).first_of_month())
}

/// The start of the calendar month after the one in which a moment lies.
pub(super) fn month_end(ms: i64) -> i64 {
    date_of(ms)
        .last_of_month()
        .tomorrow()
        .map_or(i64::MAX, midnight_ms)
}
