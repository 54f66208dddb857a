//! Any sequence of reservations, settlements and releases: no admission above a limit, each reservation ends once, nothing is
//! held at the end, and what was used is the sum of what was settled.
#![no_main]

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use weir::account::Directory;
use weir::ids::RequestId;
use weir::money::Money;
use weir::plan::{Account, Action, Amount, Limit, Measure, Period, Plan, Window};
use weir::quota::Demand;
use weir::quota::chain::{Chain, Chains};
use weir::quota::memory::MemoryQuota;

const MODEL: &str = "gpt-4o";

fuzz_target!(|data: &[u8]| {
    let chain = chain();
    let quota = MemoryQuota::default();
    let mut open: Vec<(RequestId, Demand)> = Vec::new();
    let mut settled = Demand::default();
    let mut now: Timestamp = "2026-06-01T00:00:00Z".parse().expect("a moment");
    for step in data.chunks_exact(4) {
        let &[operation, which, amount, wait] = step else {
            return;
        };
        // 200 steps of at most 4 hours stay within the year's window.
        now += SignedDuration::from_secs(i64::from(wait).pow(2) / 5);
        let demand = Demand {
            cost: Money::from_picos(i128::from(amount) * 1_000_000_007),
            input_tokens: u64::from(amount),
            output_tokens: u64::from(which),
        };
        let chosen = (!open.is_empty()).then(|| usize::from(which) % open.len().max(1));
        match (operation % 8, chosen) {
            (0..=3, _) if open.len() < 200 => {
                let id = RequestId::new();
                let mut bounds = chain.bounds(MODEL, now);
                let expires = now + SignedDuration::from_hours(24 * 365);
                let admitted = quota
                    .reserve(id, &mut bounds, &demand, now, expires)
                    .is_ok();
                for bound in &bounds {
                    assert!(bound.state.used >= 0 && bound.state.reserved >= 0);
                    let held = bound.state.used + bound.state.reserved;
                    if admitted && bound.enforced {
                        assert!(held <= bound.rule.max.units(), "{bound:?}");
                    }
                }
                if admitted {
                    assert!(
                        quota
                            .reserve(id, &mut bounds, &demand, now, expires)
                            .is_err()
                    );
                    open.push((id, demand));
                }
            }
            (4 | 5, Some(at)) => {
                let (id, held) = open.swap_remove(at);
                let done = quota.settle(id, &demand, now).expect("it is open");
                assert_eq!(done.overrun, demand.above(&held));
                settled = settled.plus(&demand);
                assert!(quota.settle(id, &demand, now).is_err());
                assert!(quota.release(id, now).is_err());
            }
            (6, Some(at)) => {
                let (id, _) = open.swap_remove(at);
                quota.release(id, now).expect("it is open");
                assert!(quota.settle(id, &demand, now).is_err());
            }
            (7, Some(at)) => {
                let (id, held) = &mut open[at];
                if quota.top_up(*id, &demand, now).is_ok() {
                    *held = held.plus(&demand);
                }
            }
            _ => {}
        }
        assert_eq!(quota.open(), open.len());
    }
    for (id, _) in open {
        quota.release(id, now).expect("it is open");
    }
    for bound in chain.bounds(MODEL, now) {
        let state = quota.state(&bound.rule, now);
        assert_eq!(state.reserved, 0, "{bound:?}");
        if bound.rule.counter.per() == Some(Window::Period) {
            assert_eq!(
                state.used,
                settled.units(bound.rule.counter.on()),
                "{bound:?}"
            );
        }
    }
});

/// An account under a parent, with every kind of window and measure between them.
fn chain() -> Chain {
    let limit = |on, max, per, then| Limit {
        on,
        max,
        per,
        models: Vec::new(),
        then,
        warn_at_ppm: vec![500_000, 900_000],
        queue_ms: 0,
    };
    let money = |dollars: i128| Amount::Money(Money::from_picos(dollars * 1_000_000_000_000));
    let parent = vec![
        limit(Measure::Cost, money(3), Some(Window::Period), Action::Block),
        limit(
            Measure::Tokens,
            Amount::Count(2_000),
            Some(Window::Rolling(18_000_000)),
            Action::Block,
        ),
        limit(Measure::Concurrent, Amount::Count(30), None, Action::Block),
    ];
    let child = vec![
        limit(Measure::Cost, money(1), Some(Window::Day), Action::Block),
        limit(
            Measure::OutputTokens,
            Amount::Count(300),
            Some(Window::Minute),
            Action::Warn,
        ),
        limit(
            Measure::InputTokens,
            Amount::Count(50_000),
            Some(Window::Period),
            Action::Block,
        ),
        limit(
            Measure::Requests,
            Amount::Count(20),
            Some(Window::Rolling(2_000)),
            Action::CapOutput(9),
        ),
    ];
    let plan = |id: &str, limits| Plan {
        id: id.into(),
        price: Money::ZERO,
        currency: "USD".into(),
        period: Period::Year,
        limits,
        fixed_cost: Money::ZERO,
        payment_fee: Default::default(),
        overage: None,
        trial_days: 0,
    };
    let account = |id: &str, parent: Option<&str>| Account {
        id: id.into(),
        plan: id.into(),
        parent: parent.map(Into::into),
        since: date(2026, 1, 1),
        until: None,
        name: None,
        currency: None,
        tags: Vec::new(),
        limits: Vec::new(),
    };
    let plans = [plan("parent", parent), plan("child", child)];
    let accounts = [account("parent", None), account("child", Some("parent"))];
    let (directory, errors) = Directory::build(plans, accounts, []);
    assert!(errors.is_empty());
    Chains::compile(&directory)
        .chain(&"child".into(), &"key".into())
        .expect("the account is there")
}
