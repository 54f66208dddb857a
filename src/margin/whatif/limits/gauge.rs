//! What the accounts of limited plans used, slot by slot, as the ledger's rows are read.

use std::collections::HashMap;

use super::slots::Slots;
use super::{CALENDAR, Cap};
use crate::ids::AccountId;
use crate::ledger::store::{Grain, RollupRow};
use crate::margin::books::Books;
use crate::margin::days::{DAY_MS, HOUR_MS, timestamp_of};
use crate::margin::tally::Part;
use crate::margin::whatif::traffic::rejected;
use crate::money::Money;
use crate::period;
use crate::plan::{Measure, Window};

/// What the accounts of capped plans used, slot by slot.
#[derive(Clone)]
pub(in crate::margin) struct Gauge<'a> {
    books: &'a Books,
    caps: &'a [Cap],
    slot_ms: i64,
    uses: HashMap<AccountId, HashMap<i64, Use>>,
}

/// What was used in one slot, in all measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) cost: Money,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) requests: u64,
    /// What the account's own requests on the capped plan cost within the report's range: what a limit can save there.
    pub(super) own_cost_within: Money,
}

impl<'a> Gauge<'a> {
    /// Nothing yet.
    pub(in crate::margin) fn new(books: &'a Books, caps: &'a [Cap]) -> Gauge<'a> {
        let hours = caps.iter().any(|cap| cap.grain() == Grain::Hour);
        Gauge {
            books,
            caps,
            slot_ms: if hours { HOUR_MS } else { DAY_MS },
            uses: HashMap::new(),
        }
    }

    /// The moment from which traffic must be read so that the windows that are open when a range begins are full.
    pub(in crate::margin) fn history_start(&self, since_ms: i64) -> i64 {
        let mut start = since_ms;
        for cap in self.caps {
            match cap.per {
                Window::Rolling(length_ms) => {
                    let length = i64::try_from(length_ms).unwrap_or(i64::MAX);
                    start = start.min(since_ms.saturating_sub(length));
                }
                Window::Period => {
                    let tenures = self.books.accounts().iter().flat_map(|book| &book.tenures);
                    let running = tenures.filter(|tenure| {
                        tenure.plan.id == cap.plan && tenure.span.contains(since_ms)
                    });
                    let starts = running.map(|tenure| tenure.period(since_ms).start_ms);
                    start = starts.fold(start, i64::min);
                }
                window => {
                    let span = period::span(window, CALENDAR, timestamp_of(since_ms));
                    start = start.min(span.start_ms);
                }
            }
        }
        start
    }

    /// Adds a row to the slots of its account and of the ancestors whose plan is capped.
    pub(in crate::margin) fn add(&mut self, row: &RollupRow, part: Part) {
        let slot = self.slot(row);
        let leaf = row.lineage.len().saturating_sub(1);
        for (depth, account) in row.lineage.iter().enumerate() {
            let plan = if depth == leaf {
                Some(row.plan.as_str())
            } else {
                self.books
                    .account(account)
                    .and_then(|book| book.plan_at(row.start.as_millisecond()))
            };
            let capped = |cap: &Cap| Some(cap.plan.as_str()) == plan;
            if !self.caps.iter().any(capped) {
                continue;
            }
            let slots = match self.uses.get_mut(account) {
                Some(slots) => slots,
                None => self.uses.entry(account.clone()).or_default(),
            };
            let used = slots.entry(slot).or_default();
            used.cost += row.sums.cost.total();
            used.input_tokens = used
                .input_tokens
                .saturating_add(row.sums.usage.input_tokens);
            used.output_tokens = used
                .output_tokens
                .saturating_add(row.sums.usage.output_tokens);
            used.requests += row.sums.requests.saturating_sub(rejected(row));
            if depth == leaf && part == Part::Within {
                used.own_cost_within += row.sums.cost.total();
            }
        }
    }

    /// Adds what another gauge of the same limits holds.
    pub(in crate::margin) fn absorb(&mut self, other: Gauge<'_>) {
        for (account, slots) in other.uses {
            let sums = self.uses.entry(account).or_default();
            for (slot, used) in slots {
                let sum = sums.entry(slot).or_default();
                sum.cost += used.cost;
                sum.input_tokens = sum.input_tokens.saturating_add(used.input_tokens);
                sum.output_tokens = sum.output_tokens.saturating_add(used.output_tokens);
                sum.requests += used.requests;
                sum.own_cost_within += used.own_cost_within;
            }
        }
    }

    /// The slots of each account in order of time, ready to be replayed.
    pub(in crate::margin) fn in_order(self) -> Slots<'a> {
        let uses = self.uses.into_iter().map(|(account, slots)| {
            let mut slots: Vec<(i64, Use)> = slots.into_iter().collect();
            slots.sort_unstable_by_key(|(slot, _)| *slot);
            (account, slots)
        });
        Slots {
            books: self.books,
            slot_ms: self.slot_ms,
            uses: uses.collect(),
        }
    }

    fn slot(&self, row: &RollupRow) -> i64 {
        let start = row.start.as_millisecond();
        start - start.rem_euclid(self.slot_ms)
    }
}

impl Use {
    /// What a limit on that measure counts of it.
    pub(super) fn measured(&self, on: Measure) -> i128 {
        match on {
            Measure::Cost => self.cost.picos(),
            Measure::InputTokens => i128::from(self.input_tokens),
            Measure::OutputTokens => i128::from(self.output_tokens),
            Measure::Tokens => i128::from(self.input_tokens) + i128::from(self.output_tokens),
            Measure::Requests | Measure::Concurrent => i128::from(self.requests),
        }
    }
}
