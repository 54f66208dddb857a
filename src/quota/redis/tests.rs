//! Against a real Redis of their own, since they stop it and make it lose its data. Without a `redis-server` on the machine
//! they are skipped and say so.

mod agreement;
mod leases;
mod limits;
mod lost_data;
mod outage;
mod recount;

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use tokio::task::JoinSet;

use super::*;
use crate::config::quota::RedisTopology;
use crate::money::Money;
use crate::plan::{Action, Amount, Limit, Measure, Window};
use crate::quota::chain::Chain;
use crate::quota::naive::single;
use crate::quota::{Demand, ReserveError, SettleError, Use};
use crate::secret::Secret;

/// A Redis of the test's own, stopped at its end.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    /// `None`, with a printed line, if there is no `redis-server`.
    async fn start() -> Option<Server> {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let folder = tempfile::tempdir().unwrap();
            let Ok(child) = launch(port, folder.path()) else {
                println!("skipped: there is no redis-server here");
                return None;
            };
            let mut server = Server {
                child,
                port,
                folder,
            };
            if server.answers().await {
                return Some(server);
            }
        }
        panic!("redis-server did not start");
    }

    /// Waits until it answers; `false` if it ended instead, its port taken by another.
    async fn answers(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await {
                drop(stream);
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Stops and starts it: it keeps no data.
    async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = launch(self.port, self.folder.path()).unwrap();
        assert!(self.answers().await);
    }

    /// Lets it hang (`STOP`) or go on (`CONT`).
    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    fn node(&self, ledger: &Arc<Ledger>, fail: QuotaFailure) -> Arc<RedisQuota> {
        self.node_on(&Journal::of(ledger), fail)
    }

    fn node_on(&self, journal: &Arc<Journal>, fail: QuotaFailure) -> Arc<RedisQuota> {
        let settings = RedisSettings {
            redis: Redis {
                urls: vec![Secret::new(format!("redis://127.0.0.1:{}", self.port))],
                topology: RedisTopology::Single,
                tls_ca: None,
            },
            // The machine may be busy with other tests.
            timeout: Duration::from_millis(400),
            fail,
            gateways: 2,
        };
        let seeder = Arc::clone(journal) as Arc<dyn Seeder>;
        let mut quota = RedisQuota::new(&settings, seeder).unwrap();
        quota.gather = Duration::from_millis(150);
        // Requests of these tests would rather wait for a tree that is new.
        quota.wait = Duration::from_millis(2_500);
        Arc::new(quota)
    }
}

fn launch(port: u16, folder: &std::path::Path) -> std::io::Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string()])
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the ledger has: for each request the use of a limit.
#[derive(Default)]
struct Ledger(Mutex<Vec<(RequestId, Use)>>);

impl Ledger {
    fn write(&self, id: RequestId, chain: &Chain, actual: &Demand, at: Timestamp) {
        for rule in chain.rules("gpt-4o").filter(|rule| rule.counts) {
            let units = actual.units(rule.counter.on());
            let rule = Arc::clone(rule);
            self.0.lock().unwrap().push((id, Use { rule, at, units }));
        }
    }

    fn sum(&self, on: Measure) -> i128 {
        let entries = self.0.lock().unwrap();
        let of_measure = entries
            .iter()
            .filter(|(_, past)| past.rule.counter.on() == on);
        of_measure.map(|(_, past)| past.units).sum()
    }

    fn used(&self, roots: &HashSet<AccountId>, except: &HashSet<RequestId>) -> Past {
        let entries = self.0.lock().unwrap();
        let wanted = entries
            .iter()
            .filter(|(id, past)| roots.contains(&past.rule.root) && !except.contains(id));
        let uses: Vec<Use> = wanted.map(|(_, past)| past.clone()).collect();
        let rules = uses.iter().map(|past| Arc::clone(&past.rule)).collect();
        Past { rules, uses }
    }
}

/// One gateway's way to the ledger.
#[derive(Default)]
struct Journal {
    ledger: Arc<Ledger>,
    /// What has not reached the store yet.
    spooled: Ledger,
    store_is_away: AtomicBool,
    /// How often it could not be flushed.
    refused: AtomicUsize,
    owed: Mutex<HashSet<AccountId>>,
    left: Mutex<HashSet<AccountId>>,
}

impl Journal {
    fn of(ledger: &Arc<Ledger>) -> Arc<Journal> {
        Arc::new(Journal {
            ledger: Arc::clone(ledger),
            ..Journal::default()
        })
    }

    /// The one that takes this one over: its gateway is gone.
    fn heir(&self) -> Arc<Journal> {
        self.flush().unwrap();
        Arc::new(Journal {
            ledger: Arc::clone(&self.ledger),
            left: Mutex::new(self.owed().into_iter().chain(self.left()).collect()),
            ..Journal::default()
        })
    }

    fn owed(&self) -> Vec<AccountId> {
        self.owed.lock().unwrap().iter().cloned().collect()
    }

    fn left(&self) -> Vec<AccountId> {
        self.left.lock().unwrap().iter().cloned().collect()
    }
}

impl Seeder for Journal {
    fn flush(&self) -> Result<(), String> {
        if self.store_is_away.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err("the store is away".to_owned());
        }
        let mut spooled = self.spooled.0.lock().unwrap();
        self.ledger.0.lock().unwrap().append(&mut spooled);
        Ok(())
    }

    fn used(
        &self,
        roots: &HashSet<AccountId>,
        except: &HashSet<RequestId>,
    ) -> Result<Past, String> {
        Ok(self.ledger.used(roots, except))
    }

    fn owe(&self, root: &AccountId) {
        self.owed.lock().unwrap().insert(root.clone());
    }

    fn paid(&self) {
        self.owed.lock().unwrap().clear();
    }

    fn owed_by_the_dead(&self) -> Vec<AccountId> {
        self.left()
    }

    fn given_up(&self, roots: &[AccountId]) {
        let mut left = self.left.lock().unwrap();
        left.retain(|root| !roots.contains(root));
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// An account with a budget of so many dollars a month, and a limit on concurrency that does not matter.
fn budget(usd: i64) -> Chain {
    let limit = |on, max, per| Limit {
        on,
        max,
        per,
        models: Vec::new(),
        then: Action::Block,
        warn_at_ppm: vec![500_000],
        queue_ms: 0,
    };
    single(vec![
        limit(
            Measure::Cost,
            Amount::Money(Money::from_usd(usd)),
            Some(Window::Month),
        ),
        limit(Measure::Concurrent, Amount::Count(1_000), None),
    ])
}

fn usd(usd: i64) -> Demand {
    Demand {
        cost: Money::from_usd(usd),
        ..Demand::default()
    }
}

async fn reserve(
    node: &Arc<RedisQuota>,
    chain: &Chain,
    demand: &Demand,
) -> Result<RequestId, ReserveError> {
    let id = RequestId::new();
    let mut bounds = chain.bounds("gpt-4o", now());
    let expires_at = now()
        .saturating_add(jiff::SignedDuration::from_mins(10))
        .unwrap();
    node.reserve(id, &mut bounds, demand, now(), expires_at)
        .await
        .map(|()| id)
}

async fn cost(node: &Arc<RedisQuota>, chain: &Chain) -> (i128, i128) {
    let state = node
        .state(chain.rules("gpt-4o").next().unwrap(), now())
        .await;
    (
        state.used / 1_000_000_000_000,
        state.reserved / 1_000_000_000_000,
    )
}

/// Lets a gateway go on beside the test, as its task does.
fn running(node: &Arc<RedisQuota>) -> JoinSet<()> {
    let node = Arc::clone(node);
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            node.tick(now()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    task
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
