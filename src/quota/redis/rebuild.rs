//! Epochs: a tree's counters are built from the ledger when Redis does not have them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::script::{Answer, Arguments, SCRIPTS};
use super::{Open, RedisQuota, TreeError, reserve_arguments};
use crate::ids::{AccountId, RequestId};
use crate::period::{WindowSpan, span};
use crate::plan::{Measure, Window};
use crate::quota::chain::Rule;
use crate::quota::{Bound, CounterId, Use};

/// Where the counters of trees are read when Redis does not have them: the ledger.
///
/// Both methods block and are called on threads made for it.
pub trait Seeder: Send + Sync {
    /// Brings this gateway's closed entries into the store, as far as that can be done at once.
    fn flush(&self);

    /// What the accounts and keys of the trees under `roots` have used in the present windows of their limits, without
    /// the requests in `except`.
    ///
    /// # Errors
    /// A text for the operator when the ledger cannot be read; the rebuild is then tried again.
    fn used(
        &self,
        roots: &HashSet<AccountId>,
        except: &HashSet<RequestId>,
    ) -> Result<Vec<Use>, String>;
}

/// Trees whose counters this gateway is bringing up.
#[derive(Debug, Default)]
pub(super) struct Rising {
    trees: HashMap<AccountId, Rise>,
    /// Trees that are this gateway's to build, from their next common reading of the ledger.
    wanted: Vec<Wanted>,
    is_building: bool,
}

#[derive(Clone, Copy, Debug)]
enum Rise {
    Working,
    Failed(Instant),
}

/// A tree that is this gateway's to build, and who waits for it.
#[derive(Debug)]
struct Wanted {
    root: AccountId,
    epoch: Arc<str>,
    done: oneshot::Sender<bool>,
}

/// What Redis says of a tree.
enum Step {
    Ready,
    /// Another gateway builds it.
    Wait,
    /// It is this gateway's to build, in that epoch.
    Seed(Arc<str>),
}

impl RedisQuota {
    /// A rebuild that gives no sign for longer is begun again by another gateway.
    const REBUILD_MS: i64 = 15_000;
    const SIGN: Duration = Duration::from_secs(5);
    const POLL: Duration = Duration::from_millis(20);
    const POLL_MAX: Duration = Duration::from_millis(320);
    /// A failed rebuild is begun again after so long.
    const RETRY: Duration = Duration::from_secs(1);
    /// How long a task waits for a tree that another gateway builds before it gives up.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// Trees that are asked about, or built from one reading of the ledger, at the same time.
    const TREES_MAX: usize = 512;
    /// Calls that are under way at the same time.
    const CALLS_MAX: usize = 64;

    /// Calls a script with the epoch of its tree. Where the tree has no counters, these are brought up by a task of its own,
    /// for which this call waits `wait` at most.
    pub(super) async fn in_tree(
        self: &Arc<Self>,
        root: &AccountId,
        wait: Duration,
        script: &redis::Script,
        arguments: impl Fn(&str) -> Arguments,
    ) -> Result<(Arc<str>, Answer), TreeError> {
        let deadline = Instant::now() + wait;
        loop {
            let known = self.lock().epochs.get(root).cloned();
            if let Some(epoch) = known {
                let answer = self.call(root, script, &arguments(&epoch)).await?;
                if answer.first().map(String::as_str) != Some("epoch") {
                    return Ok((epoch, Answer::new(answer)));
                }
            }
            self.raise(root);
            self.await_rise(root, deadline).await?;
        }
    }

    /// Brings up the counters of many trees, those that need it.
    pub(super) async fn raise_all(self: &Arc<Self>, roots: impl IntoIterator<Item = AccountId>) {
        let mut rising = JoinSet::new();
        for root in roots {
            if rising.len() >= Self::TREES_MAX {
                rising.join_next().await;
            }
            let quota = Arc::clone(self);
            rising.spawn(async move {
                quota.raise(&root);
                let deadline = Instant::now() + Self::PATIENCE;
                let _ = quota.await_rise(&root, deadline).await;
            });
        }
        while rising.join_next().await.is_some() {}
    }

    /// Begins to bring up a tree's counters, unless that was begun before or has failed a moment ago.
    pub(super) fn raise(self: &Arc<Self>, root: &AccountId) {
        {
            let mut rising = self.rising();
            match rising.trees.get(root) {
                Some(Rise::Working) => return,
                Some(Rise::Failed(at)) if at.elapsed() < Self::RETRY => return,
                _ => rising.trees.insert(root.clone(), Rise::Working),
            };
        }
        let (quota, root) = (Arc::clone(self), root.clone());
        tokio::spawn(async move {
            let risen = quota.try_raise(&root).await;
            {
                let mut rising = quota.rising();
                if risen {
                    rising.trees.remove(&root);
                } else {
                    rising.trees.insert(root, Rise::Failed(Instant::now()));
                }
                if rising.trees.len() > 4 * Self::TREES_MAX {
                    let fresh = |rise: &Rise| match rise {
                        Rise::Working => true,
                        Rise::Failed(at) => at.elapsed() < Self::RETRY,
                    };
                    rising.trees.retain(|_, rise| fresh(rise));
                }
            }
            quota.risen.notify_waiters();
        });
    }

    /// Waits until nobody here works on the tree.
    async fn await_rise(&self, root: &AccountId, deadline: Instant) -> Result<(), TreeError> {
        loop {
            let risen = self.risen.notified();
            tokio::pin!(risen);
            risen.as_mut().enable();
            match self.rising().trees.get(root) {
                Some(Rise::Working) => {}
                Some(Rise::Failed(_)) => return Err(TreeError::Rebuild),
                None if Instant::now() >= deadline => return Err(TreeError::Rebuild),
                None => return Ok(()),
            }
            if tokio::time::timeout_at(deadline, risen).await.is_err() {
                return Err(TreeError::Rebuild);
            }
        }
    }

    async fn try_raise(self: &Arc<Self>, root: &AccountId) -> bool {
        let patience = Instant::now() + Self::PATIENCE;
        let mut pause = Self::POLL;
        while Instant::now() < patience {
            match self.step(root).await {
                Ok(Step::Ready) => return true,
                Ok(Step::Wait) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Self::POLL_MAX);
                }
                Ok(Step::Seed(epoch)) => {
                    let (done, built) = oneshot::channel();
                    self.want(Wanted {
                        root: root.clone(),
                        epoch,
                        done,
                    });
                    if built.await != Ok(true) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        false
    }

    /// Learns how the tree stands, and registers this gateway's requests there.
    async fn step(self: &Arc<Self>, root: &AccountId) -> Result<Step, TreeError> {
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
        Ok(match verdict.as_str() {
            "ready" => Step::Ready,
            "seed" => Step::Seed(epoch),
            _ => Step::Wait,
        })
    }

    /// Puts a tree into line. All that are in line are built together: the ledger is read once for them.
    fn want(self: &Arc<Self>, wanted: Wanted) {
        {
            let mut rising = self.rising();
            rising.wanted.push(wanted);
            if std::mem::replace(&mut rising.is_building, true) {
                return;
            }
        }
        let quota = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let wanted = {
                    let mut rising = quota.rising();
                    if rising.wanted.is_empty() {
                        rising.is_building = false;
                        return;
                    }
                    std::mem::take(&mut rising.wanted)
                };
                quota.let_others_register().await;
                quota.build(wanted).await;
            }
        });
    }

    /// Reads what trees have used from the ledger into their new epochs.
    async fn build(self: &Arc<Self>, wanted: Vec<Wanted>) {
        let trees: Vec<(AccountId, Arc<str>)> = wanted
            .iter()
            .map(|wanted| (wanted.root.clone(), Arc::clone(&wanted.epoch)))
            .collect();
        tracing::info!(
            trees = trees.len(),
            "quota counters are not in Redis: building them from the ledger"
        );
        let joined = self.each(&trees, |quota, root, epoch| async move {
            quota.phase(&root, &epoch, "reading").await
        });
        let mut roots = HashSet::new();
        let mut except = HashSet::new();
        for (root, joined) in joined.await {
            if let Ok(joined) = joined {
                let ids = joined.iter().skip(1);
                except.extend(ids.filter_map(|id| id.parse().ok().map(RequestId)));
                roots.insert(root);
            }
        }
        let used = self.read_ledger(&trees, roots.clone(), except).await;
        let built: HashSet<AccountId> = match used {
            Ok(used) => {
                let now = self.latest();
                let mut by_root: HashMap<AccountId, Vec<Use>> = HashMap::new();
                for past in used {
                    by_root
                        .entry(past.rule.root.clone())
                        .or_default()
                        .push(past);
                }
                let by_root = Arc::new(by_root);
                let seeded = self.each(&trees, |quota, root, epoch| {
                    let (by_root, is_read) = (Arc::clone(&by_root), roots.contains(&root));
                    async move {
                        if !is_read {
                            return Err(TreeError::Rebuild);
                        }
                        let used = by_root.get(&root).map_or(&[][..], Vec::as_slice);
                        // Each limit's past once: a limit that is new may have been given its own meanwhile, by whichever
                        // gateway took it into force first.
                        for (rule, uses) in by_counter(used) {
                            let latest_ms = quota.latest().as_millisecond();
                            let booked = by_cell(uses, now);
                            let once = once(rule, now);
                            let arguments = seed_arguments(&epoch, latest_ms, &once, &booked, now);
                            quota.call(&root, &SCRIPTS.seed, &arguments).await?;
                        }
                        quota.phase(&root, &epoch, "ready").await
                    }
                });
                let seeded = seeded.await.into_iter();
                seeded
                    .filter_map(|(root, seeded)| seeded.is_ok().then_some(root))
                    .collect()
            }
            Err(reason) => {
                tracing::warn!(reason, "quota counters could not be built from the ledger");
                let failed = self.each(&trees, |quota, root, epoch| async move {
                    quota.phase(&root, &epoch, "failed").await
                });
                failed.await;
                HashSet::new()
            }
        };
        for wanted in wanted {
            let is_built = built.contains(&wanted.root);
            // Who waited may have given up.
            let _ = wanted.done.send(is_built);
        }
    }

    /// Reads the ledger on a thread of its own, and meanwhile tells other gateways that it goes on.
    async fn read_ledger(
        self: &Arc<Self>,
        trees: &[(AccountId, Arc<str>)],
        roots: HashSet<AccountId>,
        except: HashSet<RequestId>,
    ) -> Result<Vec<Use>, String> {
        let seeder = Arc::clone(&self.seeder);
        let mut reading = tokio::task::spawn_blocking(move || {
            seeder.flush();
            seeder.used(&roots, &except)
        });
        loop {
            match tokio::time::timeout(Self::SIGN, &mut reading).await {
                Ok(read) => return read.map_err(|error| error.to_string())?,
                Err(_) => {
                    let signs = self.each(trees, |quota, root, epoch| async move {
                        quota.phase(&root, &epoch, "goes on").await
                    });
                    signs.await;
                }
            }
        }
    }

    async fn phase(
        &self,
        root: &AccountId,
        epoch: &str,
        phase: &str,
    ) -> Result<Vec<String>, TreeError> {
        let mut arguments = Arguments::new(epoch, self.latest().as_millisecond());
        arguments.text(phase);
        arguments.number(Self::REBUILD_MS);
        self.call(root, &SCRIPTS.phase, &arguments).await
    }

    /// Does the same for many trees, some at a time.
    async fn each<T: Send + 'static, W: Future<Output = T> + Send + 'static>(
        self: &Arc<Self>,
        trees: &[(AccountId, Arc<str>)],
        work: impl Fn(Arc<Self>, AccountId, Arc<str>) -> W,
    ) -> Vec<(AccountId, T)> {
        let mut tasks = JoinSet::new();
        let mut done = Vec::with_capacity(trees.len());
        for (root, epoch) in trees {
            if tasks.len() >= Self::CALLS_MAX {
                done.extend(tasks.join_next().await.and_then(Result::ok));
            }
            let (root, epoch) = (root.clone(), Arc::clone(epoch));
            let task = work(Arc::clone(self), root.clone(), epoch);
            tasks.spawn(async move { (root, task.await) });
        }
        while let Some(one) = tasks.join_next().await {
            done.extend(one.ok());
        }
        done
    }

    fn rising(&self) -> MutexGuard<'_, Rising> {
        // Nothing under the lock can panic half-way through a change.
        self.rising.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers this gateway's open requests of a tree in an epoch that does not have them. It is this that keeps the
    /// rebuild from counting them, so the ledger is flushed of those that have just ended first.
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

    fn latest(&self) -> Timestamp {
        let latest_ms = self.latest_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(latest_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Use by the counter that it is booked in, with one of the rules that count there.
pub(super) fn by_counter<'a>(
    uses: impl IntoIterator<Item = &'a Use>,
) -> Vec<(&'a Arc<Rule>, Vec<&'a Use>)> {
    let mut by_counter: HashMap<&CounterId, (&Arc<Rule>, Vec<&Use>)> = HashMap::new();
    for past in uses {
        let of_counter = by_counter.entry(&past.rule.counter);
        let (_, uses) = of_counter.or_insert((&past.rule, Vec::new()));
        uses.push(past);
    }
    by_counter.into_values().collect()
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
        if past.rule.is_rolling() {
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

/// Under what name the past use of a limit is booked once in an epoch: for each window, since a changed billing day makes
/// new ones.
pub(super) fn once(rule: &Rule, now: Timestamp) -> String {
    let counter = &rule.counter;
    match rule.per {
        Some(Window::Rolling(_)) | None => counter.to_string(),
        Some(per) => {
            let window = span(per, rule.billing, now);
            format!("{}:{}:{counter}", window.start_ms, window.end_ms)
        }
    }
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
