//! What was used in order of time, and which slots of it a limit would have cut.

use std::collections::{HashMap, VecDeque};

use super::gauge::Use;
use super::replay::Replay;
use super::share::{Parts, Share, WHOLE};
use super::{CALENDAR, Cap};
use crate::ids::AccountId;
use crate::margin::books::Books;
use crate::margin::days::timestamp_of;
use crate::money::Money;
use crate::period;
use crate::plan::{Measure, Window};

/// What a [`Gauge`](super::Gauge) holds, in order of time.
pub(in crate::margin) struct Slots<'a> {
    pub(super) books: &'a Books,
    pub(super) slot_ms: i64,
    pub(super) uses: Vec<(AccountId, Vec<(i64, Use)>)>,
}

impl Slots<'_> {
    /// Replays limits.
    pub(in crate::margin) fn replay(&self, caps: &[Cap]) -> Replay {
        let mut replay = Replay {
            slot_ms: self.slot_ms,
            ..Replay::default()
        };
        for (account, slots) in &self.uses {
            for cap in caps {
                for (position, share) in self.cut(account, cap, slots) {
                    let Some((slot, _)) = slots.get(position) else {
                        continue;
                    };
                    let shares = match replay.shares.get_mut(account) {
                        Some(shares) => shares,
                        None => replay.shares.entry(account.clone()).or_default(),
                    };
                    let tightest = shares.entry(*slot).or_insert(share);
                    if share.is_less_than(*tightest) {
                        *tightest = share;
                    }
                }
            }
            if let Some(shares) = replay.shares.get(account) {
                replay.begun.insert(account.clone(), begun(slots, shares));
            }
        }
        replay
    }

    /// What a limit would have saved within the report's range: as the what-if has it, but for roundings, and for what
    /// accounts above or below a limited one have to do with it.
    pub(in crate::margin) fn saving(&self, cap: &Cap) -> Money {
        let mut saving = Money::ZERO;
        for (account, slots) in &self.uses {
            for (position, share) in self.cut(account, cap, slots) {
                if let Some((_, used)) = slots.get(position) {
                    saving += used.own_cost_within - share.of_money(used.own_cost_within);
                }
            }
        }
        saving
    }

    /// The most that any account used in all, in a measure: a limit above it stops nobody.
    pub(in crate::margin) fn most(&self, on: Measure) -> i128 {
        let sum = |slots: &[(i64, Use)]| slots.iter().map(|(_, used)| used.measured(on)).sum();
        self.uses
            .iter()
            .map(|(_, slots)| sum(slots))
            .max()
            .unwrap_or(0)
    }

    /// The positions of the slots that one limit would have cut, and to which share.
    fn cut(&self, account: &AccountId, cap: &Cap, slots: &[(i64, Use)]) -> Vec<(usize, Share)> {
        let book = self.books.account(account);
        let max = cap.max.units().max(0);
        let mut window = Running::default();
        let mut cut = Vec::new();
        for (position, (slot, used)) in slots.iter().enumerate() {
            let tenure = book.and_then(|book| {
                let mut tenures = book.tenures.iter().rev();
                let last = slot.saturating_add(self.slot_ms - 1);
                tenures.find(|tenure| tenure.span.start_ms <= last)
            });
            if tenure.is_some_and(|tenure| tenure.plan.id != cap.plan) {
                continue;
            }
            let whole = used.measured(cap.on);
            let room = match cap.per {
                Window::Minute => max.saturating_mul(i128::from(self.slot_ms / 60_000)),
                Window::Rolling(length_ms) => {
                    let length = i64::try_from(length_ms).unwrap_or(i64::MAX).max(1);
                    if length < self.slot_ms {
                        max.saturating_mul(i128::from(self.slot_ms)) / i128::from(length)
                    } else {
                        window.forget_until(slot.saturating_sub(length));
                        max - window.served
                    }
                }
                calendar => {
                    let billing = tenure.map_or(CALENDAR, |tenure| tenure.billing);
                    let span = period::span(calendar, billing, timestamp_of(*slot));
                    window.forget_until(span.start_ms - 1);
                    max - window.served
                }
            };
            let served = whole.min(room).max(0);
            window.serve(*slot, served);
            if served < whole {
                cut.push((position, Share { served, whole }));
            }
        }
        cut
    }
}

/// What of a request was served over whole ones before each slot that was cut.
fn begun(slots: &[(i64, Use)], shares: &HashMap<i64, Share>) -> HashMap<i64, Parts> {
    let mut before = 0;
    let mut begun = HashMap::with_capacity(shares.len());
    for (slot, used) in slots {
        if let Some(share) = shares.get(slot) {
            begun.insert(*slot, before);
            let (_, parts) = share.of_requests(used.requests);
            before = (before + parts) % WHOLE;
        }
    }
    begun
}

/// What a window holds.
#[derive(Default)]
struct Running {
    served: i128,
    slots: VecDeque<(i64, i128)>,
}

impl Running {
    fn serve(&mut self, slot: i64, served: i128) {
        self.served += served;
        self.slots.push_back((slot, served));
    }

    /// Forgets slots that began at or before a moment.
    fn forget_until(&mut self, moment: i64) {
        while let Some((slot, served)) = self.slots.front().copied() {
            if slot > moment {
                break;
            }
            self.served -= served;
            self.slots.pop_front();
        }
    }
}
