//! What plans cost and when: a change of price splits revenue at its moment.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::PlanId;
use crate::ledger::store::PlanEvent;
use crate::money::Money;
use crate::period::WindowSpan;
use crate::plan::Plan;

/// A plan as it stands, and the terms that it had before.
#[derive(Clone, Debug)]
pub struct PlanHistory {
    present: Arc<Plan>,
    /// From when each terms held, in milliseconds since 1970; in order, the first from the beginning of time. Never empty.
    terms: Vec<(i64, Arc<Plan>)>,
}

/// Terms that held in a stretch of time.
pub(super) struct Held<'a> {
    pub(super) terms: &'a Arc<Plan>,
    pub(super) span: WindowSpan,
    /// Whether the account paid for the plan before, on other terms.
    pub(super) renewed: bool,
}

impl From<Plan> for PlanHistory {
    fn from(plan: Plan) -> PlanHistory {
        let present = Arc::new(plan);
        PlanHistory {
            terms: vec![(i64::MIN, Arc::clone(&present))],
            present,
        }
    }
}

impl PlanHistory {
    /// The plans that are, with what was recorded of them, and those that are no more. Terms that nobody has recorded yet
    /// are not in force; a plan of which nothing was recorded has always been as it is.
    pub fn of(plans: impl IntoIterator<Item = Plan>, events: &[PlanEvent]) -> Vec<PlanHistory> {
        let mut recorded: HashMap<&PlanId, Vec<&PlanEvent>> = HashMap::new();
        for event in events {
            recorded.entry(&event.terms.id).or_default().push(event);
        }
        let present: HashMap<PlanId, Plan> = plans
            .into_iter()
            .map(|plan| (plan.id.clone(), plan))
            .collect();
        let mut histories: Vec<PlanHistory> = Vec::with_capacity(present.len());
        for (id, plan) in present {
            let events = recorded.remove(&id).unwrap_or_default();
            histories.push(PlanHistory::since(plan, events));
        }
        for (_, events) in recorded {
            if let Some(last) = events.iter().max_by_key(|event| event.at) {
                histories.push(PlanHistory::since(last.terms.clone(), events));
            }
        }
        histories
    }

    fn since(plan: Plan, mut events: Vec<&PlanEvent>) -> PlanHistory {
        let mut history = PlanHistory::from(plan);
        events.sort_by_key(|event| event.at);
        let mut terms: Vec<(i64, Arc<Plan>)> = Vec::new();
        for event in events {
            let from = match terms.last() {
                Some((_, last)) if **last == event.terms => continue,
                Some(_) => event.at.as_millisecond(),
                None => i64::MIN,
            };
            terms.push((from, Arc::new(event.terms.clone())));
        }
        if !terms.is_empty() {
            history.terms = terms;
        }
        history
    }

    /// The plan as it stands.
    pub(super) fn present(&self) -> &Arc<Plan> {
        &self.present
    }

    /// The terms that held in a stretch of time, piece by piece.
    pub(super) fn within(&self, span: WindowSpan) -> impl Iterator<Item = Held<'_>> {
        let ends = self.terms.iter().skip(1).map(|(from, _)| *from);
        self.terms
            .iter()
            .zip(ends.chain([i64::MAX]))
            .scan(false, move |paid, ((start_ms, terms), end_ms)| {
                let held = WindowSpan {
                    start_ms: *start_ms,
                    end_ms,
                };
                let held = Held {
                    terms,
                    span: span.intersection(held),
                    renewed: *paid,
                };
                if held.span.start_ms < held.span.end_ms {
                    *paid |= terms.price > Money::ZERO;
                }
                Some(held)
            })
            .filter(|held| held.span.start_ms < held.span.end_ms)
    }

    /// The same plan as if it had always had this price, in US dollars.
    pub(super) fn with_price(&self, price: Money) -> PlanHistory {
        PlanHistory {
            present: Arc::new(priced(&self.present, price)),
            terms: self
                .terms
                .iter()
                .map(|(from, terms)| (*from, Arc::new(priced(terms, price))))
                .collect(),
        }
    }
}

/// Terms with another price, in US dollars.
pub(super) fn priced(terms: &Plan, price: Money) -> Plan {
    Plan {
        price,
        currency: "USD".into(),
        ..terms.clone()
    }
}
