//! What an account brings, and costs beside its use, in a stretch of time.

use super::books::AccountBook;
use super::days::day_start;
use super::forecast::Rate;
use super::tally::{Daily, Part};
use super::tenure::{Tenure, Used};
use crate::money::Money;
use crate::period::WindowSpan;

/// Revenue, and the costs that are not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Worth {
    /// Plan prices, overage and refunds (which take away).
    pub(super) revenue: Money,
    /// Fixed costs of accounts.
    pub(super) fixed: Money,
    /// What payment providers keep.
    pub(super) payment_fee: Money,
}

impl Worth {
    /// Costs beside use.
    pub(super) fn costs(&self) -> Money {
        self.fixed + self.payment_fee
    }

    /// The part that falls to one of several that share it, by weight.
    pub(super) fn part(&self, weight: i128, all: i128) -> Worth {
        let part = |money: Money| money.mul_ratio(weight, all).unwrap_or(Money::ZERO);
        Worth {
            revenue: part(self.revenue),
            fixed: part(self.fixed),
            payment_fee: part(self.payment_fee),
        }
    }
}

impl std::ops::AddAssign for Worth {
    fn add_assign(&mut self, other: Worth) {
        self.revenue += other.revenue;
        self.fixed += other.fixed;
        self.payment_fee += other.payment_fee;
    }
}

impl std::ops::Sub for Worth {
    type Output = Worth;
    fn sub(self, other: Worth) -> Worth {
        Worth {
            revenue: self.revenue - other.revenue,
            fixed: self.fixed - other.fixed,
            payment_fee: self.payment_fee - other.payment_fee,
        }
    }
}

/// What an account on one plan brings in a stretch of time that has passed. `since_ms` is where its report begins.
pub(super) fn recognised(
    book: &AccountBook,
    plan: &str,
    daily: &Daily,
    span: WindowSpan,
    since_ms: i64,
) -> Worth {
    let mut worth = Worth::default();
    let mut last_left_ms = None;
    for tenure in book.tenures_on(plan) {
        worth += of_time(tenure, span);
        let left_ms = last_left_ms.replace(tenure.span.end_ms).unwrap_or(i64::MIN);
        if tenure.plan.overage.is_none() {
            continue;
        }
        for period in tenure
            .billing
            .periods(span.intersection(tenure.span))
            .map(|period| period.span)
        {
            let part = period.intersection(span).intersection(tenure.span);
            let used_until = |at_ms| used(daily, period, at_ms, since_ms);
            // What was used on the plan on the day on which it began was used after it began, unless an earlier time on
            // it ended on that day.
            let begins = part.start_ms == tenure.span.start_ms && part.start_ms > since_ms;
            let before = used_until(if begins { left_ms } else { part.start_ms });
            worth.revenue += tenure.overage(used_until(part.end_ms)) - tenure.overage(before);
        }
    }
    for (at_ms, refund) in &book.refunds {
        if span.contains(*at_ms) && book.plan_at(*at_ms) == Some(plan) {
            worth.revenue -= *refund;
        }
    }
    worth
}

/// What it will bring in a stretch of time that begins now, if it goes on using at this rate.
pub(super) fn ahead(
    book: &AccountBook,
    plan: &str,
    daily: &Daily,
    span: WindowSpan,
    since_ms: i64,
    rate: &Rate,
) -> Worth {
    let mut worth = Worth::default();
    for tenure in book.tenures_on(plan) {
        worth += of_time(tenure, span);
        if tenure.plan.overage.is_none() {
            continue;
        }
        let ahead = span.intersection(tenure.span);
        for period in tenure.billing.periods(ahead).map(|period| period.span) {
            let part_ms = period.intersection(ahead).duration_ms();
            let so_far = used(daily, period, span.start_ms, since_ms);
            let then = Used {
                cost: so_far.cost + rate.cost_in(part_ms),
                tokens: so_far.tokens.saturating_add(rate.tokens_in(part_ms)),
            };
            worth.revenue += tenure.overage(then) - tenure.overage(so_far);
        }
    }
    worth
}

fn of_time(tenure: &Tenure, span: WindowSpan) -> Worth {
    Worth {
        revenue: tenure.earned(span),
        fixed: tenure.fixed_cost(span),
        payment_fee: tenure.payment_fees(span),
    }
}

/// What was used in a billing period up to a moment. Days count whole, but for the day on which the report begins.
fn used(daily: &Daily, period: WindowSpan, until_ms: i64, since_ms: i64) -> Used {
    let mut used = Used::default();
    for day in daily.days() {
        let before = if until_ms == since_ms {
            day.part == Part::Before
        } else {
            day_start(day.day) < until_ms
        };
        if before && period.contains(day_start(day.day)) {
            used.cost += day.cost;
            used.tokens = used.tokens.saturating_add(day.tokens);
        }
    }
    used
}
