//! `[quota]`: where quota counters are kept, and what happens when they cannot be reached.

use std::time::Duration;

use crate::secret::Secret;

/// Where quota counters are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// The counters' place. In memory.
    pub backend: QuotaBackend,
    /// What a request gets while the counters cannot be reached. Closed.
    pub fail: QuotaFailure,
    /// What is reserved for a request that states no maximum. Adaptive.
    pub mode: ReservationMode,
    /// The longest that one call of a shared backend may take. 40 ms.
    pub timeout: Duration,
    /// Gateways that share the counters: while they cannot be reached, each lets through one part in so many of a limit. 1.
    pub gateways: u32,
}

/// Where counters are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum QuotaBackend {
    /// In this process; rebuilt from the ledger at start.
    Memory,
    /// In Redis or Valkey, shared by several gateways.
    Redis(Redis),
}

/// A Redis or Valkey service.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `redis://` or `rediss://` URLs, at least one, all of one scheme: secret, for they may hold passwords.
    pub urls: Vec<Secret>,
    /// What the URLs are.
    pub topology: RedisTopology,
}

/// What a list of Redis URLs means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    Single,
    /// Nodes of a cluster (`urls` without `sentinel_master`).
    Cluster,
    /// Sentinels that watch this master (`sentinel_master`).
    Sentinel {
        /// The master's name.
        master: String,
    },
}

/// What a request gets while a shared backend cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaFailure {
    /// It is refused with a 503: no limit is ever passed.
    Closed,
    /// This gateway's share of each limit holds locally.
    Open,
}

/// What is reserved for a request that states no maximum of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationMode {
    /// The most that the model can give: a limit is never passed, and little else fits meanwhile.
    Strict,
    /// What this account's requests to the model have needed at a high quantile; an answer that needs more ends early.
    Adaptive,
}
