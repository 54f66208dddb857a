//! Quotas in this process: one short lock round a plain structure.

mod counter;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use self::counter::Counter;
use super::chain::Rule;
use super::{
    Bound, CounterId, CounterState, Crossing, Demand, Denied, ReserveError, SettleError, Settled,
};
use crate::ids::RequestId;
use crate::period::WindowSpan;
use crate::plan::Measure;

/// Counters and open reservations of one gateway.
///
/// Its methods take `now` and never wait for anything but the lock, which is held for about a microsecond. A clock
/// that steps back is fine as long as the step is no longer than the shortest window: a window is kept for as long
/// again as it lasted.
#[derive(Debug, Default)]
pub struct MemoryQuota {
    inner: Mutex<Inner>,
}

/// An expired reservation can still be settled for so long: its money is spent, whoever was late to say so.
pub(super) const SETTLE_LATE_MS: i64 = 3_600_000;

#[derive(Debug, Default)]
struct Inner {
    /// Slots are reused; a slot that an open reservation points at is never given up.
    slots: Vec<Option<Counter>>,
    free: Vec<u32>,
    index: HashMap<Arc<CounterId>, u32, BuildHasherDefault<Precomputed>>,
    open: HashMap<RequestId, Reservation>,
    /// When reservations expire; may name some that are gone.
    expiries: BinaryHeap<Reverse<(i64, RequestId)>>,
    /// The latest moment that any call has named.
    latest_ms: i64,
    sweep_at: usize,
    /// Counters made since the last sweep.
    made: usize,
}

#[derive(Debug)]
struct Reservation {
    demand: Demand,
    holds: Vec<Hold>,
    expires_ms: i64,
    /// Its owner did not settle in time: it holds nothing any more, but a late settlement is still charged.
    expired: bool,
}

/// What a reservation holds of one limit.
#[derive(Debug)]
struct Hold {
    rule: Arc<Rule>,
    slot: u32,
    window: WindowSpan,
    cell: WindowSpan,
    enforced: bool,
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

    /// Adds use that no reservation stands for, as of the moment `at`: the rebuild from the ledger, or a correction.
    /// It gives no warnings: they were given when the use was new.
    pub fn seed(&self, rule: &Arc<Rule>, at: Timestamp, units: i128, now: Timestamp) {
        self.lock().seed(rule, at, units, now);
    }

    /// What the window of a limit holds.
    pub fn state(&self, rule: &Arc<Rule>, now: Timestamp) -> CounterState {
        let bound = Bound::new(rule, now);
        let inner = self.lock();
        let counter = inner
            .index
            .get(&rule.counter)
            .and_then(|slot| inner.slot(*slot));
        counter.map_or_else(CounterState::default, |counter| counter.sum(bound.window))
    }

    /// Open reservations, expired ones included while they can still be settled.
    pub fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// How many counters are kept.
    pub fn counters(&self) -> usize {
        self.lock().index.len()
    }

    /// The `count` limits that are nearest to their maximum, fullest first.
    pub fn fullest(&self, count: usize, now: Timestamp) -> Vec<(Arc<Rule>, CounterState)> {
        // A bounded stretch at a time, so that a scrape of a hundred thousand counters holds up no request.
        const STRETCH: usize = 512;
        let mut found: Vec<(u128, Arc<Rule>, CounterState)> = Vec::new();
        let mut from = 0;
        loop {
            let inner = self.lock();
            let Some(slots) = inner.slots.get(from..) else {
                break;
            };
            if slots.is_empty() {
                break;
            }
            for counter in slots.iter().take(STRETCH).flatten() {
                let bound = Bound::new(counter.rule(), now);
                let state = counter.sum(bound.window);
                let taken = state
                    .used
                    .saturating_add(state.reserved)
                    .max(0)
                    .unsigned_abs();
                let max = bound.rule.max.units().max(1).unsigned_abs();
                if taken > 0 {
                    let ratio = taken.saturating_mul(1_000_000) / max;
                    found.push((ratio, bound.rule, state));
                }
            }
            drop(inner);
            found.sort_by(|(a, ..), (b, ..)| b.cmp(a));
            found.truncate(count);
            from += STRETCH;
        }
        found
            .into_iter()
            .map(|(_, rule, state)| (rule, state))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can panic half-way through a change; a poisoned lock is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn slot(&self, slot: u32) -> Option<&Counter> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Counter> {
        self.slots.get_mut(slot as usize).and_then(Option::as_mut)
    }

    fn reserve(
        &mut self,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        now_ms: i64,
        expires_ms: i64,
    ) -> Result<(), ReserveError> {
        self.advance(now_ms);
        // Looking at two old counters for each new one bounds their number. It happens here, before this request has
        // slots of its own: their counters may still be empty.
        for _ in 0..=2 * std::mem::take(&mut self.made) {
            self.sweep();
        }
        if self.open.contains_key(&id) {
            return Err(ReserveError::WrongState);
        }
        if self.open.len() >= MemoryQuota::MAX_OPEN {
            return Err(ReserveError::TooMany);
        }
        let mut holds = Vec::with_capacity(bounds.len());
        let mut denied = None;
        for (at, bound) in bounds.iter_mut().enumerate() {
            let slot = self.slot_of(&bound.rule);
            if let Some(counter) = self.slot_mut(slot) {
                counter.retire(now_ms);
                bound.state = counter.sum(bound.window);
                if bound.enforced {
                    let need = demand.units(bound.rule.counter.on());
                    let refusal = counter.refusal(at, bound.window, &bound.rule, bound.state, need);
                    denied = longest(denied, refusal);
                }
            }
            holds.push(Hold {
                rule: Arc::clone(&bound.rule),
                slot,
                window: bound.window,
                cell: bound.cell,
                enforced: bound.enforced,
            });
        }
        if let Some(denied) = denied {
            return Err(ReserveError::Denied(denied));
        }
        for (bound, hold) in bounds.iter_mut().zip(&holds) {
            let need = demand.units(bound.rule.counter.on());
            bound.state.reserved = bound.state.reserved.saturating_add(need);
            if hold.rule.counts
                && let Some(counter) = self.slot_mut(hold.slot)
            {
                counter.hold(hold.cell, need);
            }
        }
        self.expiries.push(Reverse((expires_ms, id)));
        self.open.insert(
            id,
            Reservation {
                demand: *demand,
                holds,
                expires_ms,
                expired: false,
            },
        );
        Ok(())
    }

    fn top_up(&mut self, id: RequestId, more: &Demand, now_ms: i64) -> Result<(), ReserveError> {
        self.advance(now_ms);
        let Inner { open, slots, .. } = self;
        let reservation = open.get_mut(&id).filter(|reservation| !reservation.expired);
        let reservation = reservation.ok_or(ReserveError::WrongState)?;
        let mut denied = None;
        for (at, hold) in reservation
            .holds
            .iter()
            .enumerate()
            .filter(|(_, hold)| hold.enforced)
        {
            if let Some(counter) = slots.get(hold.slot as usize).and_then(Option::as_ref) {
                let need = more_units(more, hold.rule.counter.on());
                let window = hold.window_at(now_ms);
                let state = counter.sum(window);
                let refusal = counter.refusal(at, window, &hold.rule, state, need);
                denied = longest(denied, refusal);
            }
        }
        if let Some(denied) = denied {
            return Err(ReserveError::Denied(denied));
        }
        for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
            if let Some(counter) = slots.get_mut(hold.slot as usize).and_then(Option::as_mut) {
                counter.hold_more(hold.cell, more_units(more, hold.rule.counter.on()));
            }
        }
        reservation.demand = reservation.demand.plus(more);
        Ok(())
    }

    fn settle(
        &mut self,
        id: RequestId,
        actual: &Demand,
        now_ms: i64,
    ) -> Result<Settled, SettleError> {
        self.advance(now_ms);
        let reservation = self.open.remove(&id).ok_or(SettleError::AlreadyEnded)?;
        for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
            let on = hold.rule.counter.on();
            let held = reservation.held(on);
            if let Some(counter) = self.slot_mut(hold.slot) {
                let used = if on == Measure::Concurrent {
                    0
                } else {
                    actual.units(on)
                };
                counter.end(hold.cell, held, used);
            }
        }
        Ok(Settled {
            overrun: actual.above(&reservation.demand),
            crossings: self.crossings(&reservation.holds, now_ms),
        })
    }

    fn release(&mut self, id: RequestId, now_ms: i64) -> Result<(), SettleError> {
        self.advance(now_ms);
        let reservation = self.open.remove(&id).ok_or(SettleError::AlreadyEnded)?;
        for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
            let held = reservation.held(hold.rule.counter.on());
            if let Some(counter) = self.slot_mut(hold.slot) {
                counter.end(hold.cell, held, 0);
            }
        }
        Ok(())
    }

    fn seed(&mut self, rule: &Arc<Rule>, at: Timestamp, units: i128, now: Timestamp) {
        if rule.counter.on() == Measure::Concurrent {
            return;
        }
        self.advance(now.as_millisecond());
        let booked = Bound::new(rule, at);
        let slot = self.slot_of(rule);
        if let Some(counter) = self.slot_mut(slot) {
            counter.add(booked.cell, units);
            let window = Bound::new(rule, now).window;
            let window = if rule.counter.is_rolling() {
                window
            } else {
                booked.window
            };
            counter.mark_peak(window, booked.cell);
        }
    }

    /// Marks reached by what was just settled. All rules are asked before any peak is raised, since rules can share a
    /// counter.
    fn crossings(&mut self, holds: &[Hold], now_ms: i64) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for hold in holds
            .iter()
            .filter(|hold| !hold.rule.warn_at_ppm.is_empty())
        {
            let window = hold.window_at(now_ms);
            let Some(counter) = self.slot(hold.slot) else {
                continue;
            };
            let state = counter.sum(window);
            let peak = counter.peak(window);
            for mark_ppm in hold.rule.warn_at_ppm.iter().copied() {
                let mark = hold.rule.mark_units(mark_ppm);
                if peak < mark && mark <= state.used {
                    crossings.push(Crossing {
                        rule: Arc::clone(&hold.rule),
                        window,
                        mark_ppm,
                        state,
                    });
                }
            }
        }
        for hold in holds
            .iter()
            .filter(|hold| !hold.rule.warn_at_ppm.is_empty())
        {
            let window = hold.window_at(now_ms);
            if let Some(counter) = self.slot_mut(hold.slot) {
                counter.mark_peak(window, hold.cell);
            }
        }
        crossings
    }

    /// The slot of a rule's counter, made if it is new.
    fn slot_of(&mut self, rule: &Arc<Rule>) -> u32 {
        if let Some(slot) = self.index.get(&rule.counter).copied() {
            if let Some(counter) = self.slot_mut(slot) {
                counter.set_rule(rule);
            }
            return slot;
        }
        self.made += 1;
        let counter = Some(Counter::new(rule));
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot as usize) {
                    *place = counter;
                }
                slot
            }
            None => {
                self.slots.push(counter);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert(Arc::clone(&rule.counter), slot);
        slot
    }

    /// Looks at one counter and gives it up if its windows are over and nothing is held there.
    fn sweep(&mut self) {
        let latest_ms = self.latest_ms;
        self.sweep_at = if self.sweep_at + 1 >= self.slots.len() {
            0
        } else {
            self.sweep_at + 1
        };
        let Some(place) = self.slots.get_mut(self.sweep_at) else {
            return;
        };
        let Some(counter) = place else {
            return;
        };
        counter.retire(latest_ms);
        if counter.is_empty() {
            let counter = Arc::clone(&counter.rule().counter);
            *place = None;
            self.index.remove(&counter);
            self.free
                .push(u32::try_from(self.sweep_at).unwrap_or(u32::MAX));
        }
    }

    /// Takes note of the time and frees what expired reservations hold.
    fn advance(&mut self, now_ms: i64) {
        self.latest_ms = self.latest_ms.max(now_ms);
        while let Some(Reverse((expires_ms, id))) = self.expiries.peek().copied()
            && expires_ms <= now_ms
        {
            self.expiries.pop();
            self.expire(id, expires_ms);
        }
        // Ended reservations leave their expiry behind; rebuilding when most are such costs each of them once.
        if self.expiries.len() > 2 * self.open.len() + 1_024 {
            let open = &self.open;
            self.expiries.retain(|Reverse((expires_ms, id))| {
                open.get(id)
                    .is_some_and(|reservation| reservation.expires_ms == *expires_ms)
            });
        }
    }

    fn expire(&mut self, id: RequestId, expires_ms: i64) {
        let Inner {
            open,
            slots,
            expiries,
            ..
        } = self;
        let Some(reservation) = open.get_mut(&id) else {
            return;
        };
        if reservation.expires_ms != expires_ms {
            return;
        }
        if reservation.expired {
            for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
                if let Some(counter) = slots.get_mut(hold.slot as usize).and_then(Option::as_mut) {
                    counter.end(hold.cell, 0, 0);
                }
            }
            open.remove(&id);
            return;
        }
        for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
            let held = reservation.held(hold.rule.counter.on());
            if let Some(counter) = slots.get_mut(hold.slot as usize).and_then(Option::as_mut) {
                counter.hold_more(hold.cell, held.saturating_neg());
            }
        }
        reservation.expired = true;
        reservation.expires_ms = expires_ms.saturating_add(SETTLE_LATE_MS);
        expiries.push(Reverse((reservation.expires_ms, id)));
    }
}

impl Reservation {
    fn held(&self, on: Measure) -> i128 {
        if self.expired {
            0
        } else {
            self.demand.units(on)
        }
    }
}

impl Hold {
    /// The window that a settlement is looked at in: the one of its admission, or of a rolling window the present one.
    fn window_at(&self, now_ms: i64) -> WindowSpan {
        if !self.rule.counter.is_rolling() {
            return self.window;
        }
        let elapsed_ms = now_ms.saturating_sub(
            self.window
                .start_ms
                .saturating_add(self.rule.counter.rolling_ms()),
        );
        WindowSpan {
            start_ms: self.window.start_ms.saturating_add(elapsed_ms),
            end_ms: self.window.end_ms.saturating_add(elapsed_ms),
        }
    }
}

/// Topping up is no further request.
fn more_units(more: &Demand, on: Measure) -> i128 {
    match on {
        Measure::Requests | Measure::Concurrent => 0,
        _ => more.units(on),
    }
}

/// Of two refusals the one that stays longer: a client that waited for the other would be refused again. No moment at
/// all is longest.
fn longest(a: Option<Denied>, b: Option<Denied>) -> Option<Denied> {
    let rank = |denied: &Denied| (denied.retry_at.is_none(), denied.retry_at, denied.settled);
    match (a, b) {
        (Some(a), Some(b)) => Some(if rank(&b) > rank(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Passes on the hash that a [`CounterId`] was made with.
#[derive(Debug, Default)]
struct Precomputed(u64);

impl Hasher for Precomputed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive::{
        ACCOUNTS, Naive, START_MS, STEP_BACK_MS, Step, any_chains, any_steps, percent_of, single,
    };
    use super::*;
    use crate::money::Money;
    use crate::plan::{Action, Amount, Limit, Window};
    use crate::quota::chain::Chain;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    /// An account `a` whose plan has these limits, each `on max per`.
    fn chain(limits: &[(Measure, u64, Option<Window>)]) -> Chain {
        let limits = limits.iter().map(|(on, max, per)| Limit {
            on: *on,
            max: match on {
                Measure::Cost => Amount::Money(Money::from_usd(*max as i64)),
                _ => Amount::Count(*max),
            },
            per: *per,
            models: Vec::new(),
            then: Action::Block,
            warn_at_ppm: vec![500_000, 800_000],
            queue_ms: 0,
        });
        single(limits.collect())
    }

    fn tokens(output_tokens: u64) -> Demand {
        Demand {
            output_tokens,
            ..Demand::default()
        }
    }

    struct Desk {
        quota: MemoryQuota,
        chain: Chain,
        now_ms: i64,
    }

    impl Desk {
        fn new(limits: &[(Measure, u64, Option<Window>)]) -> Desk {
            Desk {
                quota: MemoryQuota::default(),
                chain: chain(limits),
                now_ms: START_MS,
            }
        }

        fn reserve(&self, demand: Demand) -> Result<RequestId, ReserveError> {
            let id = RequestId::new();
            let mut bounds = self.chain.bounds("gpt-4o", at(self.now_ms));
            let expires_at = at(self.now_ms + 600_000);
            self.quota
                .reserve(id, &mut bounds, &demand, at(self.now_ms), expires_at)
                .map(|()| id)
        }

        fn settle(&self, id: RequestId, demand: Demand) -> Result<Settled, SettleError> {
            self.quota.settle(id, &demand, at(self.now_ms))
        }

        fn states(&self) -> Vec<(i128, i128)> {
            let rules = self.chain.rules("gpt-4o");
            rules
                .map(|rule| self.quota.state(rule, at(self.now_ms)))
                .map(|state| (state.used, state.reserved))
                .collect()
        }

        fn denied(&self, demand: Demand) -> (usize, bool, Option<i64>) {
            match self.reserve(demand) {
                Err(ReserveError::Denied(denied)) => {
                    let retry_ms = denied.retry_at.map(Timestamp::as_millisecond);
                    (
                        denied.bound,
                        denied.settled,
                        retry_ms.map(|ms| ms - self.now_ms),
                    )
                }
                answer => panic!("{answer:?}"),
            }
        }
    }

    #[test]
    fn a_request_holds_all_of_its_limits_or_none() {
        let desk = Desk::new(&[
            (Measure::OutputTokens, 100, Some(Window::Day)),
            (Measure::Requests, 1, Some(Window::Day)),
        ]);
        let first = desk.reserve(tokens(10)).unwrap();
        assert_eq!(desk.denied(tokens(10)).0, 1);
        assert_eq!(desk.states(), [(0, 10), (0, 1)]);
        desk.settle(first, tokens(7)).unwrap();
        assert_eq!(desk.states(), [(7, 0), (1, 0)]);
    }

    #[test]
    fn a_second_settlement_is_an_error_and_charges_nothing() {
        let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
        let id = desk.reserve(tokens(10)).unwrap();
        desk.settle(id, tokens(10)).unwrap();
        assert_eq!(desk.settle(id, tokens(10)), Err(SettleError::AlreadyEnded));
        assert_eq!(
            desk.quota.release(id, at(desk.now_ms)),
            Err(SettleError::AlreadyEnded)
        );
        assert_eq!(desk.states(), [(10, 0)]);
    }

    #[test]
    fn an_overrun_is_charged_and_reported() {
        let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
        let id = desk.reserve(tokens(10)).unwrap();
        assert_eq!(desk.settle(id, tokens(130)).unwrap().overrun, tokens(120));
        assert_eq!(desk.states(), [(130, 0)]);
    }

    #[test]
    fn a_refusal_says_whether_open_requests_hold_the_rest_and_when_the_window_ends() {
        let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Minute))]);
        let id = desk.reserve(tokens(90)).unwrap();
        // 23:59:40 on the last day of February: the minute ends in 20 seconds.
        assert_eq!(desk.denied(tokens(20)), (0, false, Some(20_000)));
        desk.settle(id, tokens(90)).unwrap();
        assert_eq!(desk.denied(tokens(20)), (0, true, Some(20_000)));
        assert_eq!(desk.denied(tokens(101)), (0, true, None));
    }

    #[test]
    fn of_several_limits_the_one_that_stays_shut_longest_answers() {
        let mut desk = Desk::new(&[
            (Measure::Requests, 1, Some(Window::Minute)),
            (Measure::Requests, 1, Some(Window::Day)),
            (Measure::OutputTokens, 10, Some(Window::Hour)),
        ]);
        desk.now_ms -= 12 * 3_600_000;
        let id = desk.reserve(tokens(1)).unwrap();
        desk.settle(id, tokens(1)).unwrap();
        assert_eq!(desk.denied(tokens(1)).0, 1);
        assert_eq!(desk.denied(tokens(11)).0, 2);
    }

    #[test]
    fn a_rolling_window_frees_use_a_sixtieth_at_a_time() {
        let mut desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Rolling(60_000)))]);
        for _ in 0..10 {
            let id = desk.reserve(tokens(10)).unwrap();
            desk.settle(id, tokens(10)).unwrap();
            desk.now_ms += 1_000;
        }
        // The first three must leave; the third was booked two seconds after the first, in a part of one second.
        assert_eq!(
            desk.denied(tokens(30)),
            (0, true, Some(60_000 - 10_000 + 3_000))
        );
        desk.now_ms += 52_999;
        assert!(desk.reserve(tokens(30)).is_err());
        desk.now_ms += 1;
        assert!(desk.reserve(tokens(30)).is_ok());
    }

    #[test]
    fn a_request_counts_in_the_window_in_which_it_was_admitted() {
        let mut desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Minute))]);
        let id = desk.reserve(tokens(100)).unwrap();
        desk.now_ms += 60_000;
        assert_eq!(desk.states(), [(0, 0)]);
        desk.settle(id, tokens(100)).unwrap();
        assert_eq!(desk.states(), [(0, 0)]);
        assert!(desk.reserve(tokens(100)).is_ok());
    }

    #[test]
    fn an_expired_reservation_holds_nothing_but_its_late_settlement_is_charged() {
        let mut desk = Desk::new(&[
            (Measure::OutputTokens, 100, Some(Window::Month)),
            (Measure::Concurrent, 1, None),
        ]);
        desk.now_ms -= 1_000_000;
        let id = desk.reserve(tokens(100)).unwrap();
        desk.now_ms += 600_000;
        let other = desk.reserve(tokens(50)).unwrap();
        assert_eq!(desk.states(), [(0, 50), (0, 1)]);
        desk.settle(id, tokens(90)).unwrap();
        desk.settle(other, tokens(50)).unwrap();
        assert_eq!(desk.states(), [(140, 0), (0, 0)]);
    }

    #[test]
    fn each_warning_mark_is_given_once_a_window() {
        let mut desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
        let mut marks = Vec::new();
        for _ in 0..10 {
            let id = desk.reserve(tokens(10)).unwrap();
            let settled = desk.settle(id, tokens(10)).unwrap();
            marks.extend(settled.crossings.iter().map(|c| (c.mark_ppm, c.state.used)));
        }
        assert_eq!(marks, [(500_000, 50), (800_000, 80)]);
        desk.now_ms += 86_400_000;
        let id = desk.reserve(tokens(90)).unwrap();
        assert_eq!(desk.settle(id, tokens(90)).unwrap().crossings.len(), 2);
    }

    #[test]
    fn use_from_the_ledger_counts_and_warns_of_nothing_old() {
        let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
        let rule = Arc::clone(desk.chain.rules("gpt-4o").next().unwrap());
        desk.quota
            .seed(&rule, at(desk.now_ms - 3_600_000), 60, at(desk.now_ms));
        assert_eq!(desk.denied(tokens(41)), (0, true, Some(20_000)));
        let id = desk.reserve(tokens(20)).unwrap();
        let crossings = desk.settle(id, tokens(20)).unwrap().crossings;
        let marks: Vec<u32> = crossings.iter().map(|crossing| crossing.mark_ppm).collect();
        assert_eq!(marks, [800_000]);
    }

    #[test]
    fn counters_whose_windows_are_over_are_given_up() {
        let quota = MemoryQuota::default();
        for hour in 0..50 {
            for account in 0..20 {
                let now = at(START_MS + hour * 3_600_000);
                let limit = Limit {
                    on: Measure::Requests,
                    max: Amount::Count(9),
                    per: Some(Window::Minute),
                    models: vec![crate::plan::ModelPattern::new(&format!(
                        "m{hour}-{account}*"
                    ))],
                    then: Action::Block,
                    warn_at_ppm: Vec::new(),
                    queue_ms: 0,
                };
                let id = RequestId::new();
                let mut bounds = single(vec![limit]).bounds(&format!("m{hour}-{account}"), now);
                quota
                    .reserve(id, &mut bounds, &tokens(1), now, Timestamp::MAX)
                    .unwrap();
                quota.settle(id, &tokens(1), now).unwrap();
            }
        }
        assert!(quota.counters() < 60, "{}", quota.counters());
        assert_eq!(quota.open(), 0);
    }

    proptest! {
        #[test]
        fn answers_are_those_of_a_list_of_everything_that_happened(
            chains in any_chains(),
            steps in any_steps(80),
            overrun in 0_u8..2,
        ) {
            let (quota, mut naive) = (MemoryQuota::default(), Naive::default());
            let (mut now_ms, mut latest_ms) = (START_MS, START_MS);
            let mut requests: Vec<(RequestId, Demand, i64)> = Vec::new();
            for step in steps {
                let now = at(now_ms);
                match step {
                    Step::Tick(ms) => {
                        now_ms = (now_ms + ms).max(latest_ms - STEP_BACK_MS);
                        latest_ms = latest_ms.max(now_ms);
                    }
                    Step::Reserve(account, model, demand, open_ms) => {
                        let id = RequestId::new();
                        let name = ACCOUNTS[account];
                        let chain = chains.chain(&name.into(), &name.into()).unwrap();
                        let mut bounds = chain.bounds(model, now);
                        let mut expected = bounds.clone();
                        let expires_at = at(now_ms + open_ms);
                        let answer = quota.reserve(id, &mut bounds, &demand, now, expires_at);
                        prop_assert_eq!(answer, naive.reserve(id, &mut expected, &demand, now, expires_at));
                        prop_assert_eq!(bounds, expected);
                        requests.push((id, demand, now_ms + open_ms));
                    }
                    Step::TopUp(at, more) if !requests.is_empty() => {
                        let at = at % requests.len();
                        let (id, demand, _) = &mut requests[at];
                        let answer = quota.top_up(*id, &more, now);
                        prop_assert_eq!(answer, naive.top_up(*id, &more, now));
                        if answer.is_ok() {
                            *demand = demand.plus(&more);
                        }
                    }
                    Step::Settle(at, percent) if !requests.is_empty() => {
                        let (id, demand, expires_ms) = requests[at % requests.len()];
                        if overrun == 0 && expires_ms <= latest_ms {
                            continue; // A late settlement may pass a limit: what it held was given to others.
                        }
                        let actual = percent_of(&demand, percent + 20 * overrun);
                        let answer = quota.settle(id, &actual, now).map(|mut settled| {
                            settled.crossings.iter_mut().for_each(|c| c.window = WindowSpan::ALWAYS);
                            settled
                        });
                        prop_assert_eq!(answer, naive.settle(id, &actual, now));
                    }
                    Step::Release(at) if !requests.is_empty() => {
                        let (id, ..) = requests[at % requests.len()];
                        prop_assert_eq!(quota.release(id, now), naive.release(id, now));
                    }
                    _ => {}
                }
                for rule in chains.rules() {
                    let state = quota.state(rule, at(now_ms));
                    prop_assert_eq!(state, naive.state(rule, at(now_ms)), "{}", rule.counter);
                    // At the latest moment: a clock that steps back brings back what had left a rolling window.
                    let state = quota.state(rule, at(latest_ms));
                    if overrun == 0 && rule.then != Action::Warn {
                        let held = state.used + state.reserved;
                        prop_assert!(held <= rule.max.units(), "{}: {} held", rule.counter, held);
                    }
                }
            }
        }
    }
}
