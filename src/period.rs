//! Calendar windows and billing periods, in UTC. Pure: every function takes the moment it is asked about.
//!
//! All arithmetic is on whole milliseconds and on the days of the proleptic Gregorian calendar, and it is total: there
//! is no date that it refuses. A period is always counted from the account's own first day, never from the period
//! before it, so that nothing drifts: an account of the 31st pays on the 28th in February and on the 31st in March.

mod billing;
mod calendar;

use jiff::Timestamp;

pub use billing::{Billing, BillingPeriod, Share};
use calendar::{DAY_MS, civil_of, month_start_ms};

use crate::plan::Window;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Into how many parts a rolling window is cut: use leaves it a part at a time.
pub const ROLLING_PARTS: u64 = 60;

/// A stretch of time: a window at one moment, a billing period, a report's range. Milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowSpan {
    /// Inclusive.
    pub start_ms: i64,
    /// Exclusive.
    pub end_ms: i64,
}

impl WindowSpan {
    /// All of time: what a count without a window lies in.
    pub const ALWAYS: WindowSpan = WindowSpan {
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };

    /// Whether a moment lies within.
    pub fn contains(self, at_ms: i64) -> bool {
        self.start_ms <= at_ms && at_ms < self.end_ms
    }

    /// The part that two stretches share; empty (its end not after its start) if they share none.
    pub fn intersection(self, other: WindowSpan) -> WindowSpan {
        WindowSpan {
            start_ms: self.start_ms.max(other.start_ms),
            end_ms: self.end_ms.min(other.end_ms),
        }
    }

    /// How long it is; 0 if it is empty.
    pub fn duration_ms(self) -> i64 {
        self.end_ms.saturating_sub(self.start_ms).max(0)
    }
}

/// The window that `now` falls in. For a rolling window: the last so many milliseconds up to `now`, and as its end the
/// moment at which all that is used now has surely left it.
pub fn span(window: Window, billing: Billing, now: Timestamp) -> WindowSpan {
    let now_ms = now.as_millisecond();
    match window {
        Window::Minute => every(MINUTE_MS, 0, now_ms),
        Window::Hour => every(HOUR_MS, 0, now_ms),
        Window::Day => every(DAY_MS, 0, now_ms),
        Window::Week => every(7 * DAY_MS, MONDAY_MS, now_ms),
        Window::Month => {
            let (year, month, _) = civil_of(now_ms.div_euclid(DAY_MS));
            WindowSpan {
                start_ms: month_start_ms(year, month),
                end_ms: month_start_ms(year, month + 1),
            }
        }
        Window::Period => billing.period_at(now).span,
        Window::Rolling(length_ms) => {
            let length_ms = i64::try_from(length_ms).unwrap_or(i64::MAX);
            WindowSpan {
                start_ms: now_ms.saturating_sub(length_ms),
                end_ms: rolling_part(window, now)
                    .map_or(i64::MAX, |part| part.end_ms.saturating_add(length_ms)),
            }
        }
    }
}

/// The part of a rolling window that use at `at` is booked in: one sixtieth of the window's length. Use counts until
/// its whole part is older than the window, so at most that sixtieth too long and never too short. `None` for calendar
/// windows, which are not cut.
pub fn rolling_part(window: Window, at: Timestamp) -> Option<WindowSpan> {
    let Window::Rolling(length_ms) = window else {
        return None;
    };
    let part_ms = length_ms.div_ceil(ROLLING_PARTS).max(1);
    let part_ms = i64::try_from(part_ms).unwrap_or(i64::MAX);
    Some(every(part_ms, 0, at.as_millisecond()))
}

/// Windows of one length that follow each other since the epoch, the first one shifted by `offset_ms`.
fn every(length_ms: i64, offset_ms: i64, at_ms: i64) -> WindowSpan {
    let past_ms = at_ms.saturating_sub(offset_ms).rem_euclid(length_ms);
    let start_ms = at_ms.saturating_sub(past_ms);
    WindowSpan {
        start_ms,
        end_ms: start_ms.saturating_add(length_ms),
    }
}

/// The epoch was a Thursday; its week began three days before.
const MONDAY_MS: i64 = -3 * DAY_MS;

#[cfg(test)]
mod tests {
    use super::billing::tests::{CENTURIES_MS, any_billing, at, monthly};
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    fn shown(span: WindowSpan) -> (String, String) {
        let text = |ms| Timestamp::from_millisecond(ms).unwrap().to_string();
        (text(span.start_ms), text(span.end_ms))
    }

    #[test]
    fn calendar_windows_begin_where_the_calendar_says() {
        let billing = monthly(date(2025, 1, 31));
        let now = at("2024-02-29T23:59:59.999Z");
        for (window, start, end) in [
            (
                Window::Minute,
                "2024-02-29T23:59:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (Window::Hour, "2024-02-29T23:00:00Z", "2024-03-01T00:00:00Z"),
            (Window::Day, "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Window::Week, "2024-02-26T00:00:00Z", "2024-03-04T00:00:00Z"),
            (
                Window::Month,
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
        ] {
            let (from, to) = shown(span(window, billing, now));
            assert_eq!((from.as_str(), to.as_str()), (start, end), "{window:?}");
        }
    }

    #[test]
    fn a_week_and_a_month_run_over_the_years_end() {
        let billing = monthly(date(2025, 1, 1));
        let now = at("2025-12-31T12:00:00Z");
        assert_eq!(
            shown(span(Window::Week, billing, now)).1,
            "2026-01-05T00:00:00Z"
        );
        assert_eq!(
            shown(span(Window::Month, billing, now)).1,
            "2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn a_rolling_window_looks_back_its_length_and_is_cut_in_sixty() {
        let now = at("2025-03-01T12:34:56Z");
        let window = Window::Rolling(5 * 3_600_000);
        let whole = span(window, monthly(date(2025, 1, 1)), now);
        assert_eq!(shown(whole).0, "2025-03-01T07:34:56Z");
        let part = rolling_part(window, now).unwrap();
        assert_eq!(
            shown(part),
            ("2025-03-01T12:30:00Z".into(), "2025-03-01T12:35:00Z".into())
        );
        assert_eq!(whole.end_ms, part.end_ms + 5 * 3_600_000);
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_calendar_windows(billing in any_billing(), at_ms in CENTURIES_MS) {
            let now = Timestamp::from_millisecond(at_ms).unwrap();
            for window in [Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month, Window::Period] {
                let found = span(window, billing, now);
                prop_assert!(found.contains(at_ms), "{:?}", window);
                for edge in [found.start_ms, found.end_ms - 1] {
                    let edge = Timestamp::from_millisecond(edge).unwrap();
                    prop_assert_eq!(span(window, billing, edge), found);
                }
            }
        }
    }
}
