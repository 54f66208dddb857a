//! Open requests, registered in an epoch that does not have them: its sums of the ledger leave them out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::node::Open;
use super::script::{SCRIPTS, reserve_arguments};
use super::{RedisQuota, TreeError};
use crate::ids::{AccountId, RequestId};
use crate::plan::Measure;

impl RedisQuota {
    /// Registers this gateway's open requests of a tree in an epoch that does not have them. It is this that keeps the
    /// rebuild from counting them.
    pub(super) async fn register(self: &Arc<Self>, root: &AccountId, epoch: &Arc<str>) {
        let _one_at_a_time = self.registering.lock().await;
        let strangers: Vec<(RequestId, Open)> = self
            .lock()
            .open
            .iter()
            .filter(|(_, open)| open.root == *root && open.epoch.as_ref() != Some(epoch))
            .map(|(id, open)| (*id, open.clone()))
            .collect();
        let mut joining = JoinSet::new();
        for (id, open) in strangers {
            if joining.len() >= Self::CALLS_MAX {
                joining.join_next().await;
            }
            let (quota, epoch) = (Arc::clone(self), Arc::clone(epoch));
            joining.spawn(async move {
                let joined = quota.join(id, &open, &epoch).await;
                if joined.is_ok_and(|answer| answer.first().map(String::as_str) == Some("ok"))
                    && let Some(open) = quota.lock().open.get_mut(&id)
                {
                    open.epoch = Some(epoch);
                }
            });
        }
        while joining.join_next().await.is_some() {}
    }

    /// Books an open request in an epoch without asking whether it fits. The script's answer.
    pub(super) async fn join(
        &self,
        id: RequestId,
        open: &Open,
        epoch: &str,
    ) -> Result<Vec<String>, TreeError> {
        let now = self.latest();
        let until_ms = now
            .as_millisecond()
            .saturating_add(self.lease_ms)
            .min(open.expires_ms);
        let need = |on: Measure| open.demand.units(on);
        let arguments = reserve_arguments(
            epoch,
            now.as_millisecond(),
            "join",
            id,
            until_ms,
            &open.bounds,
            need,
            now,
        );
        self.call(&open.root, &SCRIPTS.reserve, &arguments).await
    }

    /// Says that this gateway is there, and learns since when Redis has kept its data. Whether that is another moment than it
    /// was: Redis has lost its data since. (Of a cluster this is told by the one node that keeps the moment; what another
    /// has lost is found at the next renewal, or when it is needed.)
    pub(super) async fn meet_store(&self, now: Timestamp) -> bool {
        let key = redis::cmd("SET")
            .arg("weir:since")
            .arg(now.as_millisecond())
            .arg("NX")
            .to_owned();
        let made: Result<Option<String>, _> = self.link.command(&key).await;
        self.heard(made.as_ref().err());
        match self.since_ms().await {
            Some(since_ms) => self.since_ms.swap(since_ms, Ordering::Relaxed) != since_ms,
            None => false,
        }
    }

    pub(super) async fn since_ms(&self) -> Option<i64> {
        let since = self.link.command(redis::cmd("GET").arg("weir:since")).await;
        since.ok().flatten()
    }

    /// Waits until every gateway has had the time to notice that the data was lost. A Redis that has had its data for
    /// longer than that has merely not met this tree yet, and nobody has requests of it open. (A cluster's nodes lose
    /// their data one by one, so there it waits each time.)
    pub(super) async fn let_others_register(&self) {
        let since_ms = match self.since_ms().await {
            Some(since_ms) if !self.link.is_cluster() => since_ms,
            _ => i64::MAX,
        };
        let known_ms = self
            .latest()
            .as_millisecond()
            .saturating_sub(since_ms)
            .max(0);
        let known = Duration::from_millis(known_ms.unsigned_abs());
        tokio::time::sleep(self.gather.saturating_sub(known)).await;
    }
}
