//! Recorded traffic as if a plan had had another limit: replayed in order of time, cut where the limit would have held.
//!
//! Traffic is replayed in slots: by the day for windows of days and longer, by the hour for shorter ones; within a slot
//! all requests count as equal. In each window a limit serves what fits, and of the slot that passes it only the share
//! that fits. Windows shorter than a slot take the slot's use as spread evenly over it. A request counts against its
//! account and the account's ancestors, as at the gateway; where several limits cut a slot, the tightest does. What the
//! limits of the time itself refused is not in the record and does not come back.

mod gauge;
mod replay;
mod share;
mod slots;

use super::WhatIfError;
use crate::ids::PlanId;
use crate::ledger::store::Grain;
use crate::margin::books::Books;
use crate::period::Billing;
use crate::plan::{Amount, Measure, Period, Window};

pub(in crate::margin) use gauge::Gauge;
pub(in crate::margin) use replay::{Carry, Replay};
pub(in crate::margin) use slots::Slots;

/// `--limit PLAN:on=max/per`: a limit that every account of a plan would have had.
#[derive(Clone, Debug, PartialEq)]
pub struct Cap {
    /// The plan.
    pub plan: PlanId,
    /// What is measured; not [`Measure::Concurrent`].
    pub on: Measure,
    /// The most that a window may hold.
    pub max: Amount,
    /// The window.
    pub per: Window,
}

impl Cap {
    /// Refuses what cannot be replayed.
    ///
    /// # Errors
    /// [`WhatIfError::Concurrent`], [`WhatIfError::NoSuchPlan`].
    pub(super) fn check(&self, books: &Books) -> Result<(), WhatIfError> {
        if self.on == Measure::Concurrent {
            return Err(WhatIfError::Concurrent);
        }
        match books.plan(self.plan.as_str()) {
            Some(_) => Ok(()),
            None => Err(WhatIfError::NoSuchPlan(self.plan.clone())),
        }
    }

    /// How fine its traffic must be read.
    pub(super) fn grain(&self) -> Grain {
        match self.per {
            Window::Day | Window::Week | Window::Month | Window::Period => Grain::Day,
            Window::Minute | Window::Hour | Window::Rolling(_) => Grain::Hour,
        }
    }
}

/// Stands in where an account has no billing periods.
const CALENDAR: Billing = Billing {
    since: jiff::civil::Date::constant(1970, 1, 1),
    period: Period::Month,
};
