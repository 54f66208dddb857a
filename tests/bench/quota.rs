//! What one admission costs: `cargo bench --bench quota`; with `WEIR_TEST_REDIS=redis://…` also in that Redis: one at a
//! time, and 2,000 a second that begin at random moments.
//!
//! In memory the figure is the median of single calls, each timed by itself: a machine that does other work moves it least.
//!
//! A tree of depth 4 with eight limits on seven counters: cost per month at each level, tokens per minute, requests in a
//! rolling window and concurrency at the leaf, and a second, warning limit on one of the counters.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use jiff::civil::date;

use weir::account::Directory;
use weir::config::{QuotaFailure, Redis, RedisTopology};
use weir::ids::{AccountId, RequestId};
use weir::money::Money;
use weir::plan::{Account, Action, Amount, Limit, Measure, Period, Plan, Window};
use weir::quota::chain::{Chain, Chains};
use weir::quota::memory::MemoryQuota;
use weir::quota::{Demand, Past, Quota, RedisSettings, Seeder};
use weir::secret::Secret;

const DEMAND: Demand = Demand {
    cost: Money::from_picos(412_500_000),
    input_tokens: 1_000,
    output_tokens: 500,
};

fn admission(_: &mut Criterion) {
    for accounts in [1, 100_000] {
        let chains = leaves(accounts);
        let quota = MemoryQuota::default();
        // Every account has made a request before, as on a gateway that has run for a while.
        for chain in &chains {
            let (id, now) = (RequestId::new(), Timestamp::now());
            let mut bounds = chain.bounds("gpt-4o-mini", now);
            let admitted = quota.reserve(id, &mut bounds, &DEMAND, now, Timestamp::MAX);
            assert_eq!(admitted, Ok(()));
            assert!(quota.settle(id, &DEMAND, now).is_ok());
        }
        const COUNT: usize = 500_000;
        let (mut turn, mut admissions, mut settlements) = (0, Vec::new(), Vec::new());
        for _ in 0..COUNT {
            // A stride without a common divisor visits every account.
            turn = (turn + 7_919) % chains.len();
            let (id, now) = (RequestId::new(), Timestamp::now());
            let Some(chain) = chains.get(turn) else {
                continue;
            };
            let began = Instant::now();
            let mut bounds = chain.bounds("gpt-4o-mini", now);
            let _ = black_box(quota.reserve(id, &mut bounds, &DEMAND, now, Timestamp::MAX));
            let admitted = Instant::now();
            let _ = black_box(quota.settle(id, &DEMAND, now));
            settlements.push(admitted.elapsed());
            admissions.push(admitted - began);
        }
        for (what, mut took) in [("admission", admissions), ("settlement", settlements)] {
            took.sort_unstable();
            let median = took.get(took.len() / 2).copied().unwrap_or_default();
            println!("{what} in memory, depth 4, {accounts} accounts: median {median:?}");
        }
    }
}

/// The same in Redis: one round trip to reserve and one to settle.
fn shared_admission(c: &mut Criterion) {
    let Ok(url) = std::env::var("WEIR_TEST_REDIS") else {
        println!("skipped: WEIR_TEST_REDIS is not set");
        return;
    };
    let settings = RedisSettings {
        redis: Redis {
            urls: vec![Secret::new(url)],
            topology: RedisTopology::Single,
            tls_ca: None,
        },
        timeout: Duration::from_millis(500),
        fail: QuotaFailure::Closed,
        gateways: 1,
    };
    let Ok(runtime) = tokio::runtime::Runtime::new() else {
        return;
    };
    let quota = runtime.block_on(async { Quota::redis(&settings, Arc::new(NoLedger)) });
    let chains = leaves(1);
    let (Ok(quota), [chain]) = (quota, chains.as_slice()) else {
        return;
    };
    let quota = Arc::new(quota);
    // As a gateway does before it listens: an empty Redis takes a second.
    let roots = chain.root().cloned().into_iter().collect();
    runtime.block_on(quota.start(roots, Timestamp::now()));
    steady(&runtime, &quota, chain);
    c.bench_function("reserve and settle in Redis, depth 4", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let (id, now) = (RequestId::new(), Timestamp::now());
                let mut bounds = chain.bounds("gpt-4o-mini", now);
                quota
                    .reserve(id, &mut bounds, &DEMAND, now, Timestamp::MAX)
                    .await
                    .ok()?;
                quota.settle(id, &DEMAND, now).await.ok()
            })
        });
    });
}

/// 2,000 admissions a second for ten seconds, at random moments as independent clients make them, whatever the others do;
/// each is settled 20 ms later. Prints how long admissions took, from the moment at which the runtime was told of them.
///
/// Paced by this thread: the runtime's own timer counts in milliseconds, and all of one millisecond would begin at once.
fn steady(runtime: &tokio::runtime::Runtime, quota: &Arc<Quota>, chain: &Chain) {
    const RATE: f64 = 2_000.0;
    const COUNT: usize = 20_000;
    const ANSWER: Duration = Duration::from_millis(20);
    let mut random = fastrand::Rng::with_seed(1);
    let mut at = Duration::ZERO;
    let admissions: Vec<(Duration, RequestId)> = (0..COUNT)
        .map(|_| {
            at += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / RATE);
            (at, RequestId::new())
        })
        .collect();
    let mut events: Vec<(Duration, RequestId, bool)> = admissions
        .iter()
        .flat_map(|&(at, id)| [(at, id, true), (at + ANSWER, id, false)])
        .collect();
    events.sort_unstable_by_key(|&(at, ..)| at);

    let began = Instant::now();
    let (mut reserved, mut settled) = (Vec::with_capacity(COUNT), Vec::with_capacity(COUNT));
    for (at, id, is_admission) in events {
        std::thread::sleep(at.saturating_sub(began.elapsed()));
        let (quota, chain, told) = (Arc::clone(quota), chain.clone(), Instant::now());
        if is_admission {
            reserved.push(runtime.spawn(async move {
                let now = Timestamp::now();
                let mut bounds = chain.bounds("gpt-4o-mini", now);
                let admitted = quota
                    .reserve(id, &mut bounds, &DEMAND, now, Timestamp::MAX)
                    .await;
                admitted.is_ok().then(|| told.elapsed())
            }));
        } else {
            settled.push(runtime.spawn(async move {
                let settled = quota.settle(id, &DEMAND, Timestamp::now()).await;
                settled.is_ok()
            }));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let (mut took, settled) = runtime.block_on(async {
        let (mut took, mut count) = (Vec::with_capacity(COUNT), 0);
        for one in reserved {
            took.extend(one.await.ok().flatten());
        }
        for one in settled {
            count += usize::from(one.await.is_ok_and(|settled| settled));
        }
        (took, count)
    });
    took.sort_unstable();
    let at = |share: usize| {
        took.get(took.len() * share / 1000)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{} of {COUNT} admitted and {settled} settled in {seconds:.2} s; admission p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}",
        took.len(),
        at(500),
        at(900),
        at(990),
        at(999)
    );
}

/// Nothing was used before.
struct NoLedger;

impl Seeder for NoLedger {
    fn flush(&self) -> Result<(), String> {
        Ok(())
    }

    fn used(&self, _: &HashSet<AccountId>, _: &HashSet<RequestId>) -> Result<Past, String> {
        Ok(Past::default())
    }

    fn owe(&self, _: &AccountId) {}

    fn paid(&self) {}

    fn owed_by_the_dead(&self) -> Vec<AccountId> {
        Vec::new()
    }

    fn given_up(&self, _: &[AccountId]) {}
}

fn leaves(accounts: usize) -> Vec<Chain> {
    let limit = |on, max, per, then| Limit {
        on,
        max,
        per,
        models: Vec::new(),
        then,
        warn_at_ppm: vec![800_000, 950_000],
        queue_ms: 0,
    };
    let money = |usd| Amount::Money(Money::from_usd(usd));
    let month = Some(Window::Month);
    let budget = limit(Measure::Cost, money(1_000_000_000), month, Action::Block);
    let many = Amount::Count(u64::MAX);
    let plan = |id: &str, limits| Plan {
        id: id.into(),
        price: Money::ZERO,
        currency: Arc::from("USD"),
        period: Period::Month,
        limits,
        fixed_cost: Money::ZERO,
        payment_fee: Default::default(),
        overage: None,
        trial_days: 0,
    };
    let plans = [
        plan("team", vec![budget.clone()]),
        plan(
            "app",
            vec![
                budget.clone(),
                limit(Measure::Cost, money(500_000_000), month, Action::Warn),
                limit(Measure::Tokens, many, Some(Window::Minute), Action::Block),
                limit(
                    Measure::Requests,
                    many,
                    Some(Window::Rolling(18_000_000)),
                    Action::Block,
                ),
                limit(Measure::Concurrent, many, None, Action::Block),
            ],
        ),
    ];
    let account = |id: String, plan: &str, parent: Option<&str>| Account {
        id: id.as_str().into(),
        plan: plan.into(),
        parent: parent.map(Into::into),
        since: date(2025, 1, 31),
        until: None,
        name: None,
        currency: None,
        tags: Vec::new(),
        limits: Vec::new(),
    };
    let above = [
        account("company".into(), "team", None),
        account("division".into(), "team", Some("company")),
        account("team".into(), "team", Some("division")),
    ];
    let below = (0..accounts).map(|at| account(format!("app-{at}"), "app", Some("team")));
    let (directory, _) = Directory::build(plans, above.into_iter().chain(below), []);
    let chains = Chains::compile(&directory);
    (0..accounts)
        .filter_map(|at| chains.chain(&format!("app-{at}").as_str().into(), &"none".into()))
        .collect()
}

criterion_group!(benches, admission, shared_admission);
criterion_main!(benches);
