//! What a dead gateway left open in shared counters: settled with the entries that were found in its journal.
//!
//! It may have died between an entry and its settlement, or with requests in flight. Their reservations end by
//! themselves, and then the counters would lack what the ledger has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Gateway;
use crate::ids::RequestId;
use crate::ledger::Entry;
use crate::quota::{Bound, Demand};

/// How long after a request's end shared counters still know that it was not settled: the hour for which they keep an
/// expired reservation.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(1);
/// More entries of one hour are not kept: a journal of a gateway whose counters and store were both away.
const KEPT_MAX: usize = 100_000;
/// The pause before counters that cannot be reached are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Entries that were recovered and whose settlement is not certain.
#[derive(Default)]
pub(super) struct Recovered {
    entries: Mutex<VecDeque<Entry>>,
    more: Notify,
}

impl Recovered {
    /// Keeps what may still be open. Never waits.
    pub(super) fn add(&self, entries: &[Entry]) {
        let oldest = Timestamp::now()
            .saturating_sub(KNOWN_FOR)
            .unwrap_or(Timestamp::MIN);
        let mut kept = self.lock();
        for entry in entries.iter().filter(|entry| entry.ended_at >= oldest) {
            if kept.len() >= KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back(entry.clone());
        }
        drop(kept);
        self.more.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles recovered entries as they come, until the gateway stops.
pub(super) async fn settle(gateway: Arc<Gateway>, recovered: Arc<Recovered>) {
    loop {
        let next = recovered.lock().pop_front();
        let pause = match next {
            Some(entry) => match settle_one(&gateway, &entry).await {
                Ok(()) => continue,
                Err(id) => {
                    tracing::debug!(%id, "a dead gateway's request waits for the shared counters");
                    recovered.lock().push_front(entry);
                    RETRY
                }
            },
            None => Duration::MAX,
        };
        tokio::select! {
            () = recovered.more.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = gateway.stop.cancelled() => return,
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
