//! What one gateway knows of the shared counters: its open requests, and what Redis last said.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::RedisQuota;
use super::delivery::Owed;
use crate::ids::{AccountId, RequestId};
use crate::period::WindowSpan;
use crate::quota::chain::Rule;
use crate::quota::{Bound, CounterId, CounterState, Demand, gone_cell};

/// What this gateway knows.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) open: HashMap<RequestId, Open>,
    /// The epoch of each tree that this gateway has met.
    pub(super) epochs: HashMap<AccountId, Arc<str>>,
    /// Settlements that Redis has not taken yet.
    pub(super) owed: VecDeque<Owed>,
    /// Settlements under way of requests that Redis may not have met yet.
    pub(super) telling: usize,
    /// Settlements that Redis cannot take one by one, by the tree that is to be built anew for them.
    pub(super) uncounted: HashMap<AccountId, usize>,
    /// What Redis last said of each counter.
    pub(super) last: HashMap<Arc<CounterId>, Last>,
    /// The generation of limits from which on new ones settle here.
    pub(super) generation: u64,
}

/// An open request of this gateway.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) root: AccountId,
    /// The epoch in which Redis holds it; `None` if it was admitted while Redis was away.
    pub(super) epoch: Option<Arc<str>>,
    pub(super) bounds: Vec<Bound>,
    pub(super) demand: Demand,
    pub(super) expires_ms: i64,
    /// Whether it is held in [`RedisQuota::share`] too.
    pub(super) shared_locally: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Last {
    pub(super) rule: Arc<Rule>,
    pub(super) window_end_ms: i64,
    pub(super) state: CounterState,
}

impl Open {
    pub(super) fn unlimited(expires_ms: i64) -> Open {
        Open {
            root: AccountId::from(""),
            epoch: None,
            bounds: Vec::new(),
            demand: Demand::default(),
            expires_ms,
            shared_locally: false,
        }
    }
}

impl Node {
    pub(super) fn note(&mut self, bounds: &[Bound]) {
        if self.last.len() > RedisQuota::LAST_MAX {
            self.last.clear();
        }
        for bound in bounds {
            let last = Last {
                rule: Arc::clone(&bound.rule),
                window_end_ms: bound.window.end_ms,
                state: bound.state,
            };
            self.last.insert(Arc::clone(&bound.rule.counter), last);
        }
    }

    /// Limits that are gone: open requests do not count there any more.
    pub(super) fn forget(&mut self, rules: &[Arc<Rule>], now: Timestamp) {
        // An account that moves takes its limits into another tree: there they are not gone.
        let gone: HashSet<(&AccountId, &CounterId, Option<WindowSpan>)> = rules
            .iter()
            .map(|rule| (&rule.root, &*rule.counter, gone_cell(rule, now)))
            .collect();
        for open in self.open.values_mut() {
            let root = &open.root;
            open.bounds.retain(|bound| {
                let counter = &*bound.rule.counter;
                !gone.contains(&(root, counter, Some(bound.cell)))
                    && !gone.contains(&(root, counter, None))
            });
        }
        for rule in rules {
            self.last.remove(&rule.counter);
        }
    }

    pub(super) fn last_of(&self, bound: &Bound, now: Timestamp) -> CounterState {
        let last = self.last.get(&bound.rule.counter);
        let present = last.filter(|last| last.window_end_ms > now.as_millisecond());
        present.map_or_else(CounterState::default, |last| last.state)
    }
}

/// Bounds of an open request as of now: a rolling window has moved on, the cell that it is booked in has not.
pub(super) fn present(bounds: &[Bound], now: Timestamp) -> Vec<Bound> {
    let mut bounds = bounds.to_vec();
    for bound in bounds.iter_mut().filter(|bound| bound.rule.is_rolling()) {
        let cell = bound.cell;
        bound.refresh(now);
        bound.cell = cell;
    }
    bounds
}
