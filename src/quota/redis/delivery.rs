//! Settlements on their way to Redis: at once, or when it is back; each takes effect once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::script::{Answer, Arguments, SCRIPTS};
use super::{LinkError, Open, RedisQuota, SETTLE_LATE_MS, TreeError, present};
use crate::ids::RequestId;
use crate::plan::Measure;
use crate::quota::{Bound, Crossing, Demand, SettleError};

/// A settlement (or, without `actual`, a release) that Redis has to take.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub(super) id: RequestId,
    pub(super) open: Open,
    pub(super) actual: Option<Demand>,
}

impl RedisQuota {
    /// The most settlements that wait for Redis.
    const OWED_MAX: usize = 1 << 20;

    /// Takes an open request off this gateway's list: from here on nobody else settles it. With the generation of limits
    /// that had begun by then.
    pub(super) fn take(&self, id: RequestId, latest_ms: i64) -> Result<(Open, u64), SettleError> {
        let mut node = self.lock();
        let generation = node.generation;
        let open = node.open.remove(&id);
        open.filter(|open| open.expires_ms.saturating_add(SETTLE_LATE_MS) > latest_ms)
            .map(|open| (open, generation))
            .ok_or(SettleError::AlreadyEnded)
    }

    /// Settles or releases in Redis, now or, if that fails, at a later tick. It runs on when the caller is gone.
    pub(super) async fn deliver(
        self: &Arc<Self>,
        owed: Owed,
        now: Timestamp,
    ) -> Result<Vec<Crossing>, SettleError> {
        let quota = Arc::clone(self);
        // Redis may not have met it: until it has, this gateway is not done with the outage.
        let is_stranger = usize::from(owed.open.epoch.is_none());
        self.lock().telling += is_stranger;
        let delivery = tokio::spawn(async move {
            let delivered = match quota.try_deliver(&owed, true, now).await {
                Ok(crossings) => crossings.ok_or(SettleError::AlreadyEnded),
                Err(_) => {
                    quota.keep_owed(owed);
                    Ok(Vec::new())
                }
            };
            quota.lock().telling -= is_stranger;
            delivered
        });
        delivery.await.unwrap_or(Ok(Vec::new()))
    }

    fn keep_owed(&self, owed: Owed) {
        let root = owed.open.root.clone();
        // A release that Redis never hears of is made by its lease.
        let charges = owed.actual.is_some();
        {
            let mut node = self.lock();
            if node.owed.len() < Self::OWED_MAX {
                node.owed.push_back(owed);
            } else if charges {
                *node.uncounted.entry(root.clone()).or_default() += 1;
            }
        }
        if charges {
            self.seeder.owe(&root);
        }
    }

    /// As [`crate::quota::Quota::settle_for_dead`]. Redis tells by the request's id whether it was settled before.
    ///
    /// # Errors
    /// When Redis is away, or the tree's counters are being rebuilt for long.
    pub async fn settle_for_dead(
        self: &Arc<Self>,
        id: RequestId,
        bounds: Vec<Bound>,
        actual: &Demand,
        now: Timestamp,
    ) -> Result<(), LinkError> {
        self.advance(now);
        let Some(root) = bounds.first().map(|bound| bound.rule.root.clone()) else {
            return Ok(());
        };
        let open = Open {
            root: root.clone(),
            epoch: None,
            bounds,
            demand: *actual,
            expires_ms: now.as_millisecond(),
            shared_locally: false,
        };
        let owed = Owed {
            id,
            open,
            actual: Some(*actual),
        };
        let settled = self
            .in_tree(&root, Self::LONG_WAIT, &SCRIPTS.settle, |epoch| {
                self.settle_arguments(&owed, epoch, now)
            })
            .await;
        settled.map(drop).map_err(LinkError::from)
    }

    pub(super) async fn deliver_owed(&self, now: Timestamp) {
        loop {
            let Some(owed) = self.lock().owed.pop_front() else {
                return;
            };
            if self.try_deliver(&owed, false, now).await.is_err() {
                self.lock().owed.push_front(owed);
                return;
            }
        }
    }

    /// `Ok(None)` if Redis knows nothing of the request: it was settled before. What was admitted while Redis was away
    /// is registered first, so that a repeated delivery is known as one.
    async fn try_deliver(
        &self,
        owed: &Owed,
        just_ended: bool,
        now: Timestamp,
    ) -> Result<Option<Vec<Crossing>>, TreeError> {
        let (open, root) = (&owed.open, &owed.open.root);
        let known = self.lock().epochs.get(root).cloned();
        if open.epoch.is_none() && owed.actual.is_none() {
            return Ok(Some(Vec::new()));
        }
        let Some(mut epoch) = open.epoch.clone().or(known) else {
            // This gateway never heard of the tree in Redis, and cannot tell whether its counters are older than the request or
            // were built with its entry.
            *self.lock().uncounted.entry(root.clone()).or_default() += 1;
            return Ok(Some(Vec::new()));
        };
        let mut is_booked = open.epoch.is_some();
        // Each turn but the last finds that the data was lost meanwhile: a few are enough.
        for _ in 0..4 {
            let answer = match is_booked {
                true => {
                    self.call(
                        root,
                        &SCRIPTS.settle,
                        &self.settle_arguments(owed, &epoch, now),
                    )
                    .await?
                }
                false => self.join(owed.id, open, &epoch).await?,
            };
            let mut answer = Answer::new(answer);
            match (answer.text().as_str(), is_booked) {
                ("ok", true) => return Ok(Some(read_crossings(owed, &mut answer, now))),
                ("ok", false) => is_booked = true,
                ("epoch", _) => {
                    let (present, state) = (answer.text(), answer.text());
                    // A rebuild leaves out what registers before it reads the ledger. Later it depends on whether the
                    // entry was in the ledger by then: hardly, if the request has ended only now.
                    if present.is_empty() || (state != "rebuild" && !just_ended) {
                        return Ok(Some(Vec::new()));
                    }
                    (epoch, is_booked) = (present.into(), false);
                }
                _ => return Ok(None),
            }
        }
        Err(TreeError::Rebuild)
    }

    fn settle_arguments(&self, owed: &Owed, epoch: &str, now: Timestamp) -> Arguments {
        let mut arguments = Arguments::new(epoch, self.latest_ms.load(Ordering::Relaxed));
        let bounds = present(&owed.open.bounds, now);
        arguments.text(owed.id.to_string());
        arguments.number(bounds.len() as i128);
        for bound in &bounds {
            let on = bound.rule.counter.on();
            arguments.counter(bound);
            arguments.number(bound.window.start_ms);
            arguments.cell(bound);
            arguments.lifetime(bound, now.as_millisecond());
            arguments.amount(match &owed.actual {
                Some(actual) if on != Measure::Concurrent => actual.units(on),
                _ => 0,
            });
            arguments.flag(bound.rule.counts);
            arguments.flag(owed.warns(bound));
        }
        arguments
    }
}

impl Owed {
    /// A release gives no warnings.
    fn warns(&self, bound: &Bound) -> bool {
        self.actual.is_some() && !bound.rule.marks.is_empty()
    }
}

fn read_crossings(owed: &Owed, answer: &mut Answer, now: Timestamp) -> Vec<Crossing> {
    let mut crossings = Vec::new();
    for bound in present(&owed.open.bounds, now)
        .into_iter()
        .filter(|bound| owed.warns(bound))
    {
        let peak = answer.amount();
        let state = answer.state();
        for mark in &bound.rule.marks {
            if peak < mark.units && mark.units <= state.used {
                crossings.push(Crossing {
                    rule: Arc::clone(&bound.rule),
                    window: bound.window,
                    mark_ppm: mark.ppm,
                    state,
                });
            }
        }
    }
    crossings
}
