//! A replay's result: the ledger's rows, cut to what the limits let through.

use std::borrow::Cow;
use std::collections::HashMap;

use super::share::{Parts, Share, WHOLE};
use crate::ids::AccountId;
use crate::ledger::entry::Outcome;
use crate::ledger::store::RollupRow;
use crate::price::CostByClass;
use crate::tokens::Usage;

/// Of each account and slot, the share that its limits let through.
#[derive(Default)]
pub(in crate::margin) struct Replay {
    pub(super) shares: HashMap<AccountId, HashMap<i64, Share>>,
    /// What of a request was served over whole ones before each slot that was cut.
    pub(super) begun: HashMap<AccountId, HashMap<i64, Parts>>,
    pub(super) slot_ms: i64,
}

/// What of a request has been served over whole ones, by the account whose limit cuts: the rows of a slot may hold few
/// requests each, down to one, and what each of them is cut to must add up to whole requests all the same.
#[derive(Clone, Default)]
pub(in crate::margin) struct Carry(HashMap<AccountId, (i64, Parts)>);

/// What shares that are no whole number have lost in rounding down.
const ROUNDED: Parts = 1 << 16;

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
