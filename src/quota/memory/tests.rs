//! What each rule of quotas means, and that memory keeps them all.

use super::super::naive::{
    ACCOUNTS, Naive, START_MS, STEP_BACK_MS, Step, any_chains, any_steps, percent_of, single,
};
use super::*;
use crate::money::Money;
use crate::period::WindowSpan;
use crate::plan::{Action, Amount, Limit, Measure, Window};
use crate::quota::chain::Chain;
use proptest::prelude::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// An account `a` whose plan has these limits, each `on max per`.
fn chain(limits: &[(Measure, u64, Option<Window>)]) -> Chain {
    let limits = limits.iter().map(|(on, max, per)| Limit {
        on: *on,
        max: match on {
            Measure::Cost => Amount::Money(Money::from_usd(*max as i64)),
            _ => Amount::Count(*max),
        },
        per: *per,
        models: Vec::new(),
        then: Action::Block,
        warn_at_ppm: vec![500_000, 800_000],
        queue_ms: 0,
    });
    single(limits.collect())
}

fn tokens(output_tokens: u64) -> Demand {
    Demand {
        output_tokens,
        ..Demand::default()
    }
}

struct Desk {
    quota: MemoryQuota,
    chain: Chain,
    now_ms: i64,
}

impl Desk {
    fn new(limits: &[(Measure, u64, Option<Window>)]) -> Desk {
        Desk {
            quota: MemoryQuota::default(),
            chain: chain(limits),
            now_ms: START_MS,
        }
    }

    fn reserve(&self, demand: Demand) -> Result<RequestId, ReserveError> {
        let id = RequestId::new();
        let mut bounds = self.chain.bounds("gpt-4o", at(self.now_ms));
        let expires_at = at(self.now_ms + 600_000);
        self.quota
            .reserve(id, &mut bounds, &demand, at(self.now_ms), expires_at)
            .map(|()| id)
    }

    fn settle(&self, id: RequestId, demand: Demand) -> Result<Settled, SettleError> {
        self.quota.settle(id, &demand, at(self.now_ms))
    }

    fn states(&self) -> Vec<(i128, i128)> {
        let rules = self.chain.rules("gpt-4o");
        rules
            .map(|rule| self.quota.state(rule, at(self.now_ms)))
            .map(|state| (state.used, state.reserved))
            .collect()
    }

    fn denied(&self, demand: Demand) -> (usize, bool, Option<i64>) {
        match self.reserve(demand) {
            Err(ReserveError::Denied(denied)) => {
                let retry_ms = denied.retry_at.map(Timestamp::as_millisecond);
                (
                    denied.bound,
                    denied.settled,
                    retry_ms.map(|ms| ms - self.now_ms),
                )
            }
            answer => panic!("{answer:?}"),
        }
    }
}

#[test]
fn a_request_holds_all_of_its_limits_or_none() {
    let desk = Desk::new(&[
        (Measure::OutputTokens, 100, Some(Window::Day)),
        (Measure::Requests, 1, Some(Window::Day)),
    ]);
    let first = desk.reserve(tokens(10)).unwrap();
    assert_eq!(desk.denied(tokens(10)).0, 1);
    assert_eq!(desk.states(), [(0, 10), (0, 1)]);
    desk.settle(first, tokens(7)).unwrap();
    assert_eq!(desk.states(), [(7, 0), (1, 0)]);
}

#[test]
fn a_second_settlement_is_an_error_and_charges_nothing() {
    let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
    let id = desk.reserve(tokens(10)).unwrap();
    desk.settle(id, tokens(10)).unwrap();
    assert_eq!(desk.settle(id, tokens(10)), Err(SettleError::AlreadyEnded));
    assert_eq!(
        desk.quota.release(id, at(desk.now_ms)),
        Err(SettleError::AlreadyEnded)
    );
    assert_eq!(desk.states(), [(10, 0)]);
}

#[test]
fn an_overrun_is_charged_and_reported() {
    let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
    let id = desk.reserve(tokens(10)).unwrap();
    assert_eq!(desk.settle(id, tokens(130)).unwrap().overrun, tokens(120));
    assert_eq!(desk.states(), [(130, 0)]);
}

#[test]
fn a_refusal_says_whether_open_requests_hold_the_rest_and_when_the_window_ends() {
    let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Minute))]);
    let id = desk.reserve(tokens(90)).unwrap();
    // 23:59:40 on the last day of February: the minute ends in 20 seconds.
    assert_eq!(desk.denied(tokens(20)), (0, false, Some(20_000)));
    desk.settle(id, tokens(90)).unwrap();
    assert_eq!(desk.denied(tokens(20)), (0, true, Some(20_000)));
    assert_eq!(desk.denied(tokens(101)), (0, true, None));
}

#[test]
fn of_several_limits_the_one_that_stays_shut_longest_answers() {
    let mut desk = Desk::new(&[
        (Measure::Requests, 1, Some(Window::Minute)),
        (Measure::Requests, 1, Some(Window::Day)),
        (Measure::OutputTokens, 10, Some(Window::Hour)),
    ]);
    desk.now_ms -= 12 * 3_600_000;
    let id = desk.reserve(tokens(1)).unwrap();
    desk.settle(id, tokens(1)).unwrap();
    assert_eq!(desk.denied(tokens(1)).0, 1);
    assert_eq!(desk.denied(tokens(11)).0, 2);
}

#[test]
fn a_rolling_window_frees_use_a_sixtieth_at_a_time() {
    let mut desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Rolling(60_000)))]);
    for _ in 0..10 {
        let id = desk.reserve(tokens(10)).unwrap();
        desk.settle(id, tokens(10)).unwrap();
        desk.now_ms += 1_000;
    }
    // The first three must leave; the third was booked two seconds after the first, in a part of one second.
    assert_eq!(
        desk.denied(tokens(30)),
        (0, true, Some(60_000 - 10_000 + 3_000))
    );
    desk.now_ms += 52_999;
    assert!(desk.reserve(tokens(30)).is_err());
    desk.now_ms += 1;
    assert!(desk.reserve(tokens(30)).is_ok());
}

#[test]
fn a_request_counts_in_the_window_in_which_it_was_admitted() {
    let mut desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Minute))]);
    let id = desk.reserve(tokens(100)).unwrap();
    desk.now_ms += 60_000;
    assert_eq!(desk.states(), [(0, 0)]);
    desk.settle(id, tokens(100)).unwrap();
    assert_eq!(desk.states(), [(0, 0)]);
    assert!(desk.reserve(tokens(100)).is_ok());
}

#[test]
fn an_expired_reservation_holds_nothing_but_its_late_settlement_is_charged() {
    let mut desk = Desk::new(&[
        (Measure::OutputTokens, 100, Some(Window::Month)),
        (Measure::Concurrent, 1, None),
    ]);
    desk.now_ms -= 1_000_000;
    let id = desk.reserve(tokens(100)).unwrap();
    desk.now_ms += 600_000;
    let other = desk.reserve(tokens(50)).unwrap();
    assert_eq!(desk.states(), [(0, 50), (0, 1)]);
    desk.settle(id, tokens(90)).unwrap();
    desk.settle(other, tokens(50)).unwrap();
    assert_eq!(desk.states(), [(140, 0), (0, 0)]);
}

#[test]
fn each_warning_mark_is_given_once_a_window() {
    let mut desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
    let mut marks = Vec::new();
    for _ in 0..10 {
        let id = desk.reserve(tokens(10)).unwrap();
        let settled = desk.settle(id, tokens(10)).unwrap();
        marks.extend(settled.crossings.iter().map(|c| (c.mark_ppm, c.state.used)));
    }
    assert_eq!(marks, [(500_000, 50), (800_000, 80)]);
    desk.now_ms += 86_400_000;
    let id = desk.reserve(tokens(90)).unwrap();
    assert_eq!(desk.settle(id, tokens(90)).unwrap().crossings.len(), 2);
}

#[test]
fn use_from_the_ledger_counts_and_warns_of_nothing_old() {
    let desk = Desk::new(&[(Measure::OutputTokens, 100, Some(Window::Day))]);
    let rule = Arc::clone(desk.chain.rules("gpt-4o").next().unwrap());
    let past = Use {
        rule,
        at: at(desk.now_ms - 3_600_000),
        units: 60,
    };
    desk.quota.seed(&[past], at(desk.now_ms));
    assert_eq!(desk.denied(tokens(41)), (0, true, Some(20_000)));
    let id = desk.reserve(tokens(20)).unwrap();
    let crossings = desk.settle(id, tokens(20)).unwrap().crossings;
    let marks: Vec<u32> = crossings.iter().map(|crossing| crossing.mark_ppm).collect();
    assert_eq!(marks, [800_000]);
}

#[test]
fn counters_whose_windows_are_over_are_given_up() {
    let quota = MemoryQuota::default();
    for hour in 0..50 {
        for account in 0..20 {
            let now = at(START_MS + hour * 3_600_000);
            let limit = Limit {
                on: Measure::Requests,
                max: Amount::Count(9),
                per: Some(Window::Minute),
                models: vec![crate::plan::ModelPattern::new(&format!(
                    "m{hour}-{account}*"
                ))],
                then: Action::Block,
                warn_at_ppm: Vec::new(),
                queue_ms: 0,
            };
            let id = RequestId::new();
            let mut bounds = single(vec![limit]).bounds(&format!("m{hour}-{account}"), now);
            quota
                .reserve(id, &mut bounds, &tokens(1), now, Timestamp::MAX)
                .unwrap();
            quota.settle(id, &tokens(1), now).unwrap();
        }
    }
    assert!(quota.counters() < 60, "{}", quota.counters());
    assert_eq!(quota.open(), 0);
}

proptest! {
    #[test]
    fn answers_are_those_of_a_list_of_everything_that_happened(
        chains in any_chains(),
        steps in any_steps(80),
        overrun in 0_u8..2,
    ) {
        let (quota, mut naive) = (MemoryQuota::default(), Naive::default());
        let (mut now_ms, mut latest_ms) = (START_MS, START_MS);
        let mut requests: Vec<(RequestId, Demand, i64)> = Vec::new();
        for step in steps {
            let now = at(now_ms);
            match step {
                Step::Tick(ms) => {
                    now_ms = (now_ms + ms).max(latest_ms - STEP_BACK_MS);
                    latest_ms = latest_ms.max(now_ms);
                }
                Step::Reserve(account, model, demand, open_ms) => {
                    let id = RequestId::new();
                    let name = ACCOUNTS[account];
                    let chain = chains.chain(&name.into(), &name.into()).unwrap();
                    let mut bounds = chain.bounds(model, now);
                    let mut expected = bounds.clone();
                    let expires_at = at(now_ms + open_ms);
                    let answer = quota.reserve(id, &mut bounds, &demand, now, expires_at);
                    prop_assert_eq!(answer, naive.reserve(id, &mut expected, &demand, now, expires_at));
                    prop_assert_eq!(bounds, expected);
                    requests.push((id, demand, now_ms + open_ms));
                }
                Step::TopUp(at, more) if !requests.is_empty() => {
                    let at = at % requests.len();
                    let (id, demand, _) = &mut requests[at];
                    let answer = quota.top_up(*id, &more, now);
                    prop_assert_eq!(answer, naive.top_up(*id, &more, now));
                    if answer.is_ok() {
                        *demand = demand.plus(&more);
                    }
                }
                Step::Settle(at, percent) if !requests.is_empty() => {
                    let (id, demand, expires_ms) = requests[at % requests.len()];
                    if overrun == 0 && expires_ms <= latest_ms {
                        continue; // A late settlement may pass a limit: what it held was given to others.
                    }
                    let actual = percent_of(&demand, percent + 20 * overrun);
                    let answer = quota.settle(id, &actual, now).map(|mut settled| {
                        settled.crossings.iter_mut().for_each(|c| c.window = WindowSpan::ALWAYS);
                        settled
                    });
                    prop_assert_eq!(answer, naive.settle(id, &actual, now));
                }
                Step::Release(at) if !requests.is_empty() => {
                    let (id, ..) = requests[at % requests.len()];
                    prop_assert_eq!(quota.release(id, now), naive.release(id, now));
                }
                _ => {}
            }
            for rule in chains.rules() {
                let state = quota.state(rule, at(now_ms));
                prop_assert_eq!(state, naive.state(rule, at(now_ms)), "{}", rule.counter);
                // At the latest moment: a clock that steps back brings back what had left a rolling window.
                let state = quota.state(rule, at(latest_ms));
                prop_assert_eq!(state, naive.state(rule, at(latest_ms)), "{}", rule.counter);
                if overrun == 0 && rule.then != Action::Warn {
                    let held = state.used + state.reserved;
                    prop_assert!(held <= rule.max.units(), "{}: {} held", rule.counter, held);
                }
            }
        }
    }
}

#[test]
fn full_limits_of_one_measure_do_not_hide_those_of_another() {
    let desk = Desk::new(&[
        (Measure::Requests, 1, Some(Window::Day)),
        (Measure::Requests, 2, Some(Window::Month)),
        (Measure::Requests, 4, Some(Window::Week)),
        (Measure::Cost, 10, Some(Window::Month)),
    ]);
    let id = desk.reserve(Demand::default()).unwrap();
    let spent = Demand {
        cost: Money::from_usd(1),
        ..Demand::default()
    };
    desk.settle(id, spent).unwrap();
    let fullest = |count| -> Vec<(Measure, i128)> {
        let found = desk.quota.fullest(count, at(desk.now_ms));
        let found = found.iter().map(|(rule, _)| (rule.on, rule.max.units()));
        found.collect()
    };
    let ten_dollars = (Measure::Cost, Money::from_usd(10).picos());
    assert_eq!(fullest(1), [(Measure::Requests, 1), ten_dollars]);
    assert_eq!(
        fullest(2),
        [(Measure::Requests, 1), (Measure::Requests, 2), ten_dollars]
    );
    assert_eq!(fullest(0), []);
}
