//! Against a real Redis of their own, since they stop it and make it lose its data. Without a `redis-server` on the machine
//! they are skipped and say so.

use std::collections::HashSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::config::quota::RedisTopology;
use crate::money::Money;
use crate::plan::{Action, Amount, Limit, Window};
use crate::quota::chain::Chain;
use crate::quota::naive::{
    ACCOUNTS, Naive, START_MS, STEP_BACK_MS, Step, any_chains, any_steps, percent_of, single,
};
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
        let seeder = Arc::clone(ledger) as Arc<dyn Seeder>;
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
}

impl Seeder for Ledger {
    fn flush(&self) -> Result<(), String> {
        Ok(())
    }

    fn used(
        &self,
        roots: &HashSet<AccountId>,
        except: &HashSet<RequestId>,
    ) -> Result<Past, String> {
        let entries = self.0.lock().unwrap();
        let wanted = entries
            .iter()
            .filter(|(id, past)| roots.contains(&past.rule.root) && !except.contains(id));
        let uses: Vec<Use> = wanted.map(|(_, past)| past.clone()).collect();
        let rules = uses.iter().map(|past| Arc::clone(&past.rule)).collect();
        Ok(Past { rules, uses })
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

#[tokio::test]
async fn a_limit_that_comes_back_has_what_was_used_since_and_another_gateway_keeps_it_meanwhile() {
    let Some(server) = Server::start().await else {
        return;
    };
    let ledger = Arc::new(Ledger::default());
    let a = server.node(&ledger, QuotaFailure::Closed);
    let b = server.node(&ledger, QuotaFailure::Closed);
    let chain = budget(10);
    let limit = Arc::clone(chain.rules("gpt-4o").next().unwrap());
    let root = chain.root().unwrap();
    let tree = |rules: &[&Arc<Rule>]| {
        HashMap::from([(root.clone(), rules.iter().copied().cloned().collect())])
    };
    ledger.write(RequestId::new(), &chain, &usd(3), now());
    // Built from the ledger: it has its past.
    assert_eq!(a.adopt(tree(&[&limit]), now()).await.unwrap(), []);
    assert_eq!(cost(&a, &chain).await, (3, 0));

    // Gone from this gateway's file, and still in the other one's.
    assert_eq!(a.adopt(tree(&[]), now()).await.unwrap(), []);
    let id = reserve(&b, &chain, &usd(2)).await.unwrap();
    b.settle(id, &usd(2), now()).await.unwrap();
    ledger.write(id, &chain, &usd(2), now());
    assert_eq!(cost(&b, &chain).await, (5, 0));
    // What this gateway served meanwhile did not count there.
    ledger.write(RequestId::new(), &chain, &usd(1), now());

    // Back, at both at the same time: one of them gives it its past.
    let (found, other) = tokio::join!(
        a.adopt(tree(&[&limit]), now()),
        b.adopt(tree(&[&limit]), now())
    );
    let found = [found.unwrap(), other.unwrap()].concat();
    assert_eq!(found, [Arc::clone(&limit)]);
    let past = ledger
        .used(&HashSet::from([root.clone()]), &HashSet::new())
        .unwrap();
    a.seed(&past, now()).await.unwrap();
    assert_eq!(cost(&b, &chain).await, (6, 0));
    assert_eq!(b.adopt(tree(&[&limit]), now()).await.unwrap(), []);
}

#[tokio::test]
async fn a_clock_that_is_far_from_the_stores_is_noticed_until_it_is_right_again() {
    let Some(server) = Server::start().await else {
        return;
    };
    let node = server.node(&Arc::default(), QuotaFailure::Closed);
    let ahead = jiff::SignedDuration::from_secs(15);
    for (clock, is_off) in [(now(), false), (now() + ahead, true), (now(), false)] {
        node.tick(clock).await;
        assert_eq!(node.clock_is_off.load(Ordering::Relaxed), is_off, "{clock}");
    }
}

#[tokio::test]
async fn answers_are_those_of_a_list_of_everything_that_happened() {
    let Some(server) = Server::start().await else {
        return;
    };
    let histories = (any_chains(), any_steps(50), 0_u8..2);
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = Config {
            cases: Config::default().cases.min(1_000) / 4,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let verdict = runner.run(&histories, |(chains, steps, overrun)| {
            runtime.block_on(history(&server, chains, steps, overrun))
        });
        if let Err(error) = verdict {
            panic!("{error}");
        }
    })
    .await
    .unwrap();
}

async fn history(
    server: &Server,
    chains: crate::quota::chain::Chains,
    steps: Vec<Step>,
    overrun: u8,
) -> Result<(), TestCaseError> {
    let mut quota = Arc::into_inner(server.node(&Arc::default(), QuotaFailure::Closed)).unwrap();
    (quota.gather, quota.lease_ms) = (Duration::ZERO, i64::MAX / 4);
    let flushed: Result<String, _> = quota.link.command(&redis::cmd("FLUSHALL")).await;
    flushed.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let (quota, mut naive) = (Arc::new(quota), Naive::default());
    let (mut now_ms, mut latest_ms) = (START_MS, START_MS);
    let mut requests: Vec<(RequestId, Demand)> = Vec::new();
    for step in steps {
        let now = at(now_ms);
        match step {
            Step::Tick(ms) => {
                now_ms = (now_ms + ms).max(latest_ms - STEP_BACK_MS);
                latest_ms = latest_ms.max(now_ms);
                for rule in chains.rules() {
                    let state = quota.state(rule, at(now_ms)).await;
                    prop_assert_eq!(state, naive.state(rule, at(now_ms)), "{}", rule.counter);
                }
            }
            Step::Reserve(account, model, demand, open_ms) => {
                let id = RequestId::new();
                let name = ACCOUNTS[account];
                let chain = chains.chain(&name.into(), &name.into()).unwrap();
                let mut bounds = chain.bounds(model, now);
                let mut expected = bounds.clone();
                let expires_at = at(now_ms + open_ms);
                let answer = quota
                    .reserve(id, &mut bounds, &demand, now, expires_at)
                    .await;
                prop_assert_eq!(
                    answer,
                    naive.reserve(id, &mut expected, &demand, now, expires_at)
                );
                prop_assert_eq!(&bounds, &expected);
                if !bounds.is_empty() {
                    requests.push((id, demand));
                }
            }
            Step::TopUp(at, more) if !requests.is_empty() => {
                let at = at % requests.len();
                let (id, demand) = &mut requests[at];
                let answer = quota.top_up(*id, &more, now).await;
                prop_assert_eq!(answer, naive.top_up(*id, &more, now));
                if answer.is_ok() {
                    *demand = demand.plus(&more);
                }
            }
            Step::Settle(at, percent) if !requests.is_empty() => {
                let (id, demand) = requests[at % requests.len()];
                let actual = percent_of(&demand, percent + 20 * overrun);
                let answer = quota.settle(id, &actual, now).await.map(|mut settled| {
                    settled
                        .crossings
                        .iter_mut()
                        .for_each(|c| c.window = crate::period::WindowSpan::ALWAYS);
                    settled
                });
                prop_assert_eq!(answer, naive.settle(id, &actual, now));
            }
            Step::Release(at) if !requests.is_empty() => {
                let (id, _) = requests[at % requests.len()];
                prop_assert_eq!(quota.release(id, now).await, naive.release(id, now));
            }
            _ => {}
        }
    }
    for rule in chains.rules() {
        let state = quota.state(rule, at(now_ms)).await;
        prop_assert_eq!(state, naive.state(rule, at(now_ms)), "{}", rule.counter);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_never_pass_a_budget_and_can_use_nearly_all_of_it() {
    let Some(server) = Server::start().await else {
        return;
    };
    let chain = budget(50);
    let ledger = Arc::new(Ledger::default());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let node = server.node(&ledger, QuotaFailure::Closed);
        node.start(Vec::new(), now()).await;
        for client in 0_u64..16 {
            let (node, chain, ledger) = (Arc::clone(&node), chain.clone(), Arc::clone(&ledger));
            tasks.spawn(async move {
                for turn in 0..40 {
                    let demand = Demand {
                        cost: Money::from_picos(200_000_000_000),
                        ..Demand::default()
                    };
                    match reserve(&node, &chain, &demand).await {
                        Ok(id) if (client + turn) % 5 == 0 => {
                            node.release(id, now()).await.unwrap()
                        }
                        Ok(id) => {
                            let actual = percent_of(&demand, 20 + (client * 7 + turn) as u8 % 80);
                            tokio::task::yield_now().await;
                            ledger.write(id, &chain, &actual, now());
                            node.settle(id, &actual, now()).await.unwrap();
                        }
                        Err(ReserveError::Denied(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let spent = ledger.sum(Measure::Cost);
    let node = server.node(&ledger, QuotaFailure::Closed);
    let state = node
        .state(chain.rules("gpt-4o").next().unwrap(), now())
        .await;
    assert_eq!((state.used, state.reserved), (spent, 0));
    assert!(spent <= 50_000_000_000_000, "{spent}");
    assert!(spent >= 47_500_000_000_000, "{spent}");
}

#[tokio::test]
async fn what_a_dead_gateway_held_is_free_after_its_lease() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(10));
    let (dead, alive) = (
        server.node(&ledger, QuotaFailure::Closed),
        server.node(&ledger, QuotaFailure::Closed),
    );
    let kept = reserve(&alive, &chain, &usd(2)).await.unwrap();
    reserve(&dead, &chain, &usd(8)).await.unwrap();
    drop(dead);
    assert!(
        matches!(reserve(&alive, &chain, &usd(8)).await, Err(ReserveError::Denied(denied)) if !denied.settled)
    );
    for seconds in 1..=12 {
        alive
            .tick(
                now()
                    .saturating_add(jiff::SignedDuration::from_secs(seconds))
                    .unwrap(),
            )
            .await;
    }
    assert_eq!(cost(&alive, &chain).await, (0, 2));
    assert!(reserve(&alive, &chain, &usd(8)).await.is_ok());
    alive.settle(kept, &usd(2), now()).await.unwrap();
    assert_eq!(cost(&alive, &chain).await, (2, 8));
}

#[tokio::test]
async fn lost_data_is_built_again_and_every_request_counts_once() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let one = server.node(&ledger, QuotaFailure::Closed);
    let two = server.node(&ledger, QuotaFailure::Closed);
    let ended = reserve(&one, &chain, &usd(20)).await.unwrap();
    ledger.write(ended, &chain, &usd(15), now());
    one.settle(ended, &usd(15), now()).await.unwrap();
    let open = reserve(&one, &chain, &usd(10)).await.unwrap();
    let ends_first = reserve(&one, &chain, &usd(7)).await.unwrap();

    server.restart().await;
    // Gateway one, which has requests open, notices at a tick; gateway two is asked meanwhile.
    let asked = tokio::spawn({
        let (two, chain) = (Arc::clone(&two), chain.clone());
        async move {
            for _ in 0..200 {
                match reserve(&two, &chain, &usd(1)).await {
                    Err(ReserveError::Unavailable) => {
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                    answer => return answer,
                }
            }
            panic!("no answer");
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..3 {
        one.tick(now()).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // It ends while the counters are rebuilt, its entry in the ledger before that reads it.
    ledger.write(ends_first, &chain, &usd(5), now());
    one.settle(ends_first, &usd(5), now()).await.unwrap();
    let third = asked.await.unwrap().unwrap();
    one.tick(now()).await;
    assert_eq!(cost(&two, &chain).await, (20, 11));

    for (node, id, actual) in [(&one, open, 9), (&two, third, 1)] {
        ledger.write(id, &chain, &usd(actual), now());
        node.settle(id, &usd(actual), now()).await.unwrap();
    }
    assert_eq!(cost(&one, &chain).await, (30, 0));
    assert_eq!(ledger.sum(Measure::Cost), 30_000_000_000_000);
}

#[tokio::test]
async fn while_counters_are_built_again_requests_wait_no_longer_than_a_call_may_take() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let node = |fail| {
        let mut node = Arc::into_inner(server.node(&ledger, fail)).unwrap();
        node.wait = Duration::from_millis(40);
        node.gather = Duration::from_millis(1_500);
        Arc::new(node)
    };
    let (closed, open) = (node(QuotaFailure::Closed), node(QuotaFailure::Open));
    let roots: Vec<AccountId> = chain.root().cloned().into_iter().collect();
    for node in [&closed, &open] {
        node.start(roots.clone(), now()).await;
    }
    let id = reserve(&open, &chain, &usd(20)).await.unwrap();
    ledger.write(id, &chain, &usd(20), now());
    open.settle(id, &usd(20), now()).await.unwrap();
    assert!(reserve(&closed, &chain, &usd(1)).await.is_ok());

    server.restart().await;
    // Nobody asks: they notice by themselves.
    while !closed.is_up() || closed.since_ms().await.is_none() {
        closed.tick(now()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    closed.tick(now()).await;
    let asked = Instant::now();
    let refused = reserve(&closed, &chain, &usd(1)).await;
    assert_eq!(refused, Err(ReserveError::Unavailable));
    // By the share of what was left when Redis was last heard of.
    let shared = reserve(&open, &chain, &usd(30)).await;
    assert!(shared.is_ok(), "{shared:?}");
    let denied = reserve(&open, &chain, &usd(30)).await;
    assert!(matches!(denied, Err(ReserveError::Denied(_))), "{denied:?}");
    assert!(
        asked.elapsed() < Duration::from_millis(800),
        "{:?}",
        asked.elapsed()
    );

    let began = Instant::now();
    let admitted = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        closed.tick(now()).await;
        open.tick(now()).await;
        match reserve(&closed, &chain, &usd(1)).await {
            Err(ReserveError::Unavailable) if began.elapsed() < Duration::from_secs(10) => {}
            answer => break answer,
        }
    };
    assert!(admitted.is_ok(), "{admitted:?}");
    assert_eq!(cost(&closed, &chain).await.0, 20);
}

#[tokio::test]
async fn closed_counters_that_hang_refuse_in_time_and_late_settlements_count_once() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(100));
    let node = server.node(&ledger, QuotaFailure::Closed);
    let open = reserve(&node, &chain, &usd(10)).await.unwrap();
    server.signal("STOP");
    let asked = Instant::now();
    assert_eq!(
        reserve(&node, &chain, &usd(10)).await,
        Err(ReserveError::Unavailable)
    );
    assert!(asked.elapsed() < Duration::from_millis(900));
    // It was just found to be away: the next request does not wait for it at all.
    let asked = Instant::now();
    assert_eq!(
        reserve(&node, &chain, &usd(10)).await,
        Err(ReserveError::Unavailable)
    );
    assert!(asked.elapsed() < Duration::from_millis(50));
    assert!(node.settle(open, &usd(8), now()).await.is_ok());
    assert_eq!(
        node.settle(open, &usd(8), now()).await,
        Err(SettleError::AlreadyEnded)
    );
    assert_eq!(node.backlog(), (0, 1));

    server.signal("CONT");
    deliver(&node).await;
    assert_eq!(cost(&node, &chain).await.0, 8);
}

#[tokio::test]
async fn open_counters_that_hang_admit_this_gateways_share_and_book_it_later() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(100));
    let node = server.node(&ledger, QuotaFailure::Open);
    let open = reserve(&node, &chain, &usd(20)).await.unwrap();
    server.signal("STOP");
    // 80 dollars were left, of which half is this gateway's.
    let shared = reserve(&node, &chain, &usd(30)).await.unwrap();
    assert!(matches!(
        reserve(&node, &chain, &usd(11)).await,
        Err(ReserveError::Denied(_))
    ));
    let still_open = reserve(&node, &chain, &usd(10)).await.unwrap();
    node.settle(shared, &usd(25), now()).await.unwrap();
    node.settle(open, &usd(20), now()).await.unwrap();

    server.signal("CONT");
    deliver(&node).await;
    // The refused request was asked of a Redis that hung: what it then held ends with its lease.
    let later = now()
        .saturating_add(jiff::SignedDuration::from_secs(11))
        .unwrap();
    node.tick(now()).await;
    node.tick(later).await;
    assert_eq!(cost(&node, &chain).await, (45, 10));
    node.settle(still_open, &usd(9), later).await.unwrap();
    assert_eq!(cost(&node, &chain).await, (54, 0));
}

#[tokio::test]
async fn what_was_admitted_before_open_counters_hang_goes_on_within_this_gateways_share() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(100));
    let node = server.node(&ledger, QuotaFailure::Open);
    let open = reserve(&node, &chain, &usd(20)).await.unwrap();
    server.signal("STOP");
    // 80 dollars were left, of which half is this gateway's.
    node.top_up(open, &usd(30), now()).await.unwrap();
    node.top_up(open, &usd(10), now()).await.unwrap();
    let denied = node.top_up(open, &usd(1), now()).await;
    assert!(matches!(denied, Err(ReserveError::Denied(_))), "{denied:?}");
    node.settle(open, &usd(55), now()).await.unwrap();

    server.signal("CONT");
    deliver(&node).await;
    assert_eq!(cost(&node, &chain).await, (55, 0));
}

#[tokio::test]
async fn a_gateway_that_starts_while_redis_is_away_goes_by_what_the_ledger_says() {
    let Some(server) = Server::start().await else {
        return;
    };
    let chain = budget(100);
    let node = server.node(&Arc::default(), QuotaFailure::Open);
    server.signal("STOP");
    node.start(Vec::new(), now()).await;
    assert!(!node.is_up());
    let past = Use {
        rule: Arc::clone(chain.rules("gpt-4o").next().unwrap()),
        at: now(),
        units: usd(60).units(Measure::Cost),
    };
    node.remember(&[past], now());
    // 40 dollars are left, of which half is this gateway's.
    let denied = reserve(&node, &chain, &usd(21)).await;
    assert!(matches!(denied, Err(ReserveError::Denied(_))), "{denied:?}");
    assert!(reserve(&node, &chain, &usd(20)).await.is_ok());
    server.signal("CONT");
}

/// Ticks until Redis has taken everything.
async fn deliver(node: &Arc<RedisQuota>) {
    for _ in 0..200 {
        node.tick(now()).await;
        if node.backlog().1 == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} is still owed", node.backlog());
}
