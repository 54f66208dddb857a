//! What is kept under the lock: counters, open reservations, and when these expire. Plain code without waiting.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use super::MemoryQuota;
use super::counter::Counter;
use crate::hash::give_room_back;
use crate::ids::RequestId;
use crate::period::WindowSpan;
use crate::plan::Measure;
use crate::quota::chain::Rule;
use crate::quota::{
    Bound, CounterId, CounterState, Crossing, Demand, Denied, ReserveError, SettleError, Settled,
    Use, gone_cell,
};

/// An expired reservation can still be settled for so long: its money is spent, whoever was late to say so.
pub(in crate::quota) const SETTLE_LATE_MS: i64 = 3_600_000;

#[derive(Debug, Default)]
pub(super) struct Book {
    /// Slots are reused; a slot that an open reservation points at is never given up.
    slots: Vec<Option<Counter>>,
    free: Vec<u32>,
    index: HashMap<Arc<CounterId>, u32, BuildHasherDefault<Folded>>,
    open: HashMap<RequestId, Reservation, BuildHasherDefault<Folded>>,
    /// When reservations expire; may name some that are gone.
    expiries: BinaryHeap<Reverse<(i64, RequestId)>>,
    /// The latest moment that any call has named.
    latest_ms: i64,
    sweep_at: usize,
    /// Counters made since the last sweep.
    made: usize,
    /// The generation of limits from which on new ones settle here.
    generation: u64,
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

impl Book {
    /// What the window of a limit holds.
    pub(super) fn state(&mut self, rule: &Arc<Rule>, now: Timestamp) -> CounterState {
        self.advance(now.as_millisecond());
        let window = Bound::new(rule, now).window;
        let counter = self
            .index
            .get(&rule.counter)
            .and_then(|slot| self.slot(*slot));
        counter.map_or_else(CounterState::default, |counter| counter.sum(window))
    }

    /// Some of the counters, in the order of their slots; `None` past the last one.
    pub(super) fn stretch(
        &self,
        from: usize,
        count: usize,
    ) -> Option<impl Iterator<Item = &Counter>> {
        let slots = self.slots.get(from..).filter(|slots| !slots.is_empty())?;
        Some(slots.iter().take(count).flatten())
    }

    /// How many requests are open, and how many counters there are.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.open.len(), self.index.len())
    }

    /// Begins a generation of limits; the requests that are open at that moment.
    pub(super) fn begin_generation(&mut self, generation: u64) -> HashSet<RequestId> {
        self.generation = self.generation.max(generation);
        self.open.keys().copied().collect()
    }

    fn slot(&self, slot: u32) -> Option<&Counter> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Counter> {
        self.slots.get_mut(slot as usize).and_then(Option::as_mut)
    }

    pub(super) fn reserve(
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
                    let need = demand.units(bound.rule.on);
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
            let need = demand.units(bound.rule.on);
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

    pub(super) fn top_up(
        &mut self,
        id: RequestId,
        more: &Demand,
        now_ms: i64,
    ) -> Result<(), ReserveError> {
        self.advance(now_ms);
        let Book { open, slots, .. } = self;
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
                let need = more_units(more, hold.rule.on);
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
                counter.hold_more(hold.cell, more_units(more, hold.rule.on));
            }
        }
        reservation.demand = reservation.demand.plus(more);
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        id: RequestId,
        actual: &Demand,
        now_ms: i64,
    ) -> Result<Settled, SettleError> {
        self.advance(now_ms);
        let reservation = self.take_out(id)?;
        for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
            let on = hold.rule.on;
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
            generation: self.generation,
        })
    }

    fn take_out(&mut self, id: RequestId) -> Result<Reservation, SettleError> {
        let reservation = self.open.remove(&id).ok_or(SettleError::AlreadyEnded)?;
        give_room_back(&mut self.open);
        Ok(reservation)
    }

    pub(super) fn release(&mut self, id: RequestId, now_ms: i64) -> Result<(), SettleError> {
        self.advance(now_ms);
        let reservation = self.take_out(id)?;
        for hold in reservation.holds.iter().filter(|hold| hold.rule.counts) {
            let held = reservation.held(hold.rule.on);
            if let Some(counter) = self.slot_mut(hold.slot) {
                counter.end(hold.cell, held, 0);
            }
        }
        Ok(())
    }

    pub(super) fn seed(&mut self, past: &Use, now: Timestamp) {
        let rule = &past.rule;
        if rule.on == Measure::Concurrent {
            return;
        }
        self.advance(now.as_millisecond());
        let booked = Bound::new(rule, past.at);
        let slot = self.slot_of(rule);
        if let Some(counter) = self.slot_mut(slot) {
            counter.add(booked.cell, past.units);
            let window = Bound::new(rule, now).window;
            let window = if rule.is_rolling() {
                window
            } else {
                booked.window
            };
            counter.mark_peak(window, booked.cell);
        }
    }

    /// Forgets the present windows of limits that are gone. What is open does not count there any more.
    pub(super) fn forget(&mut self, rules: &[Arc<Rule>], now: Timestamp) {
        let mut gone = HashSet::new();
        for rule in rules {
            let Some(slot) = self.index.get(&rule.counter).copied() else {
                continue;
            };
            let cell = gone_cell(rule, now);
            if let Some(counter) = self.slot_mut(slot) {
                counter.forget(cell);
            }
            gone.insert((slot, cell));
        }
        if gone.is_empty() {
            return;
        }
        for reservation in self.open.values_mut() {
            reservation.holds.retain(|hold| {
                !gone.contains(&(hold.slot, Some(hold.cell))) && !gone.contains(&(hold.slot, None))
            });
        }
    }

    /// Marks reached by what was just settled. All rules are asked before any peak is raised, since rules can share a
    /// counter.
    fn crossings(&mut self, holds: &[Hold], now_ms: i64) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for hold in holds.iter().filter(|hold| !hold.rule.marks.is_empty()) {
            let window = hold.window_at(now_ms);
            let Some(counter) = self.slot(hold.slot) else {
                continue;
            };
            let state = counter.sum(window);
            let peak = counter.peak(window);
            for mark in &hold.rule.marks {
                if peak < mark.units && mark.units <= state.used {
                    crossings.push(Crossing {
                        rule: Arc::clone(&hold.rule),
                        window,
                        mark_ppm: mark.ppm,
                        state,
                    });
                }
            }
        }
        for hold in holds.iter().filter(|hold| !hold.rule.marks.is_empty()) {
            let window = hold.window_at(now_ms);
            if let Some(counter) = self.slot_mut(hold.slot) {
                counter.mark_peak(window, hold.cell);
            }
        }
        crossings
    }

    /// The slot of a rule's counter, made if it is new.
    fn slot_of(&mut self, rule: &Arc<Rule>) -> u32 {
        let slot = rule.place.get();
        if self.slot(slot).is_some_and(|counter| counter.is_of(rule)) {
            return slot;
        }
        let slot = self.find_slot(rule);
        rule.place.set(slot);
        slot
    }

    fn find_slot(&mut self, rule: &Arc<Rule>) -> u32 {
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
            && expires_ms <= self.latest_ms
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
        let Book {
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
            let held = reservation.held(hold.rule.on);
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
        if !self.rule.is_rolling() {
            return self.window;
        }
        let elapsed_ms =
            now_ms.saturating_sub(self.window.start_ms.saturating_add(self.rule.rolling_ms()));
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

/// For keys that are hashes already: a [`CounterId`] brings its own, and the half of a [`RequestId`] that is random, of this
/// gateway's own making, is as good.
#[derive(Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.0 = self.0.rotate_left(32) ^ u64::from_be_bytes(*word);
        }
        for byte in rest {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// The length of what follows tells nothing.
    fn write_usize(&mut self, _: usize) {}

    /// A table reads the top bits too, where an id has its version and variant.
    fn finish(&self) -> u64 {
        self.0 ^ self.0.rotate_left(29)
    }
}
