//! Quotas shared by several gateways, in Redis or Valkey.
//!
//! The counters of one account tree lie under keys with one hash tag, `weir:{ROOT}:…`, and every step is one script on
//! one of them: one round trip for an admission and one for a settlement. The scripts do what [`super::memory`] does,
//! with the same answers.
//!
//! **When a gateway dies**, nobody renews its reservations: they hold nothing after [`RedisQuota::LEASE_MS`].
//!
//! **When Redis loses its data**, the counters of all trees that a gateway has met are built again from the ledger as soon
//! as it notices, with one reading for all of them; requests do not wait for that, but are treated as if Redis were away.
//! Gateways register their open requests under the new epoch; the ledger's sums leave those requests out, and their
//! settlements add them. So each request counts once, whichever side of the rebuild it ends on, provided that its entry
//! reaches the ledger before it is settled here. For this Redis must lose all or nothing: run it without snapshots, or
//! with an append-only file.
//!
//! **When Redis is away**, requests are refused (`fail = "closed"`), or held to this gateway's share of what was left when
//! Redis was last heard of (`fail = "open"`), and booked when it is back. Of a gateway that ends before, the trees to which it
//! owes something are known to whoever takes its journal over, who has their counters built again (see `recount`).

mod delivery;
mod lease;
mod limits;
mod link;
mod node;
mod outage;
mod past;
mod rebuild;
mod recount;
mod registration;
mod reservations;
mod script;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use self::link::Link;
pub use self::link::LinkError;
use self::node::{Node, Open, present};
use self::rebuild::Rising;
pub use self::rebuild::{Past, Seeder};
use self::script::{Arguments, SCRIPTS};
use super::chain::Rule;
use super::memory::{MemoryQuota, SETTLE_LATE_MS};
use super::{Bound, CounterState};
use crate::config::quota::{QuotaFailure, Redis};
use crate::ids::{AccountId, RequestId};

/// How shared quotas are kept.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where Redis is.
    pub redis: Redis,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// What happens while it is away.
    pub fail: QuotaFailure,
    /// Gateways that share the counters.
    pub gateways: u32,
}

/// Counters and open reservations shared by several gateways.
pub struct RedisQuota {
    link: Link,
    fail: QuotaFailure,
    gateways: i128,
    seeder: Arc<dyn Seeder>,
    lease_ms: i64,
    gather: Duration,
    node: Mutex<Node>,
    /// One registration of this gateway's open requests at a time.
    registering: tokio::sync::Mutex<()>,
    /// What is admitted while Redis is away.
    share: MemoryQuota,
    latest_ms: AtomicI64,
    is_up: AtomicBool,
    /// Whether this gateway's clock was far from Redis's when they were last compared.
    clock_is_off: AtomicBool,
    /// How long a request waits for counters that are brought up.
    wait: Duration,
    rising: Mutex<Rising>,
    /// Tells that a tree's counters are there, or could not be had.
    risen: Notify,
    /// Since when Redis has kept its data, as this gateway knows it.
    since_ms: AtomicI64,
}

/// Why a call to a tree's counters gave no result.
#[derive(Debug)]
enum TreeError {
    Link(LinkError),
    /// The counters are being rebuilt and were not ready in time.
    Rebuild,
}

impl From<TreeError> for LinkError {
    fn from(error: TreeError) -> LinkError {
        match error {
            TreeError::Link(error) => error,
            TreeError::Rebuild => LinkError::Failed("counters are being rebuilt".to_owned()),
        }
    }
}

impl RedisQuota {
    /// A reservation that its gateway does not renew holds nothing after so long.
    pub const LEASE_MS: i64 = 10_000;
    /// How often [`RedisQuota::tick`] wants to be called.
    pub const TICK: Duration = Duration::from_millis(400);
    /// For how long gateways may register their open requests when counters are rebuilt: two ticks and a margin.
    const GATHER: Duration = Duration::from_millis(1_000);
    /// How long work beside the request path waits for counters that are brought up.
    const LONG_WAIT: Duration = Duration::from_secs(5);
    const LAST_MAX: usize = 200_000;

    /// Connects to nothing yet. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`LinkError::Address`].
    pub fn new(settings: &RedisSettings, seeder: Arc<dyn Seeder>) -> Result<RedisQuota, LinkError> {
        Ok(RedisQuota {
            link: Link::new(&settings.redis, settings.timeout)?,
            fail: settings.fail,
            gateways: i128::from(settings.gateways.max(1)),
            seeder,
            lease_ms: Self::LEASE_MS,
            gather: Self::GATHER,
            node: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            share: MemoryQuota::default(),
            latest_ms: AtomicI64::new(i64::MIN),
            is_up: AtomicBool::new(true),
            clock_is_off: AtomicBool::new(false),
            wait: settings.timeout,
            rising: Mutex::default(),
            risen: Notify::new(),
            since_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// Whether this gateway goes on with its share of the limits while Redis is away.
    pub fn fails_open(&self) -> bool {
        self.fail == QuotaFailure::Open
    }

    /// Whether Redis answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Open requests of this gateway, and settlements that Redis has not taken yet.
    pub fn backlog(&self) -> (usize, usize) {
        let node = self.lock();
        (node.open.len(), node.owed.len())
    }

    /// As [`super::Quota::begin_generation`].
    pub fn begin_generation(&self, generation: u64) -> HashSet<RequestId> {
        let mut node = self.lock();
        node.generation = node.generation.max(generation);
        node.open.keys().copied().collect()
    }

    /// As [`super::Quota::state`]: while Redis is away, what it last said.
    pub async fn state(self: &Arc<Self>, rule: &Arc<Rule>, now: Timestamp) -> CounterState {
        let latest_ms = self.advance(now);
        let bound = Bound::new(rule, now);
        let answer = self
            .in_tree(&rule.root, self.wait, &SCRIPTS.state, |epoch| {
                let mut arguments = Arguments::new(epoch, latest_ms);
                arguments.number(1);
                arguments.counter(&bound);
                arguments.number(bound.window.start_ms);
                arguments.cell(&bound);
                arguments
            })
            .await;
        match answer {
            Ok((_, mut answer)) => {
                answer.text();
                answer.state()
            }
            Err(_) => self.lock().last_of(&bound, now),
        }
    }

    /// As [`super::Quota::fullest`], as far as this gateway knows.
    pub fn fullest(&self, count: usize, now: Timestamp) -> Vec<(Arc<Rule>, CounterState)> {
        let node = self.lock();
        let present = node
            .last
            .values()
            .filter(|last| last.window_end_ms > now.as_millisecond());
        super::memory::fullest(present.map(|last| (&last.rule, last.state)), count)
    }

    async fn call(
        &self,
        root: &AccountId,
        script: &redis::Script,
        arguments: &Arguments,
    ) -> Result<Vec<String>, TreeError> {
        let answer = self.link.call(script, root.as_str(), arguments).await;
        self.heard(answer.as_ref().err());
        answer.map_err(TreeError::Link)
    }

    /// Notes whether Redis answered, and logs when that has changed.
    fn heard(&self, error: Option<&LinkError>) {
        let was_up = self.is_up.swap(error.is_none(), Ordering::Relaxed);
        match (was_up, error, self.fail) {
            (true, Some(error), QuotaFailure::Closed) => {
                tracing::error!(%error, "shared quotas are away: requests that count against limits are refused");
            }
            (true, Some(error), QuotaFailure::Open) => {
                tracing::error!(%error, "shared quotas are away: requests are held to this gateway's share of what was left");
            }
            (false, None, _) => tracing::info!("shared quotas are back"),
            _ => {}
        }
    }

    /// The latest moment that any call has named.
    fn advance(&self, now: Timestamp) -> i64 {
        let now_ms = now.as_millisecond();
        self.latest_ms
            .fetch_max(now_ms, Ordering::Relaxed)
            .max(now_ms)
    }

    fn lock(&self) -> MutexGuard<'_, Node> {
        // Nothing under the lock can panic half-way through a change.
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RedisQuota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisQuota")
            .field("fail", &self.fail)
            .finish_non_exhaustive()
    }
}
