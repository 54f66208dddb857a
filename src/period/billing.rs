//! Billing periods: counted from an account's own first day, and what of their price is earned when.

use jiff::Timestamp;
use jiff::civil::Date;

use super::WindowSpan;
use super::calendar::{DAY_MS, civil_of, days_of, month_day_ms};
use crate::money::Money;
use crate::plan::Period;

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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    pub(in crate::period) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(in crate::period) fn monthly(since: Date) -> Billing {
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

    pub(in crate::period) fn any_date() -> impl Strategy<Value = Date> {
        (1900_i16..2200, 1_i8..=12, 1_i8..=31).prop_map(|(year, month, day)| {
            let first = date(year, month, 1);
            date(year, month, day.min(first.days_in_month()))
        })
    }

    pub(in crate::period) fn any_billing() -> impl Strategy<Value = Billing> {
        let period = prop_oneof![
            Just(Period::Day),
            Just(Period::Week),
            Just(Period::Month),
            Just(Period::Year)
        ];
        (any_date(), period).prop_map(|(since, period)| Billing { since, period })
    }

    pub(in crate::period) const CENTURIES_MS: std::ops::Range<i64> =
        -2_208_988_800_000..7_258_118_400_000;

    proptest! {
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
