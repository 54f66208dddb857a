//! What becomes of a reservation: refused or held, and in the end settled.

use std::sync::Arc;

use jiff::Timestamp;

use super::chain::Rule;
use super::{CounterState, Demand};
use crate::period::WindowSpan;

/// A request that would pass a limit. Nothing is held for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Index of the bound that refused, in the slice given to `reserve`. Of several, the one that stays shut longest.
    pub bound: usize,
    /// Whether what is *settled* leaves too little (waiting for open requests is useless); else open reservations hold
    /// the rest.
    pub settled: bool,
    /// The latest moment at which enough will be free, whatever the open requests turn out to use: the window's end, or
    /// when enough use has left a rolling window. `None` if only open requests can free it (concurrency), or nothing
    /// can (the request alone is larger than the limit).
    pub retry_at: Option<Timestamp>,
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// A limit has no room.
    #[error("a limit has no room for the request")]
    Denied(Denied),
    /// The request holds a reservation already (or, topping one up, holds none).
    #[error("the request's reservation is not in the state that this call needs")]
    WrongState,
    /// More open requests than a gateway keeps track of.
    #[error("too many requests are open")]
    TooMany,
    /// The shared counters did not answer in time and the configuration says that requests then stop.
    #[error("the shared quota is unavailable")]
    Unavailable,
}

/// How a reservation was settled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    /// What was used above what was reserved. It is charged all the same.
    pub overrun: Demand,
    /// Marks of `warn_at` that this settlement reached for the first time in their window.
    pub crossings: Vec<Crossing>,
    /// The generation of limits that had begun when it was settled ([`super::Quota::begin_generation`]).
    pub generation: u64,
}

/// A warning mark reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// The limit.
    pub rule: Arc<Rule>,
    /// The window in which it was reached.
    pub window: WindowSpan,
    /// The mark, in parts per million of the limit's maximum.
    pub mark_ppm: u32,
    /// What the window holds now.
    pub state: CounterState,
}

/// Why a reservation was not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The request holds no reservation: it was settled or released before. Nothing was changed.
    #[error("the request holds no reservation: it was settled or released before")]
    AlreadyEnded,
}
