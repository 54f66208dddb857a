//! Epochs: a tree's counters are built from the ledger when Redis does not have them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::past::{built_arguments, by_cell, by_counter, once, seed_arguments};
use super::script::{Answer, Arguments, SCRIPTS};
use super::{RedisQuota, TreeError};
use crate::ids::{AccountId, RequestId};
use crate::quota::Use;
use crate::quota::chain::Rule;

/// Where the counters of trees are read when Redis does not have them: the ledger.
///
/// [`Seeder::flush`] and [`Seeder::used`] block and are called on threads made for it.
pub trait Seeder: Send + Sync {
    /// Brings this gateway's closed entries into the store.
    ///
    /// # Errors
    /// A text for the operator when they do not get there in a moment: what is then read of the ledger lacks them.
    fn flush(&self) -> Result<(), String>;

    /// What the accounts and keys of the trees under `roots` have used in the present windows of their limits, without
    /// the requests in `except`.
    ///
    /// # Errors
    /// A text for the operator when the ledger cannot be read; the rebuild is then tried again.
    fn used(&self, roots: &HashSet<AccountId>, except: &HashSet<RequestId>)
    -> Result<Past, String>;

    /// Keeps a tree's name for whoever takes over from this gateway, should it end before [`Seeder::paid`]: its counters
    /// lack something that only this gateway knows.
    fn owe(&self, root: &AccountId);

    /// No tree's counters lack anything of this gateway.
    fn paid(&self);

    /// Trees whose counters lack something of gateways that are gone.
    fn owed_by_the_dead(&self) -> Vec<AccountId>;

    /// These trees' counters are no more: they will be read from the ledger.
    fn given_up(&self, roots: &[AccountId]);
}

/// What the ledger knows of some limits.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The limits that were looked at.
    pub rules: Vec<Arc<Rule>>,
    /// What was used of them.
    pub uses: Vec<Use>,
}

/// Trees whose counters this gateway is bringing up.
#[derive(Debug, Default)]
pub(super) struct Rising {
    trees: HashMap<AccountId, Rise>,
    /// Trees that are this gateway's to build, from their next common reading of the ledger.
    wanted: Vec<Wanted>,
    pub(super) is_building: bool,
}

impl Rising {
    pub(super) fn forget_failed(&mut self) {
        self.trees.retain(|_, rise| matches!(rise, Rise::Working));
    }
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
#[derive(Debug)]
pub(super) enum Step {
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
    pub(super) const CALLS_MAX: usize = 64;

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
    pub(super) async fn step(self: &Arc<Self>, root: &AccountId) -> Result<Step, TreeError> {
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
            Ok(Past { rules, uses }) => {
                let now = self.latest();
                let mut by_root: HashMap<AccountId, Past> = HashMap::new();
                for rule in rules {
                    by_root
                        .entry(rule.root.clone())
                        .or_default()
                        .rules
                        .push(rule);
                }
                for used in uses {
                    by_root
                        .entry(used.rule.root.clone())
                        .or_default()
                        .uses
                        .push(used);
                }
                let by_root = Arc::new(by_root);
                let seeded = self.each(&trees, |quota, root, epoch| {
                    let (by_root, is_read) = (Arc::clone(&by_root), roots.contains(&root));
                    async move {
                        if !is_read {
                            return Err(TreeError::Rebuild);
                        }
                        let past = by_root.get(&root);
                        let used = past.map_or(&[][..], |past| &past.uses);
                        // Each limit's past once: a limit that is new may have been given its own meanwhile, by whichever
                        // gateway took it into force first.
                        for (rule, uses) in by_counter(used) {
                            let latest_ms = quota.latest().as_millisecond();
                            let booked = by_cell(uses, now);
                            let once = once(rule, now);
                            let arguments = seed_arguments(&epoch, latest_ms, &once, &booked, now);
                            quota.call(&root, &SCRIPTS.seed, &arguments).await?;
                        }
                        let rules = past.map_or(&[][..], |past| &past.rules);
                        let latest_ms = quota.latest().as_millisecond();
                        let arguments = built_arguments(&epoch, latest_ms, rules.iter());
                        quota.call(&root, &SCRIPTS.built, &arguments).await?;
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
    ) -> Result<Past, String> {
        let seeder = Arc::clone(&self.seeder);
        let mut reading = tokio::task::spawn_blocking(move || {
            // Counters without what is still on its way would let it be spent again.
            seeder.flush()?;
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

    pub(super) async fn phase(
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

    pub(super) fn rising(&self) -> MutexGuard<'_, Rising> {
        // Nothing under the lock can panic half-way through a change.
        self.rising.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn latest(&self) -> Timestamp {
        let latest_ms = self.latest_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(latest_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
