//! What an account will cost until a moment ahead, with a range: from its own daily rate and its own spread.
//!
//! The rate is the mean daily cost of the last 14 days (fewer for a younger account), the running day included. The
//! spread is the standard deviation of those whole days. A stretch of `d` days ahead then has the variance
//! `s² (d + d² / n)`: each day strays by itself, and the mean of `n` days is itself not known exactly. Accounts are
//! taken as independent of each other, so their variances add. The range is 1.645 standard deviations to either side,
//! which would hold nine times in ten if costs were normal.

use super::days::{DAY_MS, day_number, day_start};
use super::tally::Daily;
use crate::money::Money;

/// How a projection is made, for the reader of the figures.
pub(super) const METHOD: &str = "cost so far + mean daily cost of each account's last 14 days x days left; \
range: 1.645 standard deviations from each account's own daily spread, accounts independent; \
revenue ahead as the plans stand";

/// Days that a rate looks back.
pub(super) const LOOK_BACK_DAYS: i32 = 14;

const MINUTE_MS: i64 = 60_000;
const MINUTES_PER_DAY: i128 = 1_440;
/// Spreads are computed in micro-dollars: their squares then fit in 128 bits, and they are estimates anyway.
const PICOS_PER_MICRO: i128 = 1_000_000;

/// The rate at which an account uses, and how it strays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    cost: Money,
    tokens: u64,
    over_ms: i64,
    /// Square of the standard deviation of one day, in micro-dollars.
    variance: i128,
    days: i128,
}

/// A sum of variances of independent costs, in square micro-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Variance(i128);

impl Rate {
    /// The start of the days that the rate of `daily` is taken from: at most 14 days before `as_of`, not before the
    /// account began (`first_ms`) or first used anything.
    pub(super) fn window_start(daily: &Daily, first_ms: i64, as_of_ms: i64) -> i64 {
        let earliest = day_start(day_number(as_of_ms).saturating_sub(LOOK_BACK_DAYS)).max(first_ms);
        let first_used = daily
            .days()
            .iter()
            .map(|day| day_start(day.day))
            .filter(|start| *start >= earliest)
            .min();
        first_used.unwrap_or(earliest).min(as_of_ms)
    }

    /// The rate of what was used from `start_ms` (see [`Rate::window_start`]) to `as_of_ms`. A stretch shorter than a
    /// day counts as a day, so that the first minutes of an account are not taken for its habit.
    pub(super) fn of(daily: &Daily, start_ms: i64, as_of_ms: i64) -> Rate {
        let first_day = day_number(start_ms);
        let today = day_number(as_of_ms);
        let length = usize::try_from(today.saturating_sub(first_day)).unwrap_or(0);
        let mut whole_days = vec![Money::ZERO; length];
        let mut rate = Rate {
            over_ms: as_of_ms.saturating_sub(start_ms).max(DAY_MS),
            ..Rate::default()
        };
        for day in daily.days() {
            if day.day < first_day || day.day > today {
                continue;
            }
            rate.cost += day.cost;
            rate.tokens = rate.tokens.saturating_add(day.tokens);
            let position = usize::try_from(day.day - first_day).unwrap_or(usize::MAX);
            if let Some(sum) = whole_days.get_mut(position) {
                *sum += day.cost;
            }
        }
        (rate.variance, rate.days) = match variance(&whole_days) {
            Some(variance) => (variance, i128::try_from(length).unwrap_or(1)),
            // One day says nothing about the spread: it is taken to be as large as the mean.
            None => {
                let mean = micros(rate.cost_in(DAY_MS));
                (mean.saturating_mul(mean), 1)
            }
        };
        rate
    }

    /// What is used in so long at this rate costs.
    pub(super) fn cost_in(&self, ms: i64) -> Money {
        self.cost
            .mul_ratio(i128::from(ms), i128::from(self.over_ms))
            .unwrap_or(Money::ZERO)
    }

    /// Tokens used in so long at this rate.
    pub(super) fn tokens_in(&self, ms: i64) -> u64 {
        let tokens = i128::from(self.tokens) * i128::from(ms) / i128::from(self.over_ms.max(1));
        u64::try_from(tokens).unwrap_or(0)
    }

    /// How far the cost of so long may stray.
    pub(super) fn variance_in(&self, ms: i64) -> Variance {
        let minutes = i128::from(ms / MINUTE_MS);
        let by_day = self.variance.saturating_mul(minutes) / MINUTES_PER_DAY;
        let by_mean = self
            .variance
            .saturating_mul(minutes.saturating_mul(minutes))
            / (MINUTES_PER_DAY * MINUTES_PER_DAY * self.days.max(1));
        Variance(by_day.saturating_add(by_mean))
    }
}

impl Variance {
    /// How far the sum lies to either side, nine times in ten.
    pub(super) fn range(self) -> Money {
        let deviation = self.0.unsigned_abs().isqrt();
        let deviation = i128::try_from(deviation).unwrap_or(i128::MAX);
        Money::from_picos(deviation.saturating_mul(PICOS_PER_MICRO) / 1_000 * 1_645)
    }
}

impl std::ops::AddAssign for Variance {
    fn add_assign(&mut self, other: Variance) {
        self.0 = self.0.saturating_add(other.0);
    }
}

fn micros(money: Money) -> i128 {
    money.picos() / PICOS_PER_MICRO
}

/// The sample variance of the days, in square micro-dollars; `None` for fewer than two.
fn variance(days: &[Money]) -> Option<i128> {
    let count = i128::try_from(days.len()).ok().filter(|n| *n >= 2)?;
    let sum: i128 = days.iter().map(|day| micros(*day)).sum();
    let squares = days.iter().fold(0_i128, |squares, day| {
        squares.saturating_add(micros(*day).saturating_mul(micros(*day)))
    });
    let scaled = count.saturating_mul(squares) - sum.saturating_mul(sum);
    Some(scaled.max(0) / (count * (count - 1)))
}
