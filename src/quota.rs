//! Quotas: reserve an upper bound before a request, settle the truth after it.
//!
//! Pure where it can be: every call takes `now`. Beneath are two implementations, [`memory`] for one gateway and
//! [`redis`] for several; both give the same answers.

pub mod memory;
pub mod redis;

use std::sync::Arc;

use jiff::Timestamp;

use crate::ids::AccountId;
use crate::money::Money;
use crate::plan::{Amount, Measure, Window};
use crate::tokens::Usage;

/// The most that a request may use, or what it did use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// US dollars.
    pub cost: Money,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
}

impl Demand {
    /// What was used in the end.
    pub fn settled(cost: Money, usage: &Usage) -> Demand {
        Demand {
            cost,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
        }
    }

    /// The part that a measure counts, in its units: pico-dollars or a count.
    pub fn units(&self, on: Measure) -> i128 {
        match on {
            Measure::Cost => self.cost.picos(),
            Measure::Tokens => i128::from(self.input_tokens.saturating_add(self.output_tokens)),
            Measure::InputTokens => i128::from(self.input_tokens),
            Measure::OutputTokens => i128::from(self.output_tokens),
            Measure::Requests | Measure::Concurrent => 1,
        }
    }
}

/// One counter that a request must fit in: a limit of its account, of one of the account's ancestors, or of its key.
///
/// Counters are found by everything here but `max`, so that a limit's maximum can change without losing what was used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterId {
    /// Whose limit it is.
    pub owner: Owner,
    /// What it measures.
    pub on: Measure,
    /// The window; `None` for concurrency.
    pub per: Option<Window>,
    /// The limit's model patterns joined by `,`; empty means all models.
    pub models: Arc<str>,
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// An account's (its plan's or its own).
    Account(AccountId),
    /// A key's own.
    Key(crate::ids::KeyId),
}

/// A counter, and how much it may hold for the request at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The counter.
    pub counter: Arc<CounterId>,
    /// The limit's maximum.
    pub max: Amount,
    /// The window that `now` falls in (for a rolling window: the last so many milliseconds up to `now`).
    pub window: WindowSpan,
    /// Whether passing it refuses the request (`block`) or only counts (`warn`).
    pub enforced: bool,
}

/// A window at one moment: its start and end, in milliseconds since the epoch. For a rolling window the end is `now`
/// plus the window's length: the moment at which all of today's use has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowSpan {
    /// Inclusive.
    pub start_ms: i64,
    /// Exclusive.
    pub end_ms: i64,
}

/// A request that would pass a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Index of the bound that refused, in the slice given to `reserve`: the tightest one.
    pub bound: usize,
    /// Whether what is *settled* leaves too little (waiting for open requests is useless); else open reservations hold the rest.
    pub settled: bool,
    /// The moment at which enough will be free, if the window's end or a rolling window's decay frees it.
    pub retry_at: Option<Timestamp>,
    /// What is used and held there.
    pub state: CounterState,
}

/// What a counter holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterState {
    /// Settled, in the measure's units.
    pub used: i128,
    /// Held by open reservations.
    pub reserved: i128,
}
