//! What a dead gateway left open in shared counters: settled with the entries that were found in its journal.
//!
//! It may have died between an entry and its settlement, or with requests in flight. Their reservations end by
//! themselves, and then the counters would lack what the ledger has. What is too late for that is counted as what a gateway
//! owed: the counters of its tree are built anew.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Gateway;
use crate::ids::{AccountId, RequestId};
use crate::ledger::{Entry, Outcome};
use crate::quota::{Bound, Demand};

/// How long after a request's end shared counters still know that it was not settled: the hour for which they keep an
/// expired reservation.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(1);
/// More entries of one hour are not settled one by one: a journal of a gateway whose counters and store were both away.
const KEPT_MAX: usize = 100_000;
/// The pause before counters that cannot be reached are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// After so many the entries' trees are left to be built anew.
const TRIES: u32 = 5;

/// Entries that were recovered and whose settlement is not certain.
#[derive(Default)]
pub(super) struct Recovered {
    entries: Mutex<VecDeque<Entry>>,
    /// Trees of entries for which it is too late, or of which there are too many.
    late: Mutex<HashSet<AccountId>>,
    more: Notify,
}

impl Recovered {
    /// Keeps what may still be open. Never waits.
    pub(super) fn add(&self, entries: &[Entry]) {
        let now = Timestamp::now();
        let mut kept = self.lock();
        for entry in entries {
            if is_late(entry, now) {
                self.too_late(entry);
                continue;
            }
            if kept.len() >= KEPT_MAX
                && let Some(oldest) = kept.pop_front()
            {
                self.too_late(&oldest);
            }
            kept.push_back(entry.clone());
        }
        drop(kept);
        self.more.notify_one();
    }

    fn too_late(&self, entry: &Entry) {
        // What was refused holds nothing.
        if entry.outcome != Outcome::Rejected
            && let Some(root) = entry.lineage.first()
        {
            self.late().insert(root.clone());
        }
    }

    /// No entry is settled by itself any more.
    fn give_up(&self) {
        let kept = std::mem::take(&mut *self.lock());
        kept.iter().for_each(|entry| self.too_late(entry));
    }

    /// Notes the trees of those that cannot be settled for whoever lives when Redis answers.
    fn leave_late(&self, gateway: &Gateway) {
        let late = std::mem::take(&mut *self.late());
        late.iter().for_each(|tree| gateway.ledger.leave(tree));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> MutexGuard<'_, HashSet<AccountId>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_late(entry: &Entry, now: Timestamp) -> bool {
    entry.ended_at < now.saturating_sub(KNOWN_FOR).unwrap_or(Timestamp::MIN)
}

/// Settles recovered entries as they come, until the gateway stops.
pub(super) async fn settle(gateway: Arc<Gateway>, recovered: Arc<Recovered>) {
    let mut failed = 0;
    loop {
        recovered.leave_late(&gateway);
        let next = recovered.lock().pop_front();
        let pause = match next {
            // The counters were out of reach for so long.
            Some(entry) if is_late(&entry, Timestamp::now()) => {
                recovered.too_late(&entry);
                continue;
            }
            Some(entry) => match settle_one(&gateway, &entry).await {
                Ok(()) => {
                    failed = 0;
                    continue;
                }
                Err(id) => {
                    tracing::debug!(%id, "a dead gateway's request waits for the shared counters");
                    recovered.lock().push_front(entry);
                    failed += 1;
                    if failed >= TRIES {
                        // Nothing but memory knows of them: this gateway may die before Redis is back.
                        recovered.give_up();
                        failed = 0;
                        continue;
                    }
                    RETRY
                }
            },
            None => Duration::MAX,
        };
        tokio::select! {
            () = recovered.more.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = gateway.stop.cancelled() => {
                recovered.give_up();
                recovered.leave_late(&gateway);
                return;
            }
        }
    }
}

async fn settle_one(gateway: &Gateway, entry: &Entry) -> Result<(), RequestId> {
    let snapshot = gateway.snapshot();
    let model = entry.model.as_ref().map_or("", |model| model.as_str());
    let rules = snapshot
        .chains
        .rules_of(&entry.lineage, Some(&entry.key), model);
    let bounds: Vec<Bound> = rules
        .map(|rule| Bound::new(rule, entry.started_at))
        .collect();
    let spent = Demand::settled(entry.cost_usd(), &entry.usage);
    gateway
        .quota
        .settle_for_dead(entry.id, bounds, &spent, Timestamp::now())
        .await
        .map_err(|_| entry.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::sample;

    #[test]
    fn for_what_ended_long_ago_its_trees_counters_are_built_anew() {
        let ended = |outcome, tree: &str, hours_ago| Entry {
            outcome,
            lineage: [AccountId::from(tree), AccountId::from("below")].into(),
            ended_at: Timestamp::now() - SignedDuration::from_hours(hours_ago),
            ..sample(1)
        };
        let recovered = Recovered::default();
        recovered.add(&[
            ended(Outcome::Completed, "young", 0),
            ended(Outcome::Completed, "old", 2),
            ended(Outcome::Rejected, "refused", 2),
        ]);
        let kept: Vec<AccountId> = recovered
            .lock()
            .iter()
            .map(|entry| entry.lineage[0].clone())
            .collect();
        let trees = |names: &[&str]| names.iter().map(|name| AccountId::from(*name)).collect();
        assert_eq!(kept, [AccountId::from("young")]);
        assert_eq!(*recovered.late(), trees(&["old"]));
        recovered.give_up();
        assert_eq!(*recovered.late(), trees(&["old", "young"]));
    }
}
