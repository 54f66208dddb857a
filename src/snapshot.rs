//! What the request path reads: configuration, accounts, routes, prices and limits at one moment, swapped whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::account::{Directory, Key};
use crate::config::{self, Config};
use crate::ids::UpstreamId;
use crate::ledger::store::Stored;
use crate::price::PriceTable;
use crate::quota::chain::Chains;
use crate::route::Router;
use crate::secret::{KeyDigest, Pepper};
use crate::upstream::{SetupError, Upstream};

/// Everything that a request needs to know, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Plans, accounts and keys, of the file and of the store.
    pub directory: Directory,
    /// The limits that each account's requests count against.
    pub chains: Chains,
    /// Where requests go.
    pub router: Router,
    /// What they cost.
    pub prices: Arc<PriceTable>,
    /// The version of what operators made by hand that is in here.
    pub stored_version: u64,
    /// How many snapshots this gateway had before.
    pub generation: u64,
}

/// Why a snapshot cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("upstream {upstream}: {error}")]
pub struct SnapshotError {
    /// The upstream.
    pub upstream: UpstreamId,
    /// What is wrong with it.
    pub error: SetupError,
}

impl Snapshot {
    /// Brings the configuration and what operators made by hand together. Upstreams whose settings did not change keep
    /// their connections. Where both name the same account, plan or key, the file's holds.
    ///
    /// # Errors
    /// When an upstream's certificates cannot be used.
    pub fn build(
        config: Config,
        stored: Stored,
        pepper: &Pepper,
        older: Option<&Snapshot>,
    ) -> Result<Snapshot, SnapshotError> {
        let mut upstreams = HashMap::with_capacity(config.upstreams.len());
        for settings in &config.upstreams {
            let kept = older
                .and_then(|older| older.router.upstreams().get(&settings.id))
                .filter(|kept| kept.settings == *settings);
            let upstream =
                match kept {
                    Some(kept) => Arc::clone(kept),
                    None => Arc::new(Upstream::new(settings.clone()).map_err(|error| {
                        SnapshotError {
                            upstream: settings.id.clone(),
                            error,
                        }
                    })?),
                };
            upstreams.insert(settings.id.clone(), upstream);
        }
        let directory = directory(&config, &stored, pepper);
        let chains = Chains::compile(&directory);
        let router = Router::new(config.routes.clone(), upstreams);
        let prices = Arc::clone(&config.prices);
        Ok(Snapshot {
            config,
            directory,
            chains,
            router,
            prices,
            stored_version: stored.version,
            generation: older.map_or(0, |older| older.generation + 1),
        })
    }

    /// A model as a metric's label: its entry in the price table, itself where a route names it, else `other`.
    /// Names that clients make up never become labels.
    pub fn model_label(&self, model: &str) -> Arc<str> {
        match self.prices.model(model) {
            Some(entry) => Arc::clone(&entry.model),
            None if self.router.names(model) => model.into(),
            None => "other".into(),
        }
    }

    /// The longest that an upstream call can take: no reservation needs to hold longer.
    pub fn longest_call(&self) -> Duration {
        self.config
            .upstreams
            .iter()
            .map(|upstream| upstream.timeouts.total)
            .max()
            .unwrap_or_default()
    }

    /// Whether what a model without a price gets is a refusal.
    pub fn rejects_unpriced(&self) -> bool {
        self.config.unpriced == config::Unpriced::Reject
    }
}

/// Plans, accounts and keys of the file and of the store as one tree.
pub fn directory(config: &Config, stored: &Stored, pepper: &Pepper) -> Directory {
    // Later ones win, so the file's come last.
    let plans = stored.plans.iter().chain(&config.plans).cloned();
    let accounts = stored.accounts.iter().chain(&config.accounts).cloned();
    let revoked: HashMap<&KeyDigest, Timestamp> = stored
        .revocations
        .iter()
        .map(|revocation| (&revocation.digest, revocation.at))
        .collect();
    let of_file = config.keys.iter().map(|key| {
        let digest = pepper.digest(&key.sha256);
        Key {
            id: key.id.clone(),
            account: key.account.clone(),
            models: key.models.clone(),
            networks: key.networks.clone(),
            expires_at: key.expires_at,
            // A key of the file that was revoked by hand stays revoked.
            revoked_at: revoked.get(&digest).copied(),
            limits: key.limits.clone(),
            digest,
        }
    });
    let keys = stored
        .keys
        .iter()
        .map(|stored| stored.key.clone())
        .chain(of_file);
    let (directory, errors) = Directory::build(plans, accounts, keys);
    for error in errors {
        tracing::warn!(%error, "left out of the directory");
    }
    directory
}
