//! What one admission costs: `cargo bench --bench quota`; with `WEIR_TEST_REDIS=redis://…` also in that Redis.
//!
//! A tree of depth 4 with eight limits on seven counters: cost per month at each level, tokens per minute, requests in a
//! rolling window and concurrency at the leaf, and a second, warning limit on one of the counters.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use jiff::civil::date;

use weir::account::Directory;
use weir::config::{QuotaFailure, Redis, RedisTopology};
use weir::ids::{AccountId, RequestId};
use weir::money::Money;
use weir::plan::{Account, Action, Amount, Limit, Measure, Period, Plan, Window};
use weir::quota::chain::{Chain, Chains};
use weir::quota::memory::MemoryQuota;
use weir::quota::{Demand, Quota, RedisSettings, Seeder, Use};
use weir::secret::Secret;

const DEMAND: Demand = Demand {
    cost: Money::from_picos(412_500_000),
    input_tokens: 1_000,
    output_tokens: 500,
};

fn admission(c: &mut Criterion) {
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
        let mut turn = 0;
        let name = format!("reserve and settle, depth 4, {accounts} accounts");
        c.bench_function(&name, |b| {
            b.iter_batched(
                || {
                    // A stride without a common divisor visits every account.
                    turn = (turn + 7_919) % chains.len();
                    let chain = chains.get(turn).cloned();
                    (RequestId::new(), chain, Timestamp::now())
                },
                |(id, chain, now)| {
                    let mut bounds = chain?.bounds("gpt-4o-mini", now);
                    quota
                        .reserve(id, &mut bounds, &DEMAND, now, Timestamp::MAX)
                        .ok()?;
                    black_box(quota.settle(id, &DEMAND, now)).ok()
                },
                BatchSize::SmallInput,
            );
        });
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

/// Nothing was used before.
struct NoLedger;

impl Seeder for NoLedger {
    fn flush(&self) {}

    fn used(&self, _: &AccountId, _: &HashSet<RequestId>) -> Result<Vec<Use>, String> {
        Ok(Vec::new())
    }
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
