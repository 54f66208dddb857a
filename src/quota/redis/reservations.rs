//! A request's reservation: held in its tree's counters, topped up, and settled or released; without Redis as
//! `fail` has it.

use std::sync::Arc;

use jiff::Timestamp;

use super::delivery::Owed;
use super::node::{Open, present};
use super::script::{SCRIPTS, more_units, read_refusal, reserve_arguments};
use super::{MemoryQuota, QuotaFailure, RedisQuota};
use crate::ids::RequestId;
use crate::plan::Measure;
use crate::quota::{Bound, Demand, ReserveError, SettleError, Settled};

impl RedisQuota {
    /// As [`crate::quota::Quota::reserve`].
    pub async fn reserve(
        self: &Arc<Self>,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), ReserveError> {
        let latest_ms = self.advance(now);
        let expires_ms = expires_at.as_millisecond();
        let root = bounds.first().map(|bound| bound.rule.root.clone());
        let root = {
            let mut node = self.lock();
            if node.open.contains_key(&id) {
                return Err(ReserveError::WrongState);
            }
            if node.open.len() >= MemoryQuota::MAX_OPEN {
                return Err(ReserveError::TooMany);
            }
            let Some(root) = root else {
                // Without limits it is no business of Redis.
                node.open.insert(id, Open::unlimited(expires_ms));
                return Ok(());
            };
            root
        };
        let until_ms = expires_ms.min(latest_ms.saturating_add(self.lease_ms));
        let answer = self
            .in_tree(&root, self.wait, &SCRIPTS.reserve, |epoch| {
                let need = |on: Measure| demand.units(on);
                reserve_arguments(epoch, latest_ms, "new", id, until_ms, bounds, need, now)
            })
            .await;
        let (epoch, mut answer) = match answer {
            Ok(answer) => answer,
            Err(_) if self.fail == QuotaFailure::Open => {
                return self.reserve_share(id, root, bounds, demand, now, expires_at);
            }
            Err(_) => return Err(ReserveError::Unavailable),
        };
        let verdict = answer.text();
        if verdict == "state" {
            return Err(ReserveError::WrongState);
        }
        let denied = read_refusal(&mut answer);
        for bound in bounds.iter_mut() {
            bound.state = answer.state();
            if verdict == "ok" {
                let need = demand.units(bound.rule.counter.on());
                bound.state.reserved = bound.state.reserved.saturating_add(need);
            }
        }
        let mut node = self.lock();
        node.note(bounds);
        if verdict != "ok" {
            return Err(ReserveError::Denied(denied));
        }
        let open = Open {
            root,
            epoch: Some(epoch),
            bounds: bounds.to_vec(),
            demand: *demand,
            expires_ms,
            shared_locally: false,
        };
        node.open.insert(id, open);
        Ok(())
    }

    /// As [`crate::quota::Quota::top_up`].
    pub async fn top_up(
        self: &Arc<Self>,
        id: RequestId,
        more: &Demand,
        now: Timestamp,
    ) -> Result<(), ReserveError> {
        let latest_ms = self.advance(now);
        let open = self.lock().open.get(&id).cloned();
        let open = open.ok_or(ReserveError::WrongState)?;
        if open.bounds.is_empty() {
            return Ok(());
        }
        if open.shared_locally {
            self.share.top_up(id, more, now)?;
            return self.note_more(id, more);
        }
        let bounds = present(&open.bounds, now);
        let answer = self
            .in_tree(&open.root, self.wait, &SCRIPTS.reserve, |epoch| {
                let need = |on: Measure| more_units(more, on);
                reserve_arguments(epoch, latest_ms, "more", id, 0, &bounds, need, now)
            })
            .await;
        let mut answer = match answer {
            Ok((_, answer)) => answer,
            Err(_) if self.fail == QuotaFailure::Open => {
                return self.top_up_share(id, more, now);
            }
            Err(_) => return Err(ReserveError::Unavailable),
        };
        match answer.text().as_str() {
            "ok" => self.note_more(id, more),
            "denied" => Err(ReserveError::Denied(read_refusal(&mut answer))),
            _ => Err(ReserveError::WrongState),
        }
    }

    /// As [`crate::quota::Quota::settle`]. While Redis is away the settlement is kept and made later; it then gives no
    /// warnings.
    pub async fn settle(
        self: &Arc<Self>,
        id: RequestId,
        actual: &Demand,
        now: Timestamp,
    ) -> Result<Settled, SettleError> {
        let latest_ms = self.advance(now);
        let (open, generation) = self.take(id, latest_ms)?;
        if open.bounds.is_empty() {
            return Ok(Settled {
                generation,
                ..Settled::default()
            });
        }
        if open.shared_locally {
            // Its own error would be that the share has forgotten it: then it holds nothing there.
            let _ = self.share.settle(id, actual, now);
        }
        let overrun = actual.above(&open.demand);
        let settled = Owed {
            id,
            open,
            actual: Some(*actual),
        };
        let crossings = self.deliver(settled, now).await?;
        Ok(Settled {
            overrun,
            crossings,
            generation,
        })
    }

    /// As [`crate::quota::Quota::release`].
    pub async fn release(
        self: &Arc<Self>,
        id: RequestId,
        now: Timestamp,
    ) -> Result<(), SettleError> {
        let latest_ms = self.advance(now);
        let (open, _) = self.take(id, latest_ms)?;
        if open.bounds.is_empty() {
            return Ok(());
        }
        if open.shared_locally {
            let _ = self.share.release(id, now);
        }
        let released = Owed {
            id,
            open,
            actual: None,
        };
        self.deliver(released, now).await.map(|_| ())
    }

    fn note_more(&self, id: RequestId, more: &Demand) -> Result<(), ReserveError> {
        let mut node = self.lock();
        let open = node.open.get_mut(&id).ok_or(ReserveError::WrongState)?;
        open.demand = open.demand.plus(more);
        Ok(())
    }
}
