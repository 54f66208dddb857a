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
pub mod redis;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::bound::{Bound, CounterId, CounterState, Demand, Owner};
use self::chain::Rule;
use self::memory::MemoryQuota;
pub use self::redis::{LinkError, Past, RedisQuota, RedisSettings, Seeder};
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

    /// As [`Quota::reserve`], but where the refusing limit lets requests queue and there will be room in time (open
    /// requests hold the rest, or a window ends), it waits for that, at most for the limit's `queue` in all.
    /// The bounds then move on to the window of the moment at which the request was admitted.
    ///
    /// # Errors
    /// As [`Quota::reserve`]; the refusal is the last one.
    pub async fn reserve_or_wait(
        &self,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        open_at_most: SignedDuration,
        clock: impl Fn() -> Timestamp,
    ) -> Result<(), ReserveError> {
        let started = Instant::now();
        loop {
            // Listening begins before the question, so that nothing freed in between is missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let now = clock();
            let expires_at = now.saturating_add(open_at_most).unwrap_or(Timestamp::MAX);
            let answer = self.reserve(id, bounds, demand, now, expires_at).await;
            let Err(ReserveError::Denied(denied)) = answer else {
                return answer;
            };
            let queue_ms = bounds
                .get(denied.bound)
                .map_or(0, |bound| bound.rule.queue_ms);
            let deadline = started + Duration::from_millis(u64::from(queue_ms));
            let ends = denied.retry_at.map(|at| Instant::now() + until(now, at));
            let in_vain = denied.settled && ends.is_none_or(|ends| ends > deadline);
            if in_vain || Instant::now() >= deadline {
                return answer;
            }
            let next_look = ends.map_or(deadline, |ends| ends.min(deadline));
            // A timeout is no failure: it is the moment to look again.
            let _ = tokio::time::timeout_at(next_look.min(self.poll_at()), freed).await;
            let now = clock();
            bounds.iter_mut().for_each(|bound| bound.refresh(now));
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

    /// When a waiting request looks again though nothing told it to.
    fn poll_at(&self) -> Instant {
        Instant::now()
            + match &self.keeper {
                Keeper::Memory(_) => Duration::from_millis(250),
                // What other gateways free, nothing tells.
                Keeper::Redis(_) => Duration::from_millis(30),
            }
    }
}

/// Which part of its counter goes with a limit: the cell of its present window, or of a rolling one all (`None`).
fn gone_cell(rule: &Arc<Rule>, now: Timestamp) -> Option<WindowSpan> {
    (!rule.is_rolling()).then(|| Bound::new(rule, now).cell)
}

/// From `now` to `at`, at least a millisecond: a wait that makes progress.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    let wait = at.duration_since(now);
    Duration::try_from(wait)
        .unwrap_or_default()
        .max(Duration::from_millis(1))
}

/// A request that would pass a limit. Nothing is held for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Index of the bound that refused, in the slice given to `reserve`. Of several, the one that stays shut longest.
    pub bound: usize,
    /// Whether what is *settled* leaves too little (waiting for open requests is useless); else open reservations hold
    /// the rest.
    pub settled: bool,
    /// The latest moment at which enough will be free, whatever the open requests turn out to use: the window's end, or
    /// when enough use has left a rolling window. `None` if only open requests can free it (concurrency), or nothing
    /// can (the request alone is larger than the limit).
    pub retry_at: Option<Timestamp>,
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// A limit has no room.
    #[error("a limit has no room for the request")]
    Denied(Denied),
    /// The request holds a reservation already (or, topping one up, holds none).
    #[error("the request's reservation is not in the state that this call needs")]
    WrongState,
    /// More open requests than a gateway keeps track of.
    #[error("too many requests are open")]
    TooMany,
    /// The shared counters did not answer in time and the configuration says that requests then stop.
    #[error("the shared quota is unavailable")]
    Unavailable,
}

/// Use of the past: what a limit counts of one or more requests that were admitted at a moment.
#[derive(Clone, Debug)]
pub struct Use {
    /// The limit.
    pub rule: Arc<Rule>,
    /// When they were admitted.
    pub at: Timestamp,
    /// In the units of what the limit measures.
    pub units: i128,
}

/// How a reservation was settled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    /// What was used above what was reserved. It is charged all the same.
    pub overrun: Demand,
    /// Marks of `warn_at` that this settlement reached for the first time in their window.
    pub crossings: Vec<Crossing>,
    /// The generation of limits that had begun when it was settled ([`Quota::begin_generation`]).
    pub generation: u64,
}

/// A warning mark reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// The limit.
    pub rule: Arc<Rule>,
    /// The window in which it was reached.
    pub window: WindowSpan,
    /// The mark, in parts per million of the limit's maximum.
    pub mark_ppm: u32,
    /// What the window holds now.
    pub state: CounterState,
}

/// Why a reservation was not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The request holds no reservation: it was settled or released before. Nothing was changed.
    #[error("the request holds no reservation: it was settled or released before")]
    AlreadyEnded,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, Amount, Limit, Measure, Window};

    fn limit(on: Measure, per: Option<Window>, queue_ms: u32) -> Limit {
        Limit {
            on,
            max: Amount::Count(1),
            per,
            models: Vec::new(),
            then: Action::Block,
            warn_at_ppm: Vec::new(),
            queue_ms,
        }
    }

    async fn try_in(quota: &Quota, limit: Limit) -> (RequestId, Result<(), ReserveError>) {
        let id = RequestId::new();
        let mut bounds = naive::single(vec![limit]).bounds("gpt-4o", Timestamp::now());
        let open_at_most = SignedDuration::from_mins(1);
        let answer = quota
            .reserve_or_wait(
                id,
                &mut bounds,
                &Demand::default(),
                open_at_most,
                Timestamp::now,
            )
            .await;
        (id, answer)
    }

    #[tokio::test]
    async fn a_request_waits_until_an_open_one_ends() {
        let quota = Quota::memory();
        let concurrent = limit(Measure::Concurrent, None, 60_000);
        let (first, admitted) = try_in(&quota, concurrent.clone()).await;
        assert_eq!(admitted, Ok(()));
        let ((_, waited), released) = tokio::join!(try_in(&quota, concurrent), async {
            tokio::task::yield_now().await;
            quota.release(first, Timestamp::now()).await
        });
        assert_eq!((waited, released), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_its_limit_says_and_not_in_vain() {
        let quota = Quota::memory();
        let started = Instant::now();
        try_in(&quota, limit(Measure::Concurrent, None, 0))
            .await
            .1
            .unwrap();
        let (_, refused) = try_in(&quota, limit(Measure::Concurrent, None, 20)).await;
        assert!(matches!(refused, Err(ReserveError::Denied(_))));
        assert!(started.elapsed() >= Duration::from_millis(20));

        let monthly = || limit(Measure::Requests, Some(Window::Month), 3_600);
        let (id, admitted) = try_in(&quota, monthly()).await;
        admitted.unwrap();
        quota
            .settle(id, &Demand::default(), Timestamp::now())
            .await
            .unwrap();
        let (_, refused) = try_in(&quota, monthly()).await;
        assert!(matches!(refused, Err(ReserveError::Denied(denied)) if denied.settled));
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_request_waits_for_the_end_of_a_short_window() {
        let quota = Quota::memory();
        let brief = || limit(Measure::Requests, Some(Window::Rolling(50)), 10_000);
        let (id, _) = try_in(&quota, brief()).await;
        quota
            .settle(id, &Demand::default(), Timestamp::now())
            .await
            .unwrap();
        let (_, admitted) = try_in(&quota, brief()).await;
        assert_eq!(admitted, Ok(()));
    }
}
