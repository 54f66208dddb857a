//! Recorded traffic as if a plan had had another limit: replayed in order of time, cut where the limit would have held.
//!
//! Traffic is replayed in slots: by the day for windows of days and longer, by the hour for shorter ones; within a slot
//! all requests count as equal. In each window a limit serves what fits, and of the slot that passes it only the share
//! that fits. Windows shorter than a slot take the slot's use as spread evenly over it. A request counts against its
//! account and the account's ancestors, as at the gateway; where several limits cut a slot, the tightest does. What the
//! limits of the time itself refused is not in the record and does not come back.

use std::borrow::Cow;
use std::collections::HashMap;

use super::WhatIfError;
use super::traffic::rejected;
use crate::ids::{AccountId, PlanId};
use crate::ledger::entry::Outcome;
use crate::ledger::store::{Grain, RollupRow};
use crate::margin::books::Books;
use crate::margin::days::{DAY_MS, HOUR_MS, timestamp_of};
use crate::margin::tally::Part;
use crate::money::Money;
use crate::period::{self, Billing};
use crate::plan::{Amount, Measure, Period, Window};
use crate::price::CostByClass;
use crate::tokens::Usage;

/// `--limit PLAN:on=max/per`: a limit that every account of a plan would have had.
#[derive(Clone, Debug, PartialEq)]
pub struct Cap {
    /// The plan.
    pub plan: PlanId,
    /// What is measured; not [`Measure::Concurrent`].
    pub on: Measure,
    /// The most that a window may hold.
    pub max: Amount,
    /// The window.
    pub per: Window,
}

/// What was used in one slot, in all measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::margin) struct Use {
    pub(in crate::margin) cost: Money,
    pub(in crate::margin) input_tokens: u64,
    pub(in crate::margin) output_tokens: u64,
    pub(in crate::margin) requests: u64,
    /// What the account's own requests on the capped plan cost within the report's range: what a limit can save there.
    pub(in crate::margin) own_cost_within: Money,
}

/// What the accounts of capped plans used, slot by slot.
#[derive(Clone)]
pub(in crate::margin) struct Gauge<'a> {
    books: &'a Books,
    caps: &'a [Cap],
    slot_ms: i64,
    uses: HashMap<AccountId, HashMap<i64, Use>>,
}

/// What a [`Gauge`] holds, in order of time.
pub(in crate::margin) struct Slots<'a> {
    books: &'a Books,
    slot_ms: i64,
    uses: Vec<(AccountId, Vec<(i64, Use)>)>,
}

/// Of each account and slot, the share that its limits let through.
#[derive(Default)]
pub(in crate::margin) struct Replay {
    shares: HashMap<AccountId, HashMap<i64, Share>>,
    /// What of a request was served over whole ones before each slot that was cut.
    begun: HashMap<AccountId, HashMap<i64, Parts>>,
    slot_ms: i64,
}

/// Parts of a request, of [`WHOLE`].
type Parts = u64;

/// A request in parts.
const WHOLE: Parts = 1 << 40;

/// What shares that are no whole number have lost in rounding down.
const ROUNDED: Parts = 1 << 16;

/// What of a request has been served over whole ones, by the account whose limit cuts: the rows of a slot may hold few
/// requests each, down to one, and what each of them is cut to must add up to whole requests all the same.
#[derive(Clone, Default)]
pub(in crate::margin) struct Carry(HashMap<AccountId, (i64, Parts)>);

/// `served / whole` of a slot, less than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::margin) struct Share {
    pub(in crate::margin) served: i128,
    pub(in crate::margin) whole: i128,
}

impl Cap {
    /// Refuses what cannot be replayed.
    ///
    /// # Errors
    /// [`WhatIfError::Concurrent`], [`WhatIfError::NoSuchPlan`].
    pub(super) fn check(&self, books: &Books) -> Result<(), WhatIfError> {
        if self.on == Measure::Concurrent {
            return Err(WhatIfError::Concurrent);
        }
        match books.plan(self.plan.as_str()) {
            Some(_) => Ok(()),
            None => Err(WhatIfError::NoSuchPlan(self.plan.clone())),
        }
    }

    /// How fine its traffic must be read.
    pub(in crate::margin) fn grain(&self) -> Grain {
        match self.per {
            Window::Day | Window::Week | Window::Month | Window::Period => Grain::Day,
            Window::Minute | Window::Hour | Window::Rolling(_) => Grain::Hour,
        }
    }
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
    slots: std::collections::VecDeque<(i64, i128)>,
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

impl Use {
    fn measured(&self, on: Measure) -> i128 {
        match on {
            Measure::Cost => self.cost.picos(),
            Measure::InputTokens => i128::from(self.input_tokens),
            Measure::OutputTokens => i128::from(self.output_tokens),
            Measure::Tokens => i128::from(self.input_tokens) + i128::from(self.output_tokens),
            Measure::Requests | Measure::Concurrent => i128::from(self.requests),
        }
    }
}

impl Share {
    fn is_less_than(self, other: Share) -> bool {
        // Cost shares are in pico-dollars: cross products of two slots could leave 128 bits, so they are compared at 2⁻⁶⁰.
        let scaled = |share: Share| {
            let unit = 1_i128 << 60;
            share.served.checked_mul(unit).map_or_else(
                || share.served / (share.whole / unit).max(1),
                |product| product / share.whole.max(1),
            )
        };
        scaled(self) < scaled(other)
    }

    fn of_money(self, money: Money) -> Money {
        money
            .mul_ratio(self.served, self.whole)
            .unwrap_or(Money::ZERO)
    }

    fn of_count(self, count: u64) -> u64 {
        let served = i128::from(count).saturating_mul(self.served) / self.whole.max(1);
        u64::try_from(served).unwrap_or(0)
    }

    /// Whole requests, and the parts of one that are left.
    fn of_requests(self, requests: u64) -> (u64, Parts) {
        let whole = self.whole.max(1);
        let served = i128::from(requests).saturating_mul(self.served);
        let parts = (served % whole).saturating_mul(i128::from(WHOLE)) / whole;
        (
            u64::try_from(served / whole).unwrap_or(0),
            Parts::try_from(parts).unwrap_or(0).min(WHOLE - 1),
        )
    }
}

impl Replay {
    /// What the limits let through of a row, or the row as it is. Rows of one stretch of time share a `carry`.
    pub(in crate::margin) fn cut<'r>(
        &self,
        row: Cow<'r, RollupRow>,
        carry: &mut Carry,
    ) -> Cow<'r, RollupRow> {
        let Some((account, slot, share)) = self.share(&row) else {
            return row;
        };
        let begun = || self.begun.get(account)?.get(&slot).copied();
        let carried = carry.parts(account, slot, begun);
        let mut row = row.into_owned();
        row.sums.cost = CostByClass {
            input: share.of_money(row.sums.cost.input),
            cache_read_input: share.of_money(row.sums.cost.cache_read_input),
            cache_write_input: share.of_money(row.sums.cost.cache_write_input),
            media_input: share.of_money(row.sums.cost.media_input),
            output: share.of_money(row.sums.cost.output),
            reasoning_output: share.of_money(row.sums.cost.reasoning_output),
            media_output: share.of_money(row.sums.cost.media_output),
            other: share.of_money(row.sums.cost.other),
        };
        row.sums.undiscounted = share.of_money(row.sums.undiscounted);
        row.sums.client_closed_cost = share.of_money(row.sums.client_closed_cost);
        row.sums.failed_cost = share.of_money(row.sums.failed_cost);
        row.sums.usage = row
            .sums
            .usage
            .zip(&Usage::default(), |count, _| share.of_count(count));
        let (mut asked, mut served) = (0, 0);
        for (outcome, count) in Outcome::ALL.iter().zip(&mut row.sums.outcomes) {
            if *outcome != Outcome::Rejected {
                asked += *count;
                let (whole, parts) = share.of_requests(*count);
                *carried += parts;
                *count = whole + *carried / WHOLE;
                *carried %= WHOLE;
                served += *count;
            }
        }
        // As many of them as of the requests.
        let of_requests = Share {
            served: i128::from(served),
            whole: i128::from(asked),
        };
        row.sums.retries = of_requests.of_count(row.sums.retries);
        let unpriced = u64::try_from(row.sums.unpriced_requests).unwrap_or(0);
        row.sums.unpriced_requests = i64::try_from(of_requests.of_count(unpriced)).unwrap_or(0);
        // What is not served is refused: it stays a request.
        for (outcome, count) in Outcome::ALL.iter().zip(&mut row.sums.outcomes) {
            if *outcome == Outcome::Rejected {
                *count = row.sums.requests.saturating_sub(served);
            }
        }
        Cow::Owned(row)
    }

    /// The first slot from a moment on that was cut for an account.
    pub(in crate::margin) fn first_stop(&self, account: &AccountId, since_ms: i64) -> Option<i64> {
        let since = since_ms - since_ms.rem_euclid(self.slot_ms.max(1));
        let slots = self.shares.get(account)?;
        slots.keys().copied().filter(|slot| *slot >= since).min()
    }

    /// The tightest share of a row, whose it is, and the slot.
    fn share<'r>(&self, row: &'r RollupRow) -> Option<(&'r AccountId, i64, Share)> {
        if self.shares.is_empty() {
            return None;
        }
        let start = row.start.as_millisecond();
        let slot = start - start.rem_euclid(self.slot_ms);
        row.lineage
            .iter()
            .filter_map(|account| {
                let share = self.shares.get(account)?.get(&slot).copied()?;
                Some((account, slot, share))
            })
            .reduce(|tightest, other| {
                if other.2.is_less_than(tightest.2) {
                    other
                } else {
                    tightest
                }
            })
    }
}

impl Carry {
    /// Forgets what was carried: a new stretch of time is read.
    pub(in crate::margin) fn forget(&mut self) {
        self.0.clear();
    }

    /// What is carried within a slot of an account; at its begin it is what the slots before have left.
    fn parts(
        &mut self,
        account: &AccountId,
        slot: i64,
        begun: impl FnOnce() -> Option<Parts>,
    ) -> &mut Parts {
        let carried = self.0.entry(account.clone()).or_insert((i64::MIN, 0));
        if carried.0 != slot {
            *carried = (slot, begun().unwrap_or(0) + ROUNDED);
        }
        &mut carried.1
    }
}

/// Stands in where an account has no billing periods.
const CALENDAR: Billing = Billing {
    since: jiff::civil::Date::constant(1970, 1, 1),
    period: Period::Month,
};
