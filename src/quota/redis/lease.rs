//! Leases: a gateway says every moment that its requests are still open, and so notices that Redis has lost them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::script::{Arguments, SCRIPTS};
use super::{RedisQuota, SETTLE_LATE_MS};
use crate::ids::{AccountId, RequestId};

impl RedisQuota {
    /// Trees whose reservations are renewed at the same time.
    const TREES_AT_ONCE: usize = 32;

    /// A clock that is farther from Redis's than this is told of.
    const CLOCKS_APART_MS: i64 = 2_000;

    /// For how long a start waits for counters.
    const START_WAIT: Duration = Duration::from_secs(5);

    /// To be called once at start, before requests: says that this gateway is there, and brings up the counters of these
    /// trees. If Redis was found empty, that takes about a second: other gateways must notice it too.
    pub async fn start(self: &Arc<Self>, roots: Vec<AccountId>, now: Timestamp) {
        self.advance(now);
        self.meet_store(now).await;
        self.recount().await;
        let quota = Arc::clone(self);
        let rising = tokio::spawn(async move { quota.raise_all(roots).await });
        // What is not there by then goes on by itself.
        let _ = tokio::time::timeout(Self::START_WAIT, rising).await;
    }

    /// Brings up the counters of trees that are new.
    pub fn prepare(self: &Arc<Self>, roots: Vec<AccountId>) {
        let quota = Arc::clone(self);
        tokio::spawn(async move { quota.raise_all(roots).await });
    }

    /// Renews this gateway's reservations, notices lost data, and delivers what Redis is still owed. To be called every
    /// [`RedisQuota::TICK`].
    pub async fn tick(self: &Arc<Self>, now: Timestamp) {
        let latest_ms = self.advance(now);
        if self.meet_store(now).await {
            self.flush().await;
            // What failed, failed with the Redis of before: others give a gateway a second to register its requests.
            self.rising().forget_failed();
            // First the requests that are open, then whatever else this gateway has met.
            let met: Vec<AccountId> = self.lock().epochs.keys().cloned().collect();
            let mut roots: Vec<AccountId> = self.open_by_root(latest_ms).into_keys().collect();
            roots.extend(met);
            self.prepare(roots);
        }
        if !self.is_up() {
            return;
        }
        self.compare_clocks(now).await;
        let mut trees = tokio::task::JoinSet::new();
        for (root, requests) in self.open_by_root(latest_ms) {
            if trees.len() >= Self::TREES_AT_ONCE {
                trees.join_next().await;
            }
            let quota = Arc::clone(self);
            trees.spawn(async move { quota.renew(&root, &requests, now).await });
        }
        while trees.join_next().await.is_some() {}
        self.deliver_owed(now).await;
        self.recount().await;
        let node = self.lock();
        let is_told = node.owed.is_empty() && node.uncounted.is_empty() && node.telling == 0;
        if is_told && !node.open.values().any(|open| open.shared_locally) {
            // All that was admitted while Redis was away is booked there now.
            self.share.clear();
            // Under the lock: what is owed from now on is noted after it is on the list.
            self.seeder.paid();
        }
    }

    /// Leases end by the clocks of gateways: one that is ahead by more than a lease takes the others' for over, and admits what
    /// they hold.
    async fn compare_clocks(&self, now: Timestamp) {
        let told: Result<(i64, i64), _> = self.link.command(&redis::cmd("TIME")).await;
        let Ok((seconds, micros)) = told else {
            return;
        };
        let theirs_ms = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
        let apart_ms = now.as_millisecond().saturating_sub(theirs_ms);
        let is_off = apart_ms.saturating_abs() > Self::CLOCKS_APART_MS;
        match (self.clock_is_off.swap(is_off, Ordering::Relaxed), is_off) {
            (false, true) => tracing::error!(
                apart_ms,
                "this gateway's clock is not Redis's: with more than {} s between gateways a shared budget can be overrun",
                Self::LEASE_MS / 1_000
            ),
            (true, false) => tracing::info!("this gateway's clock is Redis's again"),
            _ => {}
        }
    }

    /// Redis has lost its data: whoever builds the counters again is to find in the ledger what has ended here. Whether it
    /// will.
    pub(super) async fn flush(&self) -> bool {
        let seeder = Arc::clone(&self.seeder);
        let flushed = tokio::task::spawn_blocking(move || seeder.flush()).await;
        if let Ok(Err(reason)) = &flushed {
            tracing::warn!(
                reason,
                "counters that are built again now lack entries of this gateway which have not reached the store"
            );
        }
        matches!(flushed, Ok(Ok(())))
    }

    async fn renew(
        self: &Arc<Self>,
        root: &AccountId,
        requests: &[(RequestId, i64)],
        now: Timestamp,
    ) {
        let latest_ms = self.advance(now);
        let known = self.lock().epochs.get(root).cloned();
        for some in requests.chunks(500) {
            let mut arguments = Arguments::new(known.as_deref().unwrap_or_default(), latest_ms);
            for (id, expires_ms) in some {
                arguments.text(id.to_string());
                arguments.number((*expires_ms).min(latest_ms.saturating_add(self.lease_ms)));
            }
            let Ok(answer) = self.call(root, &SCRIPTS.renew, &arguments).await else {
                return;
            };
            if answer.first().map(String::as_str) != Some("ok") {
                self.raise(root);
                return;
            }
        }
        if let Some(epoch) = known {
            self.register(root, &epoch).await;
        }
    }

    fn open_by_root(&self, latest_ms: i64) -> HashMap<AccountId, Vec<(RequestId, i64)>> {
        let mut node = self.lock();
        node.open
            .retain(|_, open| open.expires_ms.saturating_add(SETTLE_LATE_MS) > latest_ms);
        let mut roots: HashMap<AccountId, Vec<(RequestId, i64)>> = HashMap::new();
        for (id, open) in node.open.iter().filter(|(_, open)| !open.bounds.is_empty()) {
            if let Some(of_root) = roots.get_mut(&open.root) {
                of_root.push((*id, open.expires_ms));
            } else {
                roots.insert(open.root.clone(), vec![(*id, open.expires_ms)]);
            }
        }
        roots
    }
}
