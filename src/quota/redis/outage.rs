//! While Redis is away and requests go on (`fail = "open"`): this gateway's share of what was left.

use std::sync::Arc;

use jiff::Timestamp;

use super::node::present;
use super::{Node, Open, RedisQuota};
use crate::ids::{AccountId, RequestId};
use crate::money::Money;
use crate::plan::{Amount, Measure};
use crate::quota::chain::{Rule, Terms};
use crate::quota::{Bound, Demand, ReserveError};

impl RedisQuota {
    /// Admits to this gateway's share of what was left when Redis was last heard of.
    pub(super) fn reserve_share(
        &self,
        id: RequestId,
        root: AccountId,
        bounds: &mut [Bound],
        demand: &Demand,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), ReserveError> {
        let tree = root.clone();
        let mut node = self.lock();
        let mut shares: Vec<Bound> = bounds
            .iter()
            .map(|bound| self.share_of(bound, &node, now))
            .collect();
        let answer = self.share.reserve(id, &mut shares, demand, now, expires_at);
        for (bound, share) in bounds.iter_mut().zip(&shares) {
            bound.state = share.state;
        }
        answer?;
        let open = Open {
            root,
            epoch: None,
            bounds: bounds.to_vec(),
            demand: *demand,
            expires_ms: expires_at.as_millisecond(),
            shared_locally: true,
        };
        node.open.insert(id, open);
        drop(node);
        // Redis knows nothing of it: should this gateway die, its cost is in the ledger only.
        self.seeder.owe(&tree);
        Ok(())
    }

    /// Holds more for a request that Redis admitted before it went away: what it holds there stays, the rest comes out of
    /// this gateway's share. As a request it is counted in Redis, so the share holds it to the limits of what it uses only.
    pub(super) fn top_up_share(
        &self,
        id: RequestId,
        more: &Demand,
        now: Timestamp,
    ) -> Result<(), ReserveError> {
        let mut node = self.lock();
        let open = node.open.get(&id).ok_or(ReserveError::WrongState)?;
        let used = |bound: &Bound| {
            !matches!(
                bound.rule.counter.on(),
                Measure::Requests | Measure::Concurrent
            )
        };
        let (places, bounds): (Vec<usize>, Vec<Bound>) = present(&open.bounds, now)
            .into_iter()
            .enumerate()
            .filter(|(_, bound)| used(bound))
            .unzip();
        let mut shares: Vec<Bound> = bounds
            .iter()
            .map(|bound| self.share_of(bound, &node, now))
            .collect();
        let expires_at = Timestamp::from_millisecond(open.expires_ms).unwrap_or(now);
        let held = self.share.reserve(id, &mut shares, more, now, expires_at);
        held.map_err(|error| match error {
            ReserveError::Denied(mut denied) => {
                denied.bound = places.get(denied.bound).copied().unwrap_or(denied.bound);
                ReserveError::Denied(denied)
            }
            other => other,
        })?;
        let open = node.open.get_mut(&id).ok_or(ReserveError::WrongState)?;
        open.demand = open.demand.plus(more);
        open.shared_locally = true;
        Ok(())
    }

    fn share_of(&self, bound: &Bound, node: &Node, now: Timestamp) -> Bound {
        let last = node.last_of(bound, now);
        let taken = last.used.saturating_add(last.reserved);
        let left = bound.rule.max.units().saturating_sub(taken).max(0);
        let share = left / self.gateways;
        let mut terms = Terms::clone(&bound.rule.terms);
        terms.max = match terms.max {
            Amount::Money(_) => Amount::Money(Money::from_picos(share)),
            Amount::Count(_) => Amount::Count(u64::try_from(share).unwrap_or(u64::MAX)),
        };
        Bound {
            rule: Arc::new(Rule {
                terms: Arc::new(terms),
                ..Rule::clone(&bound.rule)
            }),
            ..bound.clone()
        }
    }
}
