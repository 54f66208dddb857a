//! The scripts that run inside Redis, and how a call is written and its answer read.
//!
//! Amounts travel as two decimal numbers, `units / 10¹²` and the rest: Lua counts in doubles, and both halves stay
//! below 2⁵³ where the whole (pico-dollars) does not.

use std::sync::LazyLock;

use jiff::Timestamp;
use redis::Script;

use super::super::{Bound, CounterState, Denied};
use crate::ids::RequestId;
use crate::plan::{Measure, Window};

const DAY_MS: i64 = 86_400_000;

/// Every script, each sent as the shared prelude followed by its own text.
pub(super) struct Scripts {
    pub(super) reserve: Script,
    pub(super) settle: Script,
    pub(super) state: Script,
    pub(super) seed: Script,
    pub(super) begin: Script,
    pub(super) phase: Script,
    pub(super) renew: Script,
    pub(super) adopt: Script,
    pub(super) built: Script,
    pub(super) lose: Script,
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| {
    let script = |own: &str| Script::new(&[include_str!("prelude.lua"), own].concat());
    Scripts {
        reserve: script(include_str!("reserve.lua")),
        settle: script(include_str!("settle.lua")),
        state: script(include_str!("state.lua")),
        seed: script(include_str!("seed.lua")),
        begin: script(include_str!("begin.lua")),
        phase: script(include_str!("phase.lua")),
        renew: script(include_str!("renew.lua")),
        adopt: script(include_str!("adopt.lua")),
        built: script(include_str!("built.lua")),
        lose: script(include_str!("lose.lua")),
    }
});

/// The arguments of one call: one MessagePack array, which Redis reads several times as fast as a hundred texts.
#[derive(Debug)]
pub(super) struct Arguments {
    bytes: Vec<u8>,
    count: u32,
}

/// The mark of an array, and four bytes for its length.
const HEAD: usize = 5;

impl Arguments {
    pub(super) fn new(epoch: &str, latest_ms: i64) -> Arguments {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&[0; HEAD]);
        let mut arguments = Arguments { bytes, count: 0 };
        arguments.text(epoch);
        arguments.number(latest_ms);
        arguments
    }

    pub(super) fn text(&mut self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.bytes.push(0xdb);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.count += 1;
    }

    /// A whole number; beyond 2⁵³ Lua rounds it.
    pub(super) fn number(&mut self, number: impl Into<i128>) {
        let number = number.into();
        match u8::try_from(number) {
            Ok(small @ 0..=0x7f) => self.bytes.push(small),
            _ => {
                let most = if number < 0 { i64::MIN } else { i64::MAX };
                let number = i64::try_from(number).unwrap_or(most);
                self.bytes.push(0xd3);
                self.bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        self.count += 1;
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.number(i128::from(flag));
    }

    pub(super) fn amount(&mut self, units: i128) {
        self.number(units.div_euclid(UNIT));
        self.number(units.rem_euclid(UNIT));
    }

    /// What is sent.
    pub(super) fn packed(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(head) = bytes.first_chunk_mut::<HEAD>() {
            let [a, b, c, d] = self.count.to_be_bytes();
            *head = [0xdd, a, b, c, d];
        }
        bytes
    }

    /// The counter, and how it counts: `c` without a window, `r` in a rolling one, `w` in a calendar's.
    pub(super) fn counter(&mut self, bound: &Bound) {
        self.text(bound.rule.counter.to_string());
        self.text(match bound.rule.counter.per() {
            None => "c",
            Some(Window::Rolling(_)) => "r",
            Some(_) => "w",
        });
    }

    /// The cell that use is booked in.
    pub(super) fn cell(&mut self, bound: &Bound) {
        match bound.rule.counter.per() {
            None => self.text("always"),
            Some(_) => self.text(format!("{}:{}", bound.cell.start_ms, bound.cell.end_ms)),
        }
    }

    /// For how long a cell is kept after its end, and how long Redis keeps the counter when nobody uses it.
    pub(super) fn lifetime(&mut self, bound: &Bound, now_ms: i64) {
        let per = bound.rule.per;
        let kept_ms = match per {
            None => -1,
            Some(Window::Rolling(_)) => bound.rule.rolling_ms().saturating_mul(2),
            Some(_) => bound.cell.duration_ms(),
        };
        self.number(kept_ms);
        let ahead_ms = match per {
            None => 30 * DAY_MS,
            Some(_) => bound.cell.end_ms.saturating_sub(now_ms).max(0),
        };
        let ttl_ms = ahead_ms
            .saturating_add(kept_ms.max(0))
            .saturating_add(DAY_MS);
        self.number(ttl_ms.min(4_000 * DAY_MS));
    }
}

/// What a measure books for a request beside what it holds already: topping up is no further request.
pub(super) fn more_units(more: &super::super::Demand, on: Measure) -> i128 {
    match on {
        Measure::Requests | Measure::Concurrent => 0,
        _ => more.units(on),
    }
}

/// An answer, read from the front. What is missing or no number reads as 0: the scripts are ours.
#[derive(Debug)]
pub(super) struct Answer(std::vec::IntoIter<String>);

impl Answer {
    pub(super) fn new(texts: Vec<String>) -> Answer {
        Answer(texts.into_iter())
    }

    pub(super) fn text(&mut self) -> String {
        self.0.next().unwrap_or_default()
    }

    pub(super) fn integer(&mut self) -> Option<i64> {
        self.text().parse().ok()
    }

    pub(super) fn amount(&mut self) -> i128 {
        let high: i128 = self.text().parse().unwrap_or(0);
        let low: i128 = self.text().parse().unwrap_or(0);
        high.saturating_mul(UNIT).saturating_add(low)
    }

    pub(super) fn state(&mut self) -> CounterState {
        CounterState {
            used: self.amount(),
            reserved: self.amount(),
        }
    }
}

/// Where an amount is split.
const UNIT: i128 = 1_000_000_000_000;

/// What `reserve.lua` wants, in its order.
#[expect(
    clippy::too_many_arguments,
    reason = "they are the script's own, in its order"
)]
pub(super) fn reserve_arguments(
    epoch: &str,
    latest_ms: i64,
    mode: &str,
    id: RequestId,
    until_ms: i64,
    bounds: &[Bound],
    need: impl Fn(Measure) -> i128,
    now: Timestamp,
) -> Arguments {
    let mut arguments = Arguments::new(epoch, latest_ms);
    arguments.text(mode);
    arguments.text(id.to_string());
    arguments.number(until_ms);
    arguments.number(bounds.len() as i128);
    for bound in bounds {
        arguments.counter(bound);
        arguments.number(bound.rule.rolling_ms());
        arguments.number(bound.window.start_ms);
        arguments.number(bound.window.end_ms);
        arguments.cell(bound);
        arguments.lifetime(bound, now.as_millisecond());
        arguments.amount(need(bound.rule.counter.on()));
        arguments.amount(bound.rule.max.units());
        arguments.flag(bound.enforced);
        arguments.flag(bound.rule.counts);
    }
    arguments
}

/// Why `reserve.lua` refused: the members after its verdict.
pub(super) fn read_refusal(answer: &mut Answer) -> Denied {
    Denied {
        bound: answer
            .integer()
            .and_then(|at| usize::try_from(at).ok())
            .unwrap_or(0),
        settled: answer.integer() == Some(1),
        retry_at: answer
            .integer()
            .and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok()),
    }
}
