//! Calendar windows and billing periods, in UTC. Pure: every function takes the moment it is asked about.
//!
//! All arithmetic is on whole milliseconds and on the days of the proleptic Gregorian calendar, and it is total: there
//! is no date that it refuses. A period is always counted from the account's own first day, never from the period
//! before it, so that nothing drifts: an account of the 31st pays on the 28th in February and on the 31st in March.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::money::Money;
use crate::plan::{Period, Window};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

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

/// When an account pays: its first day and how often after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Billing {
    /// The first day of its first billing period.
    pub since: Date,
    /// How long each period is.
    pub period: Period,
}

/// One billing period of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillingPeriod {
    /// 0 for the one that starts with `since`; negative before it.
    pub index: i64,
    /// From its first midnight to the next period's.
    pub span: WindowSpan,
}

impl Billing {
    /// The first moment of the period of that index.
    ///
    /// Months and years start on the day of the month of `since`, or on a shorter month's last day.
    pub fn start_ms(self, index: i64) -> i64 {
        let (year, month, day) = self.first_day();
        let first_ms = days_of(year, month, day).saturating_mul(DAY_MS);
        match self.period {
            Period::Day => first_ms.saturating_add(index.saturating_mul(DAY_MS)),
            Period::Week => first_ms.saturating_add(index.saturating_mul(7 * DAY_MS)),
            Period::Month => month_day_ms(year, month.saturating_add(index), day),
            Period::Year => month_day_ms(year.saturating_add(index), month, day),
        }
    }

    /// The period of that index.
    pub fn period(self, index: i64) -> BillingPeriod {
        BillingPeriod {
            index,
            span: WindowSpan {
                start_ms: self.start_ms(index),
                end_ms: self.start_ms(index.saturating_add(1)),
            },
        }
    }

    /// The period that a moment falls in; before `since` its index is negative.
    pub fn period_at(self, at: Timestamp) -> BillingPeriod {
        self.period_at_ms(at.as_millisecond())
    }

    /// The periods that share any time with `range`, oldest first, from the first one (index 0) on.
    pub fn periods(self, range: WindowSpan) -> impl Iterator<Item = BillingPeriod> {
        let first = self.period_at_ms(range.start_ms).index.max(0);
        (first..)
            .map(move |index| self.period(index))
            .take_while(move |period| period.span.start_ms < range.end_ms)
            .filter(move |period| period.share(range).covered_ms > 0)
    }

    fn period_at_ms(self, at_ms: i64) -> BillingPeriod {
        let (year, month, day) = self.first_day();
        let at_days = at_ms.div_euclid(DAY_MS);
        let days = at_days.saturating_sub(days_of(year, month, day));
        let (at_year, at_month, _) = civil_of(at_days);
        // The calendar month of the moment belongs to this period or, before its first day, to the one before.
        let guess = match self.period {
            Period::Day => days,
            Period::Week => days.div_euclid(7),
            Period::Month => (at_year - year) * 12 + (at_month - month),
            Period::Year => at_year - year,
        };
        let before = i64::from(self.start_ms(guess) > at_ms);
        self.period(guess - before)
    }

    fn first_day(self) -> (i64, i64, i64) {
        let since = self.since;
        (
            i64::from(since.year()),
            i64::from(since.month()),
            i64::from(since.day()),
        )
    }
}

impl BillingPeriod {
    /// Which part of the period a range covers.
    pub fn share(self, range: WindowSpan) -> Share {
        Share {
            covered_ms: self.span.intersection(range).duration_ms(),
            whole_ms: self.span.duration_ms(),
        }
    }

    /// The part of the period's price that is earned within a range, spread evenly over the period's milliseconds.
    ///
    /// It is the difference of two amounts earned since the period's start, each rounded to a pico-dollar, so ranges
    /// that lie side by side add up to exactly what the range over both gives, and a whole period to the price.
    pub fn earned(self, price: Money, range: WindowSpan) -> Money {
        let within = self.span.intersection(range);
        if within.duration_ms() == 0 {
            return Money::ZERO;
        }
        let until = |at_ms: i64| {
            let past_ms = i128::from(at_ms.saturating_sub(self.span.start_ms));
            price.mul_ratio(past_ms, i128::from(self.span.duration_ms()))
        };
        match (until(within.end_ms), until(within.start_ms)) {
            (Some(end), Some(start)) => end - start,
            _ => Money::ZERO,
        }
    }
}

/// Which part of a period something covers: an exact fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of the period, this many milliseconds.
    pub covered_ms: i64,
    /// The period's length; never 0.
    pub whole_ms: i64,
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

/// Midnight of the first of a month; months past December run on into the next year.
fn month_start_ms(year: i64, month: i64) -> i64 {
    month_day_ms(year, month, 1)
}

/// Midnight of a day of a month, or of the month's last day if it is shorter; any month number is in some year.
fn month_day_ms(year: i64, month: i64, day: i64) -> i64 {
    let months = year.saturating_mul(12).saturating_add(month - 1);
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let last = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    days_of(year, month, day.min(last)).saturating_mul(DAY_MS)
}

/// Days since the epoch of a civil date. The year is taken to begin in March, so that the leap day is its last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era.saturating_mul(DAYS_PER_ERA).saturating_add(day_of_era) - EPOCH_DAYS
}

/// The civil date (year, month, day) of a count of days since the epoch: the inverse of [`days_of`].
fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(EPOCH_DAYS);
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 1 March of the year 0 to the epoch.
const EPOCH_DAYS: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn shown(span: WindowSpan) -> (String, String) {
        let text = |ms| Timestamp::from_millisecond(ms).unwrap().to_string();
        (text(span.start_ms), text(span.end_ms))
    }

    fn monthly(since: Date) -> Billing {
        Billing {
            since,
            period: Period::Month,
        }
    }

    fn starts(billing: Billing, indexes: std::ops::Range<i64>) -> Vec<String> {
        indexes
            .map(|index| {
                let start = Timestamp::from_millisecond(billing.start_ms(index)).unwrap();
                start.to_string()[..10].to_owned()
            })
            .collect()
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
    fn an_account_of_the_31st_pays_on_each_months_last_day_and_on_the_31st_again() {
        assert_eq!(
            starts(monthly(date(2023, 12, 31)), 0..6),
            [
                "2023-12-31",
                "2024-01-31",
                "2024-02-29",
                "2024-03-31",
                "2024-04-30",
                "2024-05-31"
            ]
        );
        assert_eq!(
            starts(monthly(date(2025, 1, 30)), 0..3),
            ["2025-01-30", "2025-02-28", "2025-03-30"]
        );
    }

    #[test]
    fn an_account_of_a_leap_day_pays_on_28_february_and_on_the_next_leap_day() {
        let billing = Billing {
            since: date(2024, 2, 29),
            period: Period::Year,
        };
        assert_eq!(
            starts(billing, 0..5),
            [
                "2024-02-29",
                "2025-02-28",
                "2026-02-28",
                "2027-02-28",
                "2028-02-29"
            ]
        );
    }

    #[test]
    fn a_period_ends_at_the_midnight_at_which_the_next_begins() {
        let billing = monthly(date(2025, 1, 31));
        let last = billing.period_at(at("2025-02-27T23:59:59.999Z"));
        let next = billing.period_at(at("2025-02-28T00:00:00Z"));
        assert_eq!((last.index, next.index), (0, 1));
        assert_eq!(last.span.end_ms, next.span.start_ms);
        assert_eq!(billing.period_at(at("2025-01-30T00:00:00Z")).index, -1);
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

    #[test]
    fn the_price_of_a_month_is_earned_by_the_millisecond() {
        let billing = monthly(date(2025, 3, 1));
        let range = WindowSpan {
            start_ms: at("2025-03-01T00:00:00Z").as_millisecond(),
            end_ms: at("2025-03-16T12:00:00Z").as_millisecond(),
        };
        let periods: Vec<_> = billing.periods(range).collect();
        assert_eq!(periods.len(), 1);
        let price = Money::from_usd(200);
        assert_eq!(periods[0].earned(price, range), Money::from_usd(100));
    }

    fn any_date() -> impl Strategy<Value = Date> {
        (1900_i16..2200, 1_i8..=12, 1_i8..=31).prop_map(|(year, month, day)| {
            let first = date(year, month, 1);
            date(year, month, day.min(first.days_in_month()))
        })
    }

    fn any_billing() -> impl Strategy<Value = Billing> {
        let period = prop_oneof![
            Just(Period::Day),
            Just(Period::Week),
            Just(Period::Month),
            Just(Period::Year)
        ];
        (any_date(), period).prop_map(|(since, period)| Billing { since, period })
    }

    const CENTURIES_MS: std::ops::Range<i64> = -2_208_988_800_000..7_258_118_400_000;

    proptest! {
        #[test]
        fn days_and_dates_agree_with_the_calendar_library(day in any_date()) {
            let epoch = date(1970, 1, 1);
            let days = i64::from((day - epoch).get_days());
            let (year, month, of_month) = (i64::from(day.year()), i64::from(day.month()), i64::from(day.day()));
            prop_assert_eq!(days_of(year, month, of_month), days);
            prop_assert_eq!(civil_of(days), (year, month, of_month));
        }

        #[test]
        fn months_agree_with_the_calendar_library(since in any_date(), index in 0_i32..2_000) {
            use jiff::ToSpan;
            let expected = since.checked_add(index.months()).unwrap();
            let start = monthly(since).start_ms(i64::from(index));
            let start = Timestamp::from_millisecond(start).unwrap().to_string();
            prop_assert_eq!(&start[..10], expected.to_string());
        }

        #[test]
        fn every_moment_lies_in_exactly_one_period(billing in any_billing(), at_ms in CENTURIES_MS) {
            let period = billing.period_at(Timestamp::from_millisecond(at_ms).unwrap());
            prop_assert!(period.span.contains(at_ms));
            prop_assert_eq!(billing.period(period.index), period);
            prop_assert_eq!(billing.period(period.index + 1).span.start_ms, period.span.end_ms);
        }

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

        #[test]
        fn revenue_of_ranges_side_by_side_adds_up_to_the_price_of_each_period(
            billing in any_billing(),
            picos in 0_i128..1_000_000_000_000_000,
            index in 0_i64..50,
            cuts in proptest::collection::vec(0.0_f64..1.0, 0..6),
        ) {
            let period = billing.period(index);
            let whole = period.span;
            let mut edges: Vec<i64> = cuts
                .iter()
                .map(|cut| whole.start_ms + (whole.duration_ms() as f64 * cut) as i64)
                .chain([whole.start_ms - 5, whole.end_ms + 5])
                .collect();
            edges.sort_unstable();
            let price = Money::from_picos(picos);
            let earned: Money = edges
                .windows(2)
                .map(|pair| period.earned(price, WindowSpan { start_ms: pair[0], end_ms: pair[1] }))
                .sum();
            prop_assert_eq!(earned, price);
        }

        #[test]
        fn the_periods_of_a_range_cover_it_without_gap(billing in any_billing(), start in CENTURIES_MS, days in 0_i64..400) {
            let range = WindowSpan { start_ms: start, end_ms: start + days * DAY_MS + 1 };
            let covered: i64 = billing.periods(range).map(|period| period.share(range).covered_ms).sum();
            let paid = range.intersection(WindowSpan { start_ms: billing.start_ms(0), end_ms: i64::MAX });
            prop_assert_eq!(covered, paid.duration_ms());
        }
    }
}
