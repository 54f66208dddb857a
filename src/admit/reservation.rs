//! What an admitted request holds until it is settled.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};

use jiff::Timestamp;

use super::habits::Habit;
use crate::gateway::{Gateway, Origin};
use crate::ids::RequestId;
use crate::ledger::Entry;
use crate::price::{HeldPrice, PricedBy};
use crate::quota::{Demand, Quota, SettleError, Settled};
use crate::tokens::{Usage, UsageSource};

/// An admitted request's hold on its limits. It ends once: settled, or, when it is dropped unsettled, released.
#[must_use = "an admission that is not settled is released and counts nothing"]
pub struct Admission {
    id: RequestId,
    gateway: Weak<Gateway>,
    held: Demand,
    price: Option<HeldPrice>,
    habit: Option<Habit>,
    origin: Origin,
    open: bool,
}

impl Admission {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        id: RequestId,
        held: Demand,
        price: Option<HeldPrice>,
        habit: Option<Habit>,
        origin: Origin,
    ) -> Admission {
        Admission {
            id,
            gateway: Arc::downgrade(gateway),
            held,
            price,
            habit,
            origin,
            open: true,
        }
    }

    /// Puts into an entry what is to be booked if the gateway dies before the answer: the input, at its price. The
    /// upstream had the request; what it put out nobody knows.
    pub fn foresee(&self, entry: &mut Entry) {
        let usage = Usage {
            input_tokens: self.held.input_tokens,
            ..Usage::default()
        };
        let Some(price) = &self.price else {
            return;
        };
        let Some(row) = price.row() else {
            return;
        };
        // What is reserved by the piece tells no tokens: it has no price then, and says so.
        if usage.is_zero() && !row.costs_without_usage() {
            entry.usage_source = UsageSource::Estimated;
            return;
        }
        let Ok(cost) = row.cost(&usage, None) else {
            return;
        };
        entry.usage = usage;
        entry.usage_source = UsageSource::Estimated;
        entry.cost = cost.by_class;
        entry.undiscounted = cost.undiscounted;
        entry.priced_by = vec![PricedBy {
            model: Arc::clone(&price.entry.model),
            from: row.from,
        }];
    }

    /// What it holds.
    pub fn held(&self) -> &Demand {
        &self.held
    }

    /// Replaces what is held by what was used. In memory that is done within the call; a shared counter is told in the
    /// background, and holds the larger reservation until then.
    pub fn settle(mut self, gateway: &Arc<Gateway>, used: Demand, now: Timestamp) {
        self.open = false;
        if let Some(habit) = self.habit.take().filter(|_| used.output_tokens > 0) {
            gateway.habits.note(&habit, used.output_tokens);
        }
        let (id, origin) = (self.id, self.origin.clone());
        let owner = Arc::clone(gateway);
        finish(gateway, async move {
            let settled = owner.quota.settle(id, &used, now).await;
            if let Ok(settled) = &settled
                && settled.generation > origin.generation
            {
                let until = settled.generation;
                owner.settle_added(&origin, until, &used).await;
            }
            owner.quota_settled(id, settled);
        });
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some(gateway) = self.gateway.upgrade().filter(|_| self.open) else {
            return;
        };
        let (id, owner) = (self.id, Arc::clone(&gateway));
        finish(&gateway, async move {
            let _ = release(&owner.quota, id).await;
        });
    }
}

async fn release(quota: &Quota, id: RequestId) -> Result<(), SettleError> {
    quota.release(id, Timestamp::now()).await
}

/// Polls once, and goes on in the background if that was not enough.
fn finish(gateway: &Gateway, work: impl Future<Output = ()> + Send + 'static) {
    let mut work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
    let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    if polled.is_pending() {
        gateway.tasks.spawn(work);
    }
}

impl Gateway {
    /// What a settlement says beside being done: warning marks passed, money beyond the reservation.
    fn quota_settled(&self, id: RequestId, settled: Result<Settled, SettleError>) {
        match settled {
            Ok(settled) => {
                if settled.overrun != Demand::default() {
                    self.metrics.event("reservation_overrun", "cost");
                    tracing::debug!(%id, cost = %settled.overrun.cost, "a request used more than it had reserved");
                }
                for crossing in settled.crossings {
                    self.limit_warning(&crossing);
                }
            }
            Err(error) => {
                self.metrics.event("settled_twice", "quota");
                tracing::warn!(%id, %error, "a reservation could not be settled");
            }
        }
    }
}
