//! What a request is held to: its demand, the counters that it meets, and how they stand.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use super::chain::Rule;
use crate::ids::{AccountId, KeyId};
use crate::money::Money;
use crate::period::{WindowSpan, rolling_part, span};
use crate::plan::{Action, Measure, Window};
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

    /// Part by part what this is above `other`, and zero where it is not.
    pub fn above(&self, other: &Demand) -> Demand {
        Demand {
            cost: (self.cost - other.cost).max(Money::ZERO),
            input_tokens: self.input_tokens.saturating_sub(other.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(other.output_tokens),
        }
    }

    /// Part by part the sum.
    pub fn plus(&self, other: &Demand) -> Demand {
        Demand {
            cost: self.cost + other.cost,
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// An account's (its plan's or its own).
    Account(AccountId),
    /// A key's own.
    Key(KeyId),
}

/// One counter that a request must fit in: a limit of its account, of one of the account's ancestors, or of its key.
///
/// Counters are found by everything here but a limit's maximum and action, so that these can change without losing
/// what was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterId {
    // First, so that unequal counters differ at once: the request path looks up half a dozen of them.
    hash: u64,
    owner: Owner,
    on: Measure,
    per: Option<Window>,
    models: Arc<str>,
}

impl CounterId {
    /// The counter of a limit. `models` are the limit's model patterns, sorted and joined by `,`; empty means all.
    pub fn new(owner: Owner, on: Measure, per: Option<Window>, models: Arc<str>) -> CounterId {
        let mut hasher = DefaultHasher::new();
        (&owner, on, per, &models).hash(&mut hasher);
        CounterId {
            hash: hasher.finish(),
            owner,
            on,
            per,
            models,
        }
    }

    /// Whose limit it is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What it measures.
    pub fn on(&self) -> Measure {
        self.on
    }

    /// The window; `None` for concurrency.
    pub fn per(&self) -> Option<Window> {
        self.per
    }

    /// The limit's model patterns, sorted and joined by `,`; empty means all models.
    pub fn models(&self) -> &str {
        &self.models
    }
}

impl Hash for CounterId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// As in an operator's log: `account acme: cost per month of gpt-4*`.
impl fmt::Display for CounterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Account(account) => write!(f, "account {account}: {}", self.on.as_str())?,
            Owner::Key(key) => write!(f, "key {key}: {}", self.on.as_str())?,
        }
        if let Some(per) = self.per {
            write!(f, " per {per}")?;
        }
        if !self.models.is_empty() {
            write!(f, " of {}", self.models)?;
        }
        Ok(())
    }
}

/// A limit that one request must fit in: the rule, its window at that moment, and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The limit.
    pub rule: Arc<Rule>,
    /// The window that the request falls in.
    pub window: WindowSpan,
    /// Where within the window the request's own use is booked: the window itself, or the current part of a rolling one.
    pub cell: WindowSpan,
    /// Whether passing the limit refuses the request. At first so for every action but `warn`; whoever takes a limit's
    /// `downgrade` or `cap_output` clears it, and the request goes on and still counts.
    pub enforced: bool,
    /// What the window held after the last call to `reserve` that was given this bound: with this request if it was
    /// admitted, without it if not.
    pub state: CounterState,
}

impl Bound {
    /// The rule at a moment.
    pub fn new(rule: &Arc<Rule>, now: Timestamp) -> Bound {
        let mut bound = Bound {
            rule: Arc::clone(rule),
            window: WindowSpan::ALWAYS,
            cell: WindowSpan::ALWAYS,
            enforced: rule.then != Action::Warn,
            state: CounterState::default(),
        };
        bound.refresh(now);
        bound
    }

    /// Moves the window to a later moment, for a request that had to wait.
    pub fn refresh(&mut self, now: Timestamp) {
        if let Some(per) = self.rule.per {
            self.window = span(per, self.rule.billing, now);
            self.cell = rolling_part(per, now).unwrap_or(self.window);
        }
    }

    /// What is left of the limit; below zero where more was let through than it allows.
    pub fn remaining(&self) -> i128 {
        let taken = self.state.used.saturating_add(self.state.reserved);
        self.rule.max.units().saturating_sub(taken)
    }
}

/// What a counter holds within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterState {
    /// Settled, in the measure's units.
    pub used: i128,
    /// Held by open reservations.
    pub reserved: i128,
}

/// Use of the past: what a limit counts of one or more requests that were admitted at a moment.
#[derive(Clone, Debug)]
pub struct Use {
    /// The limit.
    pub rule: Arc<Rule>,
    /// When they were admitted.
    pub at: Timestamp,
    /// In the units of what the limit measures.
    pub units: i128,
}

/// Which part of its counter goes with a limit: the cell of its present window, or of a rolling one all (`None`).
pub(super) fn gone_cell(rule: &Arc<Rule>, now: Timestamp) -> Option<WindowSpan> {
    (!rule.is_rolling()).then(|| Bound::new(rule, now).cell)
}
