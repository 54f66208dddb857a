//! Changes while requests are served: of the configuration's files, and of what operators made by hand.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use jiff::Timestamp;

use super::rebuild::{self, Apart};
use super::{Gateway, StartError};
use crate::changes::history;
use crate::config::watch::Watch;
use crate::config::{Config, ConfigErrors};
use crate::ledger::store::{Store, Stored};
use crate::quota::chain::Rule;
use crate::snapshot::Snapshot;

/// A change made on any gateway that shares the store is seen within this time, and in force once it is read.
const STORE_POLL: Duration = Duration::from_millis(500);

impl Gateway {
    /// Takes a new configuration into force. Listeners, store and quota keep the settings that they started with; those that
    /// the new one has otherwise, and so wait for the next start, are the answer.
    ///
    /// # Errors
    /// When an upstream cannot be set up or the store does not answer; the old configuration stays in force.
    pub async fn reconfigure(
        self: &Arc<Self>,
        config: Config,
    ) -> Result<Vec<&'static str>, StartError> {
        let waiting = self.startup.waiting(&config);
        let one_at_a_time = self.reloading.lock().await;
        let store = Arc::clone(&self.store);
        let stored = tokio::task::spawn_blocking(move || store.stored())
            .await
            .map_err(|_| StartError::Interrupted)??;
        self.rebuild_snapshot(config, stored).await?;
        drop(one_at_a_time);
        if !waiting.is_empty() {
            tracing::warn!(
                settings = waiting.join(", "),
                "these settings of the changed configuration wait for the next start"
            );
        }
        Ok(waiting)
    }

    /// Looks at once for changes that operators made by hand, and takes them into force.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn refresh(self: &Arc<Self>) -> Result<(), StartError> {
        let one_at_a_time = self.reloading.lock().await;
        let store = Arc::clone(&self.store);
        let known = self.snapshot().stored_version;
        let changed = tokio::task::spawn_blocking(move || {
            let version = store.stored_version()?;
            if version == known {
                Ok(None)
            } else {
                store.stored().map(Some)
            }
        });
        let changed = changed.await.map_err(|_| StartError::Interrupted)??;
        if let Some(stored) = changed {
            let config = self.snapshot().config.clone();
            self.rebuild_snapshot(config, stored).await?;
        }
        drop(one_at_a_time);
        Ok(())
    }

    async fn rebuild_snapshot(
        self: &Arc<Self>,
        config: Config,
        stored: Stored,
    ) -> Result<(), StartError> {
        let older = self.snapshot();
        let newer = Arc::new(Snapshot::build(config, stored, &self.pepper, Some(&older))?);
        // First: what cannot be recorded does not come into force, and is tried again.
        record_plans(self, &newer, Some(Arc::clone(&older))).await?;
        let (now, by_tree) = (Timestamp::now(), self.quota.is_shared());
        let added = newer.chains.new_since(&older.chains, by_tree, now);
        let gone = older.chains.new_since(&newer.chains, by_tree, now);
        let unfilled = self.adopt(&newer, &added, &gone).await;
        // The cut comes before the swap: whoever is admitted after it to the older limits, adds itself to the new ones.
        // Also for a limit that is not new here: another gateway's file may lack it, and took it for gone.
        let apart = (!added.is_empty() || !unfilled.is_empty()).then(|| {
            self.added.note(newer.generation, &added);
            self.added.fills(&unfilled);
            let except = self.quota.begin_generation(newer.generation);
            let ended_by = Some(Timestamp::now());
            Apart { except, ended_by }
        });
        self.swap(Arc::clone(&newer));
        if !gone.is_empty() {
            self.quota.forget(&gone, Timestamp::now());
        }
        if let Some(apart) = apart {
            self.fill(&newer, unfilled, apart).await;
        }
        Ok(())
    }

    /// Takes all limits into force in shared counters, at a start: some may have changed since these were built.
    pub(super) async fn adopt_all(self: &Arc<Self>, snapshot: &Arc<Snapshot>) {
        let roots = rebuild::roots(snapshot.chains.rules());
        let trees = rebuild::trees(&snapshot.chains, roots);
        match self.quota.adopt(trees, &[], Timestamp::now()).await {
            Ok(unfilled) if unfilled.is_empty() => {}
            Ok(unfilled) => {
                self.added.fills(&unfilled);
                self.fill(snapshot, unfilled, Apart::default()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known whether shared counters have what every limit has used");
            }
        }
    }

    /// Takes limits into force for all gateways that share their counters. Gives back those whose past is to be read here.
    async fn adopt(
        &self,
        snapshot: &Snapshot,
        added: &[Arc<Rule>],
        gone: &[Arc<Rule>],
    ) -> Vec<Arc<Rule>> {
        let roots = rebuild::roots(added.iter().chain(gone));
        let trees = rebuild::trees(&snapshot.chains, roots);
        let adopted = self.quota.adopt(trees, added, Timestamp::now()).await;
        adopted.unwrap_or_else(|error| {
            tracing::warn!(%error, "shared counters do not know yet which limits came and went: one that comes back within its window may be counted wrongly");
            added.to_vec()
        })
    }

    /// Gives limits that are new what was used before them. They hold from now on whether that can be read or not: what
    /// cannot be read now is read as soon as that is possible.
    async fn fill(self: &Arc<Self>, snapshot: &Arc<Snapshot>, added: Vec<Arc<Rule>>, apart: Apart) {
        self.quota.prepare(rebuild::roots(&added));
        let now = Timestamp::now();
        let read = rebuild::seed(self, snapshot, added.clone(), apart.clone(), now).await;
        let Err(error) = read else {
            self.added.filled(&added);
            return;
        };
        tracing::error!(%error, "new limits do not know yet what was used before them");
        let (gateway, snapshot) = (Arc::clone(self), Arc::clone(snapshot));
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = gateway.stop.cancelled() => return,
                    () = tokio::time::sleep(FILL_AGAIN) => {}
                }
                let (rules, apart) = (added.clone(), apart.clone());
                if rebuild::seed(&gateway, &snapshot, rules, apart, now)
                    .await
                    .is_ok()
                {
                    gateway.added.filled(&added);
                    tracing::info!("new limits know what was used before them");
                    return;
                }
            }
        });
    }
}

/// The pause before the past of new limits is read again.
const FILL_AGAIN: Duration = Duration::from_secs(1);

/// Takes each changed configuration into force, and keeps the old one where the new one is broken.
///
/// One that came while the store was away is tried until the store is back, or until the files change again: the watcher tells
/// of each change once.
pub(super) async fn watch_files(gateway: Arc<Gateway>, mut watch: Watch) {
    let mut waiting = None;
    loop {
        // Polled on while a configuration waits: a look at the files takes longer than the pause between two tries.
        let mut change = pin!(watch.changed());
        let loaded = loop {
            tokio::select! {
                loaded = &mut change => break loaded,
                () = tokio::time::sleep(STORE_POLL), if waiting.is_some() => {
                    waiting = take_again(&gateway, waiting).await;
                }
                () = gateway.stop.cancelled() => return,
            }
        };
        waiting = take(&gateway, loaded, false).await;
    }
}

/// Takes a changed configuration into force; gives it back when it must wait for the store, which is told of once.
async fn take(
    gateway: &Arc<Gateway>,
    loaded: Result<Config, ConfigErrors>,
    waited: bool,
) -> Option<Config> {
    let (taken, waiting) = match loaded {
        Ok(config) => match gateway.reconfigure(config.clone()).await {
            Err(StartError::StoreAway(error)) => {
                let reason = format!("{error}\nit is tried again until the store answers");
                (Err(reason), Some(config))
            }
            taken => (taken.map_err(|error| error.to_string()), None),
        },
        Err(errors) => (Err(errors.to_string()), None),
    };
    if waited && waiting.is_some() {
        return waiting;
    }
    gateway.metrics.config_reload(taken.is_ok());
    match taken {
        Ok(_) => tracing::info!("the changed configuration is in force"),
        Err(reason) => {
            let what = match waiting {
                Some(_) => "waits for the store",
                None => "is refused",
            };
            tracing::error!(
                "the changed configuration {what}, the old one stays in force:\n{reason}"
            );
            gateway.config_refused(&reason);
        }
    }
    waiting
}

/// Tries a configuration that waits for the store.
async fn take_again(gateway: &Arc<Gateway>, waiting: Option<Config>) -> Option<Config> {
    // A configuration is large: it is not copied as long as the store does not answer at all.
    if let Err(StartError::StoreAway(_)) = gateway.refresh().await {
        return waiting;
    }
    take(gateway, Ok(waiting?), true).await
}

/// Takes what operators made by hand into force, whichever gateway or command made it.
pub(super) async fn watch_store(gateway: Arc<Gateway>) {
    loop {
        let store = Arc::clone(&gateway.store);
        let known = gateway.snapshot().stored_version;
        // Whoever looks ends when this end is dropped.
        let (_waiting, over) = mpsc::channel();
        let change = tokio::task::spawn_blocking(move || look_until_changed(&*store, known, &over));
        tokio::select! {
            _ = change => {}
            () = gateway.stop.cancelled() => return,
        }
        if let Err(error) = gateway.refresh().await {
            tracing::debug!(%error, "cannot look for changes made by hand");
        }
    }
}

/// Looks until the store has another version of what operators make by hand, or nobody waits any more.
fn look_until_changed(store: &dyn Store, known: u64, over: &Receiver<Infallible>) {
    while over.recv_timeout(STORE_POLL) == Err(RecvTimeoutError::Timeout) {
        match store.stored_version() {
            Ok(version) if version == known => {}
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, "cannot look for changes made by hand"),
        }
    }
}

/// Records which plan each account has, and on which terms, so that a later change splits revenue by time.
pub(super) async fn record_plans(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    older: Option<Arc<Snapshot>>,
) -> Result<(), StartError> {
    let (store, snapshot) = (Arc::clone(&gateway.store), Arc::clone(snapshot));
    let recorded = tokio::task::spawn_blocking(move || {
        let older = older.as_ref().map(|older| &older.directory);
        history::record(store.as_ref(), &snapshot.directory, older, Timestamp::now())
    });
    Ok(recorded.await.map_err(|_| StartError::Interrupted)??)
}
