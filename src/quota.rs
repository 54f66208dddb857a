//! Quotas: reserve an upper bound before a request, settle the truth after it.
//!
//! Pure where it can be: every call takes `now`. [`chain`] turns an account tree into the limits that a request counts
//! against; beneath are two keepers of counters, [`memory`] for one gateway and [`redis`] for several. Both give the
//! same answers.
//!
//! The rules that both keep:
//! - A request reserves on all of its counters or on none.
//! - It counts in the window in which it was admitted, whenever it ends.
//! - What is settled replaces what was reserved, even where it is more (an overrun is charged and reported).
//! - Each reservation ends once: a second settlement is an error and changes nothing.

mod bound;
pub mod chain;
pub mod memory;
#[cfg(test)]
mod naive;
mod queue;
pub mod redis;
mod verdict;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use self::bound::gone_cell;
pub use self::bound::{Bound, CounterId, CounterState, Demand, Owner, Use};
use self::chain::Rule;
use self::memory::MemoryQuota;
pub use self::redis::{LinkError, Past, RedisQuota, RedisSettings, Seeder};
pub use self::verdict::{Crossing, Denied, ReserveError, SettleError, Settled};
use crate::ids::{AccountId, RequestId};
pub use crate::period::WindowSpan;

/// The one handle to counters and reservations, wherever they are kept.
#[derive(Debug)]
pub struct Quota {
    keeper: Keeper,
    /// Tells requests that wait for room that something was given back.
    freed: Notify,
}

#[derive(Debug)]
enum Keeper {
    Memory(MemoryQuota),
    Redis(Arc<RedisQuota>),
}

impl Quota {
    /// How often [`Quota::tick`] wants to be called.
    pub const TICK: Duration = RedisQuota::TICK;

    /// Counters in this process.
    pub fn memory() -> Quota {
        Quota {
            keeper: Keeper::Memory(MemoryQuota::default()),
            freed: Notify::new(),
        }
    }

    /// Counters in Redis, shared with other gateways. Connects to nothing yet; must be called inside a Tokio runtime.
    /// `seeder` reads from the ledger what Redis does not have.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn redis(settings: &RedisSettings, seeder: Arc<dyn Seeder>) -> Result<Quota, LinkError> {
        Ok(Quota {
            keeper: Keeper::Redis(Arc::new(RedisQuota::new(settings, seeder)?)),
            freed: Notify::new(),
        })
    }

    /// Whether other gateways count in the same counters; these need no rebuild when this gateway starts.
    pub fn is_shared(&self) -> bool {
        matches!(self.keeper, Keeper::Redis(_))
    }

    /// To be called once, before requests, with the accounts at the top of all trees. Shared counters are brought up then,
    /// which takes a second if they were empty, and five at most.
    pub async fn start(&self, roots: Vec<AccountId>, now: Timestamp) {
        if let Keeper::Redis(redis) = &self.keeper {
            Box::pin(redis.start(roots, now)).await;
        }
    }

    /// Says which trees are new, so that no request has to wait for their counters. Must be called inside a Tokio runtime.
    pub fn prepare(&self, roots: Vec<AccountId>) {
        if let Keeper::Redis(redis) = &self.keeper {
            redis.prepare(roots);
        }
    }

    /// Keeps shared counters going: see [`RedisQuota::tick`]. To be called every [`Quota::TICK`] by a task of its own.
    pub async fn tick(&self, now: Timestamp) {
        if let Keeper::Redis(redis) = &self.keeper {
            Box::pin(redis.tick(now)).await;
        }
    }

    /// Whether this gateway goes on by itself while shared counters cannot be reached.
    pub fn fails_open(&self) -> bool {
        match &self.keeper {
            Keeper::Memory(_) => false,
            Keeper::Redis(redis) => redis.fails_open(),
        }
    }

    /// How many settlements shared counters have not taken yet.
    pub fn owed(&self) -> usize {
        match &self.keeper {
            Keeper::Memory(_) => 0,
            Keeper::Redis(redis) => redis.owed(),
        }
    }

    /// Whether the counters can be reached.
    pub fn is_up(&self) -> bool {
        match &self.keeper {
            Keeper::Memory(_) => true,
            Keeper::Redis(redis) => redis.is_up(),
        }
    }

    /// Holds `demand` on every bound, or on none. Fills in each bound's `state`, admitted or not.
    ///
    /// A reservation that is neither settled nor released by `expires_at` holds nothing from then on.
    ///
    /// # Errors
    /// [`ReserveError::Denied`] names the limit that has no room.
    pub async fn reserve(
        &self,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), ReserveError> {
        match &self.keeper {
            Keeper::Memory(memory) => memory.reserve(id, bounds, demand, now, expires_at),
            Keeper::Redis(redis) => {
                Box::pin(redis.reserve(id, bounds, demand, now, expires_at)).await
            }
        }
    }

    /// Holds `more` for an open request beside what it holds already, on all of its limits or on none. Requests and
    /// concurrency are not counted again. `bound` of a refusal is the index in the slice that was given to `reserve`.
    ///
    /// # Errors
    /// [`ReserveError::WrongState`] if the request holds no reservation.
    pub async fn top_up(
        &self,
        id: RequestId,
        more: &Demand,
        now: Timestamp,
    ) -> Result<(), ReserveError> {
        match &self.keeper {
            Keeper::Memory(memory) => memory.top_up(id, more, now),
            Keeper::Redis(redis) => Box::pin(redis.top_up(id, more, now)).await,
        }
    }

    /// Replaces what a request holds by what it used, in the windows in which it was admitted.
    ///
    /// # Errors
    /// [`SettleError::AlreadyEnded`] if it holds nothing: then nothing is charged.
    pub async fn settle(
        &self,
        id: RequestId,
        actual: &Demand,
        now: Timestamp,
    ) -> Result<Settled, SettleError> {
        let answer = match &self.keeper {
            Keeper::Memory(memory) => memory.settle(id, actual, now),
            Keeper::Redis(redis) => Box::pin(redis.settle(id, actual, now)).await,
        };
        self.freed.notify_waiters();
        answer
    }

    /// Settles a request of a gateway that died, if shared counters still hold it; they do for an hour. What was settled
    /// before stays as it is. Counters in memory died with their gateway, and are rebuilt with its entries.
    ///
    /// # Errors
    /// When shared counters cannot be reached: to be tried again.
    pub async fn settle_for_dead(
        &self,
        id: RequestId,
        bounds: Vec<Bound>,
        actual: &Demand,
        now: Timestamp,
    ) -> Result<(), LinkError> {
        match &self.keeper {
            Keeper::Memory(_) => Ok(()),
            Keeper::Redis(redis) => Box::pin(redis.settle_for_dead(id, bounds, actual, now)).await,
        }
    }

    /// Gives back all that a request holds: it used nothing and does not count.
    ///
    /// # Errors
    /// [`SettleError::AlreadyEnded`] if it holds nothing.
    pub async fn release(&self, id: RequestId, now: Timestamp) -> Result<(), SettleError> {
        let answer = match &self.keeper {
            Keeper::Memory(memory) => memory.release(id, now),
            Keeper::Redis(redis) => Box::pin(redis.release(id, now)).await,
        };
        self.freed.notify_waiters();
        answer
    }

    /// Takes limits into force that are to be found in shared counters by all gateways: `trees` has every counting limit of
    /// each tree in which something changed, also trees that have none any more. Says which of them the caller is to give
    /// their past ([`Quota::seed`]): those to which no gateway has given it yet. Counters in memory are this gateway's own:
    /// there it is whatever it `added`.
    ///
    /// # Errors
    /// When shared counters cannot be reached.
    pub async fn adopt(
        &self,
        trees: HashMap<AccountId, Vec<Arc<Rule>>>,
        added: &[Arc<Rule>],
        now: Timestamp,
    ) -> Result<Vec<Arc<Rule>>, LinkError> {
        match &self.keeper {
            Keeper::Memory(_) => Ok(added.to_vec()),
            Keeper::Redis(redis) => Box::pin(redis.adopt(trees, now)).await,
        }
    }

    /// Adds use that no reservation stands for: for limits whose counters are new, what the ledger says was used so far.
    /// It gives no warnings: they were given when the use was new. Counters in Redis take all use of a limit from
    /// whichever gateway comes first, and none from the others, so `past` must have all of it.
    ///
    /// # Errors
    /// When shared counters cannot be reached.
    pub async fn seed(&self, past: &Past, now: Timestamp) -> Result<(), LinkError> {
        match &self.keeper {
            Keeper::Memory(memory) => {
                memory.seed(&past.uses, now);
                Ok(())
            }
            Keeper::Redis(redis) => Box::pin(redis.seed(past, now)).await,
        }
    }

    /// Adds what a request used to limits that are younger than its reservation. It gives no warnings.
    ///
    /// # Errors
    /// When shared counters cannot be reached.
    pub async fn add(&self, uses: &[Use], now: Timestamp) -> Result<(), LinkError> {
        match &self.keeper {
            Keeper::Memory(memory) => {
                memory.seed(uses, now);
                Ok(())
            }
            Keeper::Redis(redis) => Box::pin(redis.add(uses, now)).await,
        }
    }

    /// Forgets what limits that are gone hold in their present windows, open requests included: should such a limit come
    /// back within its window, it is filled anew, and requests that are then open add themselves ([`Quota::add`]). Shared
    /// counters stay: other gateways may still hold requests to them.
    pub fn forget(&self, rules: &[Arc<Rule>], now: Timestamp) {
        match &self.keeper {
            Keeper::Memory(memory) => memory.forget(rules, now),
            Keeper::Redis(redis) => redis.forget(rules, now),
        }
    }

    /// Takes note of what limits have used, for as long as shared counters cannot be asked: what this gateway's share of a
    /// limit is reckoned from. To be called once, at a start without them or by a gateway that goes on without them.
    pub fn remember(&self, uses: &[Use], now: Timestamp) {
        if let Keeper::Redis(redis) = &self.keeper {
            redis.remember(uses, now);
        }
    }

    /// Begins a generation of limits: a cut through this gateway's settlements. Requests that are open at the cut, which it
    /// returns, and those that are reserved later learn of it when they settle ([`Settled::generation`]); all others have
    /// been settled before.
    pub fn begin_generation(&self, generation: u64) -> HashSet<RequestId> {
        match &self.keeper {
            Keeper::Memory(memory) => memory.begin_generation(generation),
            Keeper::Redis(redis) => redis.begin_generation(generation),
        }
    }

    /// What the window of a limit holds.
    pub async fn state(&self, rule: &Arc<Rule>, now: Timestamp) -> CounterState {
        match &self.keeper {
            Keeper::Memory(memory) => memory.state(rule, now),
            Keeper::Redis(redis) => Box::pin(redis.state(rule, now)).await,
        }
    }

    /// The `count` limits of each measure that are nearest to their maximum, fullest first, as far as this gateway knows.
    pub fn fullest(&self, count: usize, now: Timestamp) -> Vec<(Arc<Rule>, CounterState)> {
        match &self.keeper {
            Keeper::Memory(memory) => memory.fullest(count, now),
            Keeper::Redis(redis) => redis.fullest(count, now),
        }
    }
}
