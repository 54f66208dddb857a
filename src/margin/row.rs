//! One row of a report out of its lines.

use std::collections::BTreeMap;

use super::concentration::Concentration;
use super::days::{date_of, day_start, timestamp_of};
use super::forecast::{METHOD, Variance};
use super::ratio::ratio;
use super::report::{BreakEven, CostLines, Hidden, Projected, Row};
use super::tally::{Daily, Part};
use super::worth::Worth;
use crate::ledger::store::Sums;
use crate::money::Money;
use crate::period::WindowSpan;

/// One account on one plan in one row.
pub(super) struct Line<'a> {
    pub(super) account: u32,
    pub(super) plan: u32,
    pub(super) counts: bool,
    pub(super) sums: Sums,
    pub(super) daily: &'a Daily,
    pub(super) passed: Worth,
    pub(super) ahead: Worth,
    pub(super) cost_ahead: Money,
    pub(super) variance: Variance,
}

/// One row out of its lines.
pub(super) fn row(id: &str, lines: &[Line], ahead: WindowSpan) -> Row {
    let mut sums = Sums::default();
    let (mut passed, mut later) = (Worth::default(), Worth::default());
    let (mut cost_ahead, mut variance) = (Money::ZERO, Variance::default());
    let mut accounts: BTreeMap<u32, (Money, Money)> = BTreeMap::new();
    for line in lines {
        sums += &line.sums;
        passed += line.passed;
        later += line.ahead;
        cost_ahead += line.cost_ahead;
        variance += line.variance;
        let used = line.sums.cost.total();
        let margin = line.passed.revenue - line.passed.costs() - used;
        if line.counts || margin != Money::ZERO {
            let (margins, costs) = accounts.entry(line.account).or_default();
            *margins += margin;
            *costs += used;
        }
    }
    let cost = CostLines {
        use_by_class: sums.cost,
        fixed: passed.fixed,
        payment_fee: passed.payment_fee,
    };
    let used = sums.cost.total();
    let cost_usd = used + passed.costs();
    let margin_usd = passed.revenue - cost_usd;
    let margins = || accounts.values().map(|(margin, _)| *margin);
    let projected_margin = margin_usd + later.revenue - later.costs() - cost_ahead;
    let range = variance.range();
    Row {
        id: id.to_owned(),
        plan: None,
        accounts: accounts.len() as u64,
        loss_making_accounts: margins().filter(|margin| margin.is_negative()).count() as u64,
        requests: sums.requests,
        unpriced_requests: u64::try_from(sums.unpriced_requests).unwrap_or(0),
        outcomes: sums.outcomes,
        usage: sums.usage,
        revenue_usd: passed.revenue,
        cost_usd,
        cost,
        margin_usd,
        margin_ratio: ratio(margin_usd, passed.revenue),
        break_even: break_even(lines, &sums, passed, later, cost_ahead, ahead),
        projected: Projected {
            until: timestamp_of(ahead.end_ms),
            revenue_usd: passed.revenue + later.revenue,
            cost_usd: cost_usd + later.costs() + cost_ahead,
            margin_usd: projected_margin,
            low_usd: projected_margin - range,
            // Costs ahead cannot fall below nothing.
            high_usd: projected_margin + range.min(cost_ahead.max(Money::ZERO)),
            method: if ahead.duration_ms() == 0 {
                "the period is over: as it was"
            } else {
                METHOD
            },
        },
        concentration: Some(Concentration::of(
            accounts.values().map(|(_, cost)| *cost).collect(),
        )),
        breakage_usd: margins().filter(|margin| !margin.is_negative()).sum(),
        losses_usd: -margins()
            .filter(|margin| margin.is_negative())
            .sum::<Money>(),
        hidden: Hidden {
            reasoning_usd: sums.cost.reasoning_output,
            client_closed_usd: sums.client_closed_cost,
            failed_usd: sums.failed_cost,
            retries: sums.retries,
        },
        savings_usd: sums.undiscounted - used,
    }
}

fn break_even(
    lines: &[Line],
    sums: &Sums,
    passed: Worth,
    later: Worth,
    cost_ahead: Money,
    ahead: WindowSpan,
) -> BreakEven {
    let may_cost = passed.revenue + later.revenue - passed.costs() - later.costs();
    let used = sums.cost.total();
    let at_mix = |count: u64| {
        let affordable = may_cost.picos().max(0);
        (used > Money::ZERO)
            .then(|| affordable.checked_mul(i128::from(count)))
            .flatten()
            .and_then(|product| u64::try_from(product / used.picos()).ok())
    };
    let mut by_day: BTreeMap<i32, Money> = BTreeMap::new();
    for day in lines.iter().flat_map(|line| line.daily.days()) {
        if day.part == Part::Within {
            *by_day.entry(day.day).or_default() += day.cost;
        }
    }
    let mut so_far = Money::ZERO;
    let passed_on = by_day.into_iter().find_map(|(day, cost)| {
        so_far += cost;
        (so_far > may_cost).then_some(day)
    });
    let reached = used > may_cost && passed_on.is_some();
    let date = if reached {
        passed_on.map(|day| date_of(day_start(day)))
    } else {
        let left = may_cost - used;
        (cost_ahead > left && !left.is_negative())
            .then(|| {
                let whole = Money::from_picos(i128::from(ahead.duration_ms()));
                whole.mul_ratio(left.picos(), cost_ahead.picos())
            })
            .flatten()
            .and_then(|ms| i64::try_from(ms.picos()).ok())
            .map(|ms| date_of(ahead.start_ms.saturating_add(ms)))
    };
    BreakEven {
        cost_usd: may_cost,
        tokens: at_mix(sums.usage.total_tokens()),
        requests: at_mix(sums.requests),
        date,
        reached,
    }
}
