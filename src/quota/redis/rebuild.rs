//! Epochs: a tree's counters are built from the ledger when Redis does not have them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::script::{Answer, Arguments, SCRIPTS};
use super::{Open, RedisQuota, TreeError, reserve_arguments};
use crate::ids::{AccountId, RequestId};
use crate::period::WindowSpan;
use crate::plan::Measure;
use crate::quota::{Bound, Use};

/// Where the counters of a tree are read when Redis does not have them: the ledger.
///
/// Both methods block and are called on threads made for it.
pub trait Seeder: Send + Sync {
    /// Brings this gateway's closed entries into the store, as far as that can be done at once.
    fn flush(&self);

    /// What the accounts and keys of the tree under `root` have used in the present windows of their limits, without
    /// the requests in `except`.
    ///
    /// # Errors
    /// A text for the operator when the ledger cannot be read; the rebuild is then tried again.
    fn used(&self, root: &AccountId, except: &HashSet<RequestId>) -> Result<Vec<Use>, String>;
}

impl RedisQuota {
    /// A rebuild that takes longer is begun again by another gateway.
    const REBUILD_MS: i64 = 15_000;
    const POLL: Duration = Duration::from_millis(20);

    /// Calls a script with the epoch of its tree; finds out the epoch or begins one where that is needed.
    pub(super) async fn in_tree(
        self: &Arc<Self>,
        root: &AccountId,
        script: &redis::Script,
        arguments: impl Fn(&str) -> Arguments,
    ) -> Result<(Arc<str>, Answer), TreeError> {
        let deadline = Instant::now() + Self::REBUILD_WAIT;
        loop {
            let known = self.lock().epochs.get(root).cloned();
            if let Some(epoch) = known {
                let answer = self.call(root, script, &arguments(&epoch)).await?;
                if answer.first().map(String::as_str) != Some("epoch") {
                    return Ok((epoch, Answer::new(answer)));
                }
            }
            self.find_epoch(root, deadline).await?;
        }
    }

    /// Waits until the tree has counters.
    async fn find_epoch(
        self: &Arc<Self>,
        root: &AccountId,
        deadline: Instant,
    ) -> Result<(), TreeError> {
        while !self.step(root).await? {
            // That step began another attempt if it was time for one.
            let in_vain = self.rebuild_failed.load(Ordering::Relaxed);
            if in_vain || Instant::now() >= deadline {
                return Err(TreeError::Rebuild);
            }
            tokio::time::sleep(Self::POLL).await;
        }
        Ok(())
    }

    /// Learns how the tree stands, registers this gateway's requests there, and begins to build its counters if nobody
    /// else does. Whether they are ready.
    pub(super) async fn step(self: &Arc<Self>, root: &AccountId) -> Result<bool, TreeError> {
        let now = self.latest();
        let fresh = format!("{:016x}", fastrand::u64(..));
        let mut arguments = Arguments::new(&fresh, now.as_millisecond());
        arguments.number(Self::REBUILD_MS);
        let mut answer = Answer::new(self.call(root, &SCRIPTS.begin, &arguments).await?);
        let (verdict, epoch) = (answer.text(), Arc::<str>::from(answer.text()));
        if !epoch.is_empty() && self.lock().epochs.get(root) != Some(&epoch) {
            self.register(root, &epoch).await;
            self.lock().epochs.insert(root.clone(), Arc::clone(&epoch));
        }
        if verdict == "seed" {
            // A task of its own: the request that began it may be given up.
            let (quota, root) = (Arc::clone(self), root.clone());
            tokio::spawn(async move { quota.rebuild(&root, &epoch).await });
        }
        Ok(verdict == "ready")
    }

    /// Reads the tree's use from the ledger into the new epoch. If that fails, the next request begins another.
    async fn rebuild(&self, root: &AccountId, epoch: &Arc<str>) {
        tracing::info!(tree = %root, "quota counters are not in Redis: building them from the ledger");
        let rebuilt = self.try_rebuild(root, epoch).await;
        self.rebuild_failed
            .store(rebuilt.is_err(), Ordering::Relaxed);
        if let Err(reason) = rebuilt {
            tracing::warn!(tree = %root, reason, "quota counters could not be built from the ledger");
        }
    }

    async fn try_rebuild(&self, root: &AccountId, epoch: &Arc<str>) -> Result<(), String> {
        let failed = |error: TreeError| format!("{error:?}");
        self.let_others_register().await;
        let latest_ms = || self.latest().as_millisecond();
        let phase = |phase: &str| {
            let mut arguments = Arguments::new(epoch, latest_ms());
            arguments.text(phase);
            arguments
        };
        let joined = self
            .call(root, &SCRIPTS.phase, &phase("reading"))
            .await
            .map_err(failed)?;
        let except: HashSet<RequestId> = joined
            .iter()
            .skip(1)
            .filter_map(|id| id.parse().ok().map(RequestId))
            .collect();
        let (seeder, of_root) = (Arc::clone(&self.seeder), root.clone());
        let reading = tokio::task::spawn_blocking(move || {
            seeder.flush();
            seeder.used(&of_root, &except)
        });
        let used = reading
            .await
            .map_err(|error| error.to_string())
            .and_then(|used| used);
        let used = match used {
            Ok(used) => used,
            Err(reason) => {
                self.call(root, &SCRIPTS.phase, &phase("failed"))
                    .await
                    .map_err(failed)?;
                return Err(reason);
            }
        };
        let now = self.latest();
        for some in by_cell(&used, now).chunks(100) {
            let arguments = seed_arguments(epoch, latest_ms(), "", some, now);
            self.call(root, &SCRIPTS.seed, &arguments)
                .await
                .map_err(failed)?;
        }
        self.call(root, &SCRIPTS.phase, &phase("ready"))
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Registers this gateway's open requests of a tree in an epoch that does not have them. It is this that keeps the
    /// rebuild from counting them, so the ledger is flushed of those that have just ended first.
    pub(super) async fn register(&self, root: &AccountId, epoch: &Arc<str>) {
        let _one_at_a_time = self.registering.lock().await;
        let strangers: Vec<(RequestId, Open)> = self
            .lock()
            .open
            .iter()
            .filter(|(_, open)| open.root == *root && open.epoch.as_ref() != Some(epoch))
            .map(|(id, open)| (*id, open.clone()))
            .collect();
        for (id, open) in strangers {
            let joined = self.join(id, &open, epoch).await;
            if !joined.is_ok_and(|answer| answer.first().map(String::as_str) == Some("ok")) {
                return;
            }
            if let Some(open) = self.lock().open.get_mut(&id) {
                open.epoch = Some(Arc::clone(epoch));
            }
        }
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

    /// Says that this gateway is there, and learns since when Redis has kept its data.
    pub(super) async fn meet_store(&self, now: Timestamp) {
        let key = redis::cmd("SET")
            .arg("weir:since")
            .arg(now.as_millisecond())
            .arg("NX")
            .to_owned();
        let made: Result<Option<String>, _> = self.link.command(&key).await;
        self.heard(made.as_ref().err());
    }

    /// Waits until every gateway has had the time to notice that the data was lost. A Redis that has had its data for
    /// longer than that has merely not met this tree yet, and nobody has requests of it open. (A cluster's nodes lose
    /// their data one by one, so there it waits each time.)
    pub(super) async fn let_others_register(&self) {
        let since: Result<Option<i64>, _> =
            self.link.command(redis::cmd("GET").arg("weir:since")).await;
        let since_ms = match since {
            Ok(Some(since_ms)) if !self.link.is_cluster() => since_ms,
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

    fn latest(&self) -> Timestamp {
        let latest_ms = self.latest_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(latest_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Use added up by the cell that it is booked in. What a limit on concurrency counts is never past use.
pub(super) fn by_cell<'a>(
    uses: impl IntoIterator<Item = &'a Use>,
    now: Timestamp,
) -> Vec<(Bound, i128)> {
    let mut sums: BTreeMap<(String, WindowSpan), (Bound, i128)> = BTreeMap::new();
    let with_window = |past: &&Use| past.rule.counter.per().is_some();
    for past in uses.into_iter().filter(with_window) {
        let mut bound = Bound::new(&past.rule, past.at);
        if past.rule.counter.is_rolling() {
            let cell = bound.cell;
            bound.refresh(now);
            bound.cell = cell;
        }
        let key = (past.rule.counter.to_string(), bound.cell);
        let (_, units) = sums.entry(key).or_insert((bound, 0));
        *units = units.saturating_add(past.units);
    }
    sums.into_values().collect()
}

pub(super) fn seed_arguments(
    epoch: &str,
    latest_ms: i64,
    once: &str,
    booked: &[(Bound, i128)],
    now: Timestamp,
) -> Arguments {
    let mut arguments = Arguments::new(epoch, latest_ms);
    arguments.text(once);
    arguments.number(booked.len() as i128);
    for (bound, units) in booked {
        arguments.counter(bound);
        arguments.number(bound.window.start_ms);
        arguments.cell(bound);
        arguments.lifetime(bound, now.as_millisecond());
        arguments.amount(*units);
    }
    arguments
}
