//! The same answers as a list of everything that happened; one budget for several gateways.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::quota::naive::{
    ACCOUNTS, Naive, START_MS, STEP_BACK_MS, Step, any_chains, any_steps, percent_of,
};

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
