//! Quotas in this process: one short lock round a plain structure.

mod book;
mod counter;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use self::book::Book;
pub(in crate::quota) use self::book::SETTLE_LATE_MS;
use super::chain::Rule;
use super::{Bound, CounterState, Demand, ReserveError, SettleError, Settled, Use};
use crate::ids::RequestId;
use crate::plan::Measure;

/// Counters and open reservations of one gateway.
///
/// Its methods take `now` and never wait for anything but the lock, which is held for about a microsecond. A clock
/// that steps back is fine as long as the step is no longer than the shortest window: a window is kept for as long
/// again as it lasted.
#[derive(Debug, Default)]
pub struct MemoryQuota {
    book: Mutex<Book>,
}

impl MemoryQuota {
    /// The most requests that can be open at once.
    pub const MAX_OPEN: usize = 1 << 20;

    /// Holds `demand` on every bound, or on none. Fills in each bound's `state`, admitted or not.
    ///
    /// A reservation that is neither settled nor released by `expires_at` holds nothing from then on.
    ///
    /// # Errors
    /// [`ReserveError::Denied`] names the limit that has no room.
    pub fn reserve(
        &self,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), ReserveError> {
        self.lock().reserve(
            id,
            bounds,
            demand,
            now.as_millisecond(),
            expires_at.as_millisecond(),
        )
    }

    /// Holds `more` for an open request beside what it holds already, on all of its limits or on none. Requests and
    /// concurrency are not counted again. `bound` of a refusal is the index in the slice that was given to `reserve`.
    ///
    /// # Errors
    /// [`ReserveError::WrongState`] if the request holds no reservation.
    pub fn top_up(&self, id: RequestId, more: &Demand, now: Timestamp) -> Result<(), ReserveError> {
        self.lock().top_up(id, more, now.as_millisecond())
    }

    /// Replaces what a request holds by what it used, in the windows in which it was admitted.
    ///
    /// # Errors
    /// [`SettleError::AlreadyEnded`] if it holds nothing: then nothing is charged.
    pub fn settle(
        &self,
        id: RequestId,
        actual: &Demand,
        now: Timestamp,
    ) -> Result<Settled, SettleError> {
        self.lock().settle(id, actual, now.as_millisecond())
    }

    /// Gives back all that a request holds: it used nothing and does not count.
    ///
    /// # Errors
    /// [`SettleError::AlreadyEnded`] if it holds nothing.
    pub fn release(&self, id: RequestId, now: Timestamp) -> Result<(), SettleError> {
        self.lock().release(id, now.as_millisecond())
    }

    /// Adds use that no reservation stands for, each as of a moment: the rebuild from the ledger. It gives no warnings: they were given when the use was new.
    pub fn seed(&self, uses: &[Use], now: Timestamp) {
        let mut book = self.lock();
        for past in uses {
            book.seed(past, now);
        }
    }

    /// As [`super::Quota::forget`].
    pub fn forget(&self, rules: &[Arc<Rule>], now: Timestamp) {
        self.lock().forget(rules, now);
    }

    /// As [`super::Quota::begin_generation`].
    pub fn begin_generation(&self, generation: u64) -> HashSet<RequestId> {
        self.lock().begin_generation(generation)
    }

    /// What the window of a limit holds.
    pub fn state(&self, rule: &Arc<Rule>, now: Timestamp) -> CounterState {
        self.lock().state(rule, now)
    }

    /// Open reservations, expired ones included while they can still be settled.
    pub fn open(&self) -> usize {
        self.lock().sizes().0
    }

    /// How many counters are kept.
    pub fn counters(&self) -> usize {
        self.lock().sizes().1
    }

    /// The `count` limits of each measure that are nearest to their maximum, fullest first.
    pub fn fullest(&self, count: usize, now: Timestamp) -> Vec<(Arc<Rule>, CounterState)> {
        // A bounded stretch at a time, so that a scrape of a hundred thousand counters holds up no request.
        const STRETCH: usize = 512;
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let book = self.lock();
            let Some(counters) = book.stretch(from, STRETCH) else {
                return found;
            };
            let states = counters.map(|counter| {
                let window = Bound::new(counter.rule(), now).window;
                (counter.rule(), counter.sum(window))
            });
            let before = std::mem::take(&mut found);
            let before = before.iter().map(|(rule, state)| (rule, *state));
            found = fullest(before.chain(states), count);
            from += STRETCH;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.lock() = Book::default();
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing under the lock can panic half-way through a change; a poisoned lock is as good as any.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `count` limits of each measure that are nearest to their maximum, fullest first, without those that hold nothing.
///
/// Of each measure: however many accounts have used up their requests, a budget that is nearly spent is among them.
pub(super) fn fullest<'a>(
    states: impl Iterator<Item = (&'a Arc<Rule>, CounterState)>,
    count: usize,
) -> Vec<(Arc<Rule>, CounterState)> {
    let ratio = |(rule, state): &(&Arc<Rule>, CounterState)| {
        let taken = state.used.saturating_add(state.reserved).max(0);
        taken.saturating_mul(1_000_000) / rule.max.units().max(1)
    };
    let mut found: Vec<_> = states.filter(|counter| ratio(counter) > 0).collect();
    found.sort_by_key(|counter| std::cmp::Reverse(ratio(counter)));
    let mut taken: HashMap<Measure, usize> = HashMap::new();
    found.retain(|(rule, _)| {
        let taken = taken.entry(rule.on).or_default();
        *taken += 1;
        *taken <= count
    });
    found
        .into_iter()
        .map(|(rule, state)| (Arc::clone(rule), state))
        .collect()
}
