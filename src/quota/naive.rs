//! What quotas mean, written as plainly as it can be: a list of everything that happened, summed by filter at each
//! question. Slow, and without a structure that could go wrong; the real keepers of counters are held to its answers.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::date;
use proptest::prelude::*;

use super::chain::{Chain, Chains, Rule};
use super::memory::SETTLE_LATE_MS;
use super::*;
use crate::account::{Directory, Key};
use crate::ids::RequestId;
use crate::money::Money;
use crate::plan::{Account, Amount, Limit, ModelPattern, Period, Plan};
use crate::plan::{Action, Measure, Window};
use crate::secret::KeyDigest;

/// Everything that happened.
#[derive(Default)]
pub(super) struct Naive {
    events: Vec<Event>,
    /// Sums seen when use was settled: what warnings were given for.
    seen: Vec<(Arc<CounterId>, WindowSpan, i128)>,
    latest_ms: i64,
}

struct Event {
    id: RequestId,
    bounds: Vec<Bound>,
    held: Demand,
    expires_ms: i64,
    status: Status,
}

#[derive(PartialEq)]
enum Status {
    Open,
    Expired,
    Settled(Demand),
    Released,
}

impl Naive {
    pub(super) fn reserve(
        &mut self,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), ReserveError> {
        self.expire(now);
        for bound in bounds.iter_mut() {
            bound.state = self.sum(&bound.rule.counter, bound.window);
        }
        self.check(bounds, |on| demand.units(on))?;
        for bound in bounds.iter_mut() {
            bound.state.reserved += demand.units(bound.rule.counter.on());
        }
        self.events.push(Event {
            id,
            bounds: bounds.to_vec(),
            held: *demand,
            expires_ms: expires_at.as_millisecond(),
            status: Status::Open,
        });
        Ok(())
    }

    pub(super) fn top_up(
        &mut self,
        id: RequestId,
        more: &Demand,
        now: Timestamp,
    ) -> Result<(), ReserveError> {
        self.expire(now);
        let at = self
            .events
            .iter()
            .position(|event| event.id == id && event.status == Status::Open)
            .ok_or(ReserveError::WrongState)?;
        let mut bounds = self.events[at].bounds.clone();
        for bound in &mut bounds {
            bound.window = window_at(bound, now);
            bound.state = self.sum(&bound.rule.counter, bound.window);
        }
        self.check(&bounds, |on| match on {
            Measure::Requests | Measure::Concurrent => 0,
            on => more.units(on),
        })?;
        self.events[at].held = self.events[at].held.plus(more);
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        id: RequestId,
        actual: &Demand,
        now: Timestamp,
    ) -> Result<Settled, SettleError> {
        self.expire(now);
        let at = self.ended(id)?;
        self.events[at].status = Status::Settled(*actual);
        let held = self.events[at].held;
        let bounds = self.events[at].bounds.clone();
        let mut crossings = Vec::new();
        let mut seen = Vec::new();
        for bound in bounds.iter().filter(|bound| !bound.rule.marks.is_empty()) {
            let window = window_at(bound, now);
            let state = self.sum(&bound.rule.counter, window);
            let peak = self.peak(&bound.rule.counter, window);
            for mark in &bound.rule.marks {
                let (mark_ppm, mark) = (mark.ppm, mark.units);
                if peak < mark && mark <= state.used {
                    crossings.push((Arc::clone(&bound.rule), mark_ppm, state));
                }
            }
            seen.push((Arc::clone(&bound.rule.counter), bound.cell, state.used));
        }
        self.seen.extend(seen);
        Ok(Settled {
            generation: 0,
            overrun: actual.above(&held),
            crossings: crossings
                .into_iter()
                .map(|(rule, mark_ppm, state)| Crossing {
                    window: WindowSpan::ALWAYS,
                    rule,
                    mark_ppm,
                    state,
                })
                .collect(),
        })
    }

    pub(super) fn release(&mut self, id: RequestId, now: Timestamp) -> Result<(), SettleError> {
        self.expire(now);
        let at = self.ended(id)?;
        self.events[at].status = Status::Released;
        Ok(())
    }

    pub(super) fn state(&mut self, rule: &Arc<Rule>, now: Timestamp) -> CounterState {
        self.expire(now);
        self.sum(&rule.counter, Bound::new(rule, now).window)
    }

    fn ended(&self, id: RequestId) -> Result<usize, SettleError> {
        self.events
            .iter()
            .position(|event| {
                event.id == id && matches!(event.status, Status::Open | Status::Expired)
            })
            .ok_or(SettleError::AlreadyEnded)
    }

    /// Time, as reservations feel it, does not run back.
    fn expire(&mut self, now: Timestamp) {
        self.latest_ms = self.latest_ms.max(now.as_millisecond());
        for event in &mut self.events {
            let past_ms = self.latest_ms - event.expires_ms;
            if event.status == Status::Open && past_ms >= 0 {
                event.status = Status::Expired;
            }
            if event.status == Status::Expired && past_ms >= SETTLE_LATE_MS {
                event.status = Status::Released;
            }
        }
    }

    fn check(&self, bounds: &[Bound], need: impl Fn(Measure) -> i128) -> Result<(), ReserveError> {
        let refusals = bounds.iter().enumerate().filter_map(|(at, bound)| {
            let CounterState { used, reserved } = bound.state;
            let (max, need) = (bound.rule.max.units(), need(bound.rule.counter.on()));
            (bound.enforced && used + reserved + need > max).then(|| Denied {
                bound: at,
                settled: used + need > max,
                retry_at: (need <= max).then(|| self.free_at(bound, need)).flatten(),
            })
        });
        // The first of those that stay shut longest.
        let longest = refusals.reduce(|a, b| {
            let rank = |denied: &Denied| {
                let at = denied.retry_at.map_or(i64::MAX, Timestamp::as_millisecond);
                (at, denied.settled)
            };
            if rank(&b) > rank(&a) { b } else { a }
        });
        longest.map_or(Ok(()), |denied| Err(ReserveError::Denied(denied)))
    }

    /// The first millisecond at which the window, with nothing new in it, has room: found by asking at the end of
    /// every part that could leave it.
    fn free_at(&self, bound: &Bound, need: i128) -> Option<Timestamp> {
        let length_ms = match bound.rule.counter.per()? {
            Window::Rolling(length_ms) => length_ms as i64,
            _ => return Timestamp::from_millisecond(bound.window.end_ms).ok(),
        };
        let mut moments: Vec<i64> = self
            .bookings(&bound.rule.counter)
            .map(|(cell, _)| cell.end_ms + length_ms)
            .filter(|at_ms| at_ms - length_ms > bound.window.start_ms)
            .collect();
        moments.sort_unstable();
        moments
            .into_iter()
            .find(|at_ms| {
                let window = WindowSpan {
                    start_ms: at_ms - length_ms,
                    end_ms: i64::MAX,
                };
                let CounterState { used, reserved } = self.sum(&bound.rule.counter, window);
                used + reserved + need <= bound.rule.max.units()
            })
            .and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok())
    }

    fn sum(&self, counter: &CounterId, window: WindowSpan) -> CounterState {
        let mut sum = CounterState::default();
        for (cell, state) in self.bookings(counter) {
            if counts(counter, cell, window) {
                sum.used += state.used;
                sum.reserved += state.reserved;
            }
        }
        sum
    }

    fn peak(&self, counter: &CounterId, window: WindowSpan) -> i128 {
        self.seen
            .iter()
            .filter(|(seen, cell, _)| **seen == *counter && counts(counter, *cell, window))
            .map(|(_, _, used)| *used)
            .max()
            .unwrap_or(0)
    }

    fn bookings<'a>(
        &'a self,
        counter: &'a CounterId,
    ) -> impl Iterator<Item = (WindowSpan, CounterState)> + 'a {
        self.events.iter().filter_map(move |event| {
            let bound = event
                .bounds
                .iter()
                .find(|bound| *bound.rule.counter == *counter)?;
            let state = match &event.status {
                Status::Open => CounterState {
                    used: 0,
                    reserved: event.held.units(counter.on()),
                },
                Status::Settled(actual) if counter.on() != Measure::Concurrent => CounterState {
                    used: actual.units(counter.on()),
                    reserved: 0,
                },
                _ => CounterState::default(),
            };
            Some((bound.cell, state))
        })
    }
}

/// The window that an open request is looked at in: the one of its admission, or of a rolling window the present one.
fn window_at(bound: &Bound, now: Timestamp) -> WindowSpan {
    match bound.rule.counter.per() {
        Some(Window::Rolling(_)) => Bound::new(&bound.rule, now).window,
        _ => bound.window,
    }
}

/// Whether use that was booked in `cell` counts in `window`.
fn counts(counter: &CounterId, cell: WindowSpan, window: WindowSpan) -> bool {
    match counter.per() {
        Some(Window::Rolling(_)) => cell.end_ms > window.start_ms,
        _ => cell == window,
    }
}

/// One step of a random history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A request of an account (an index) for a model, open for at most so long.
    Reserve(usize, &'static str, Demand, i64),
    /// The request of that index is topped up.
    TopUp(usize, Demand),
    /// It is settled to so many percent of what it reserved.
    Settle(usize, u8),
    /// It is released.
    Release(usize),
    /// Time passes, or the clock steps back.
    Tick(i64),
}

/// The start of each random history: a month's last seconds, so that windows of every kind end early in it.
pub(super) const START_MS: i64 = 1_709_251_180_000;

/// No step back brings the clock further behind the latest moment than this: the shortest window below.
pub(super) const STEP_BACK_MS: i64 = 2_000;

/// The accounts' names: each one's parent is another or none.
pub(super) const ACCOUNTS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A random account tree with random limits, and a key with limits for each account.
pub(super) fn any_chains() -> impl Strategy<Value = Chains> {
    let limits = || proptest::collection::vec(any_limit(), 0..4);
    let account = (limits(), limits(), limits(), any::<usize>(), 0_usize..4);
    proptest::collection::vec(account, ACCOUNTS.len()).prop_map(|accounts| {
        let mut parts: (Vec<Plan>, Vec<Account>, Vec<Key>) = Default::default();
        for (at, (in_plan, own, at_key, parent, period)) in accounts.into_iter().enumerate() {
            let id = ACCOUNTS[at];
            let period = [Period::Day, Period::Week, Period::Month, Period::Year][period];
            let parent = (at > 0 && !parent.is_multiple_of(4)).then(|| ACCOUNTS[parent % at]);
            parts.0.push(plan(id, period, in_plan));
            parts.1.push(account_of(id, parent, own));
            parts.2.push(Key {
                id: id.into(),
                account: id.into(),
                digest: KeyDigest([at as u8; 32]),
                models: Vec::new(),
                networks: Vec::new(),
                expires_at: None,
                revoked_at: None,
                limits: at_key,
            });
        }
        let (directory, errors) = Directory::build(parts.0, parts.1, parts.2);
        assert_eq!(errors, []);
        Chains::compile(&directory)
    })
}

/// The chain of one account `a` whose plan has these limits.
pub(super) fn single(limits: Vec<Limit>) -> Chain {
    let parts = (
        plan("a", Period::Month, limits),
        account_of("a", None, Vec::new()),
    );
    let (directory, _) = Directory::build([parts.0], [parts.1], []);
    Chains::compile(&directory)
        .chain(&"a".into(), &"a".into())
        .unwrap()
}

fn plan(id: &str, period: Period, limits: Vec<Limit>) -> Plan {
    Plan {
        id: id.into(),
        price: Money::ZERO,
        currency: "USD".into(),
        period,
        limits,
        fixed_cost: Money::ZERO,
        payment_fee: Default::default(),
        overage: None,
        trial_days: 0,
    }
}

fn account_of(id: &str, parent: Option<&str>, limits: Vec<Limit>) -> Account {
    Account {
        id: id.into(),
        plan: id.into(),
        parent: parent.map(Into::into),
        since: date(2023, 12, 31),
        until: None,
        name: None,
        currency: None,
        tags: Vec::new(),
        limits,
    }
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let on = prop_oneof![
        3 => Just(Measure::Cost),
        1 => Just(Measure::Tokens),
        1 => Just(Measure::InputTokens),
        1 => Just(Measure::OutputTokens),
        1 => Just(Measure::Requests),
        1 => Just(Measure::Concurrent),
    ];
    let per = prop_oneof![
        Just(Window::Minute),
        Just(Window::Hour),
        Just(Window::Day),
        Just(Window::Week),
        Just(Window::Month),
        Just(Window::Period),
        Just(Window::Rolling(2_000)),
        Just(Window::Rolling(18_000_000)),
    ];
    let models = prop_oneof![
        2 => Just(vec![]),
        1 => Just(vec![ModelPattern::new("big*")]),
        1 => Just(vec![ModelPattern::new("small"), ModelPattern::new("big")]),
    ];
    let then = prop_oneof![4 => Just(Action::Block), 1 => Just(Action::Warn), 1 => Just(Action::CapOutput(9))];
    let marks = proptest::sample::subsequence(vec![500_000_u32, 800_000, 1_000_000], 0..=2);
    (on, per, 0_u64..12, models, then, marks).prop_map(
        |(on, per, max, models, then, warn_at_ppm)| Limit {
            on,
            max: match on {
                // Around 9,007 dollars, past which a double is not exact to the pico-dollar.
                Measure::Cost => {
                    Amount::Money(Money::from_picos(i128::from(max) * 3_002_399_751_580_331))
                }
                Measure::Requests | Measure::Concurrent => Amount::Count(max),
                _ => Amount::Count(max * 100),
            },
            per: (on != Measure::Concurrent).then_some(per),
            models,
            then,
            warn_at_ppm,
            queue_ms: 0,
        },
    )
}

fn any_demand() -> impl Strategy<Value = Demand> {
    (0_i128..6_000_000_000_000_000, 0_u64..200, 0_u64..200).prop_map(
        |(picos, input_tokens, output_tokens)| Demand {
            cost: Money::from_picos(picos),
            input_tokens,
            output_tokens,
        },
    )
}

/// A random history.
pub(super) fn any_steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let open_ms = prop_oneof![4 => Just(600_000_i64), 1 => Just(900_i64), 1 => Just(90_000_i64)];
    let tick = prop_oneof![
        -STEP_BACK_MS..0_i64,
        0_i64..40,
        0_i64..2_500,
        0_i64..90_000,
        0_i64..9_000_000,
        0_i64..4_000_000_000,
    ];
    let model = prop_oneof![Just("big"), Just("bigger"), Just("small")];
    let step = prop_oneof![
        6 => (0..ACCOUNTS.len(), model, any_demand(), open_ms)
            .prop_map(|(account, model, demand, ms)| Step::Reserve(account, model, demand, ms)),
        1 => (any::<usize>(), any_demand()).prop_map(|(at, more)| Step::TopUp(at, more)),
        4 => (any::<usize>(), 0_u8..=100).prop_map(|(at, percent)| Step::Settle(at, percent)),
        1 => any::<usize>().prop_map(Step::Release),
        4 => tick.prop_map(Step::Tick),
    ];
    proptest::collection::vec(step, 1..len)
}

/// So many percent of a demand.
pub(super) fn percent_of(demand: &Demand, percent: u8) -> Demand {
    Demand {
        cost: Money::from_picos(demand.cost.picos() * i128::from(percent) / 100),
        input_tokens: demand.input_tokens * u64::from(percent) / 100,
        output_tokens: demand.output_tokens * u64::from(percent) / 100,
    }
}
