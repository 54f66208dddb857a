//! What the past refused: the plans' own limits, as the configuration has them, held over the requests that are made up.

use std::collections::HashMap;

use jiff::civil::Date;

use crate::ids::PlanId;
use crate::ledger::Entry;
use crate::period::{self, Billing};
use crate::plan::{Action, Limit, Measure, Plan, Window};

/// What one subscriber has used of the limits of its plans.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// By plan and the limit's place there: the start of the window that runs, and what it holds.
    used: HashMap<(PlanId, usize), (i64, i128)>,
}

impl Allowance {
    /// The limit that refuses a request, as the ledger names it; a request that none refuses counts against all.
    ///
    /// Only limits that refuse within calendar windows hold in the past: others need the order of requests in flight.
    pub(super) fn refuses(&mut self, plan: &Plan, since: Date, entry: &Entry) -> Option<String> {
        let billing = Billing {
            since,
            period: plan.period,
        };
        let mut charges = Vec::new();
        for (place, limit) in plan.limits.iter().enumerate() {
            let Some(window) = window_of(limit, entry) else {
                continue;
            };
            let start_ms = period::span(window, billing, entry.started_at).start_ms;
            let slot = (plan.id.clone(), place);
            let held = match self.used.get(&slot) {
                Some((start, held)) if *start == start_ms => *held,
                _ => 0,
            };
            let after = held.saturating_add(measured(limit.on, entry));
            if after > limit.max.units() {
                return Some(format!("{}/{window}", limit.on.as_str()));
            }
            charges.push((slot, (start_ms, after)));
        }
        self.used.extend(charges);
        None
    }
}

fn window_of(limit: &Limit, entry: &Entry) -> Option<Window> {
    let concerns = limit.models.is_empty()
        || entry
            .model
            .as_ref()
            .is_some_and(|model| limit.models.iter().any(|of| of.matches(model.as_str())));
    limit
        .per
        .filter(|per| concerns && limit.then == Action::Block && !matches!(per, Window::Rolling(_)))
}

fn measured(on: Measure, entry: &Entry) -> i128 {
    match on {
        Measure::Cost => entry.cost_usd().picos(),
        Measure::Tokens => i128::from(entry.usage.total_tokens()),
        Measure::InputTokens => i128::from(entry.usage.input_tokens),
        Measure::OutputTokens => i128::from(entry.usage.output_tokens),
        Measure::Requests => 1,
        Measure::Concurrent => 0,
    }
}
