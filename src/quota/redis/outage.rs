//! While Redis is away and requests go on (`fail = "open"`): this gateway's share of what was left.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Node, Open, RedisQuota};
use crate::ids::{AccountId, RequestId};
use crate::money::Money;
use crate::plan::Amount;
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
