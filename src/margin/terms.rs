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

/// What was recorded of the terms of plans. A price that comes back is kept once, so that a plan whose price changes all the
/// time takes little.
#[derive(Debug, Default)]
pub struct RecordedTerms {
    /// As in [`PlanHistory`].
    by_plan: HashMap<PlanId, Vec<(i64, Arc<Plan>)>>,
    /// The last terms of a plan with a price.
    known: HashMap<(PlanId, Money), Arc<Plan>>,
}

impl RecordedTerms {
    /// Adds what was recorded; in order of time.
    pub fn add(&mut self, event: PlanEvent) {
        let PlanEvent { at, terms } = event;
        let held = self.by_plan.entry(terms.id.clone()).or_default();
        let from = match held.last() {
            Some((_, last)) if **last == terms => return,
            Some(_) => at.as_millisecond(),
            None => i64::MIN,
        };
        let known = self.known.entry((terms.id.clone(), terms.price));
        let known = known
            .and_modify(|known| {
                if **known != terms {
                    *known = Arc::new(terms.clone());
                }
            })
            .or_insert_with(|| Arc::new(terms));
        held.push((from, Arc::clone(known)));
    }
}

impl FromIterator<PlanEvent> for RecordedTerms {
    fn from_iter<T: IntoIterator<Item = PlanEvent>>(events: T) -> RecordedTerms {
        let mut recorded = RecordedTerms::default();
        for event in events {
            recorded.add(event);
        }
        recorded
    }
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
    pub fn of(
        plans: impl IntoIterator<Item = Plan>,
        mut recorded: RecordedTerms,
    ) -> Vec<PlanHistory> {
        let present: HashMap<PlanId, Plan> = plans
            .into_iter()
            .map(|plan| (plan.id.clone(), plan))
            .collect();
        let mut histories: Vec<PlanHistory> = Vec::with_capacity(present.len());
        for (id, plan) in present {
            let mut history = PlanHistory::from(plan);
            if let Some(terms) = recorded.by_plan.remove(&id) {
                history.terms = terms;
            }
            histories.push(history);
        }
        let gone = recorded.by_plan.into_values().filter_map(|terms| {
            let present = Arc::clone(&terms.last()?.1);
            Some(PlanHistory { present, terms })
        });
        histories.extend(gone);
        histories
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
