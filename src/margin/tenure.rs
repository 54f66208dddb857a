//! What one account pays, and costs beside its use, while it has one plan.

use std::sync::Arc;

use super::days::{DAY_MS, date_of, midnight_ms, timestamp_of};
use crate::config::Currency;
use crate::money::Money;
use crate::period::{Billing, BillingPeriod, WindowSpan};
use crate::plan::{Amount, Overage, OverageCharge, PaymentFee, Plan};

/// A stretch of time in which an account had a plan on the same terms.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// The plan, as its terms were then.
    pub plan: Arc<Plan>,
    /// Its billing periods.
    pub billing: Billing,
    /// When.
    pub span: WindowSpan,
    /// The rates of the plan's currency; `None` for US dollars.
    pub currency: Option<Arc<Currency>>,
    /// Whether it goes on from a stretch in which the account paid for the same plan on other terms.
    pub renewed: bool,
}

/// Cost and tokens of a stretch: what overage is charged on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// What the use cost.
    pub cost: Money,
    /// Input and output tokens.
    pub tokens: u64,
}

impl Tenure {
    /// Revenue from the plan's price in a stretch of time. Days of the trial earn nothing.
    pub fn earned(&self, range: WindowSpan) -> Money {
        if self.plan.price == Money::ZERO {
            return Money::ZERO;
        }
        let range = range.intersection(self.paid());
        self.billing
            .periods(range)
            .map(|period| period.earned(self.price_usd(&period), range))
            .sum()
    }

    /// The account's fixed cost in a stretch of time, spread as the price is, trial included.
    pub fn fixed_cost(&self, range: WindowSpan) -> Money {
        if self.plan.fixed_cost == Money::ZERO {
            return Money::ZERO;
        }
        let range = range.intersection(self.span);
        self.billing
            .periods(range)
            .map(|period| period.earned(self.plan.fixed_cost, range))
            .sum()
    }

    /// What the payment provider keeps of the payments made in a stretch of time.
    pub fn payment_fees(&self, range: WindowSpan) -> Money {
        let fee = self.plan.payment_fee;
        if fee == PaymentFee::default() {
            return Money::ZERO;
        }
        self.payments(range)
            .map(|payment| {
                let share = payment.mul_ratio(i128::from(fee.ppm), 1_000_000);
                share.unwrap_or(Money::ZERO) + fee.fixed
            })
            .sum()
    }

    /// The payments made in a stretch of time. One is made whenever paid time begins: at the start of a billing period for
    /// the whole of it; at the end of a trial or at a change of plan for the rest of the running period. New terms of the
    /// same plan are paid for from the next billing period on: nobody pays twice in one.
    pub fn payments(&self, range: WindowSpan) -> impl Iterator<Item = Money> {
        let paid = self.paid();
        let asks = self.plan.price != Money::ZERO;
        asks.then(|| self.billing.periods(range.intersection(paid)))
            .into_iter()
            .flatten()
            .map(move |period| (period, period.span.intersection(paid)))
            .filter(move |(_, paid_for)| range.contains(paid_for.start_ms))
            .filter(move |(period, paid_for)| {
                let goes_on = self.renewed && paid_for.start_ms == self.span.start_ms;
                !goes_on || paid_for.start_ms == period.span.start_ms
            })
            .map(move |(period, paid_for)| {
                let rest = WindowSpan {
                    start_ms: paid_for.start_ms,
                    end_ms: period.span.end_ms,
                };
                period.earned(self.price_usd(&period), rest)
            })
    }

    /// What is charged beyond the plan's price for all that was used in one billing period. It never falls as use
    /// grows.
    pub fn overage(&self, used: Used) -> Money {
        let Some(Overage { above, charge }) = self.plan.overage else {
            return Money::ZERO;
        };
        let whole = match above {
            Amount::Money(_) => used.cost.picos(),
            Amount::Count(_) => i128::from(used.tokens),
        };
        let over = whole - above.units();
        if over <= 0 {
            return Money::ZERO;
        }
        // The quota may be in another measure than the charge (a token price above a quota of dollars): then the same
        // share of the period's tokens or cost counts as lying above it.
        let charged = match charge {
            OverageCharge::PerToken(price) => price
                .checked_mul(used.tokens)
                .and_then(|all| all.mul_ratio(over, whole)),
            OverageCharge::MarkupPpm(ppm) => used
                .cost
                .mul_ratio(over, whole)
                .and_then(|cost| cost.mul_ratio(i128::from(ppm), 1_000_000)),
        };
        charged.unwrap_or(Money::ZERO)
    }

    /// The billing period in which a moment lies.
    pub fn period(&self, at_ms: i64) -> WindowSpan {
        self.billing.period_at(timestamp_of(at_ms)).span
    }

    /// The plan's price for a billing period, in US dollars at the rate of the period's first day: the payment is made
    /// then, and what the currency does later does not change it.
    fn price_usd(&self, period: &BillingPeriod) -> Money {
        let Some(currency) = &self.currency else {
            return self.plan.price;
        };
        currency
            .usd_on(date_of(period.span.start_ms))
            .and_then(|rate| {
                self.plan
                    .price
                    .mul_ratio(rate.picos(), Money::from_usd(1).picos())
            })
            .unwrap_or(Money::ZERO)
    }

    /// When the plan is paid for: its time without the trial, which is counted from the first billing day.
    fn paid(&self) -> WindowSpan {
        if self.plan.trial_days == 0 {
            return self.span;
        }
        let trial_ms = i64::from(self.plan.trial_days).saturating_mul(DAY_MS);
        let trial_end = midnight_ms(self.billing.since).saturating_add(trial_ms);
        WindowSpan {
            start_ms: self.span.start_ms.max(trial_end),
            end_ms: self.span.end_ms,
        }
    }
}
