//! Limits that come and go: taken into force by all gateways, given their past, and forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::node::Last;
use super::script::SCRIPTS;
use super::{LinkError, Past, RedisQuota, TreeError, past};
use crate::ids::AccountId;
use crate::quota::chain::Rule;
use crate::quota::{CounterState, Use};

impl RedisQuota {
    /// As [`crate::quota::Quota::seed`].
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn seed(self: &Arc<Self>, past: &Past, now: Timestamp) -> Result<(), LinkError> {
        let latest_ms = self.advance(now);
        for (rule, uses) in past::by_counter(&past.uses) {
            let once = past::once(rule, now);
            let booked = past::by_cell(uses, now);
            self.in_tree(&rule.root, Self::LONG_WAIT, &SCRIPTS.seed, |epoch| {
                past::seed_arguments(epoch, latest_ms, &once, &booked, now)
            })
            .await?;
        }
        let mut by_root: HashMap<&AccountId, Vec<&Arc<Rule>>> = HashMap::new();
        for rule in &past.rules {
            by_root.entry(&rule.root).or_default().push(rule);
        }
        for (root, rules) in by_root {
            self.in_tree(root, Self::LONG_WAIT, &SCRIPTS.built, |epoch| {
                past::built_arguments(epoch, latest_ms, rules.iter().copied())
            })
            .await?;
        }
        Ok(())
    }

    /// As [`crate::quota::Quota::add`].
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn add(self: &Arc<Self>, uses: &[Use], now: Timestamp) -> Result<(), LinkError> {
        let latest_ms = self.advance(now);
        for (bound, units) in past::by_cell(uses, now) {
            let root = bound.rule.root.clone();
            let booked = [(bound, units)];
            self.in_tree(&root, Self::LONG_WAIT, &SCRIPTS.seed, |epoch| {
                past::seed_arguments(epoch, latest_ms, "", &booked, now)
            })
            .await?;
        }
        Ok(())
    }

    /// As [`crate::quota::Quota::adopt`]. Trees without limits have an empty list.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn adopt(
        self: &Arc<Self>,
        trees: HashMap<AccountId, Vec<Arc<Rule>>>,
        now: Timestamp,
    ) -> Result<Vec<Arc<Rule>>, LinkError> {
        let latest_ms = self.advance(now);
        let mut adopting = JoinSet::new();
        let mut unbuilt = Vec::new();
        for (root, rules) in trees {
            if adopting.len() >= Self::CALLS_MAX
                && let Some(Ok(found)) = adopting.join_next().await
            {
                unbuilt.append(&mut found?);
            }
            let quota = Arc::clone(self);
            adopting.spawn(async move {
                let adopted = quota.in_tree(&root, Self::LONG_WAIT, &SCRIPTS.adopt, |epoch| {
                    past::adopt_arguments(epoch, latest_ms, &rules, now)
                });
                let (_, mut answer) = adopted.await?;
                answer.text();
                let is_unbuilt = |_: &Arc<Rule>| answer.integer() == Some(1);
                Ok::<_, TreeError>(rules.into_iter().filter(is_unbuilt).collect())
            });
        }
        while let Some(found) = adopting.join_next().await {
            if let Ok(found) = found {
                let mut found: Vec<Arc<Rule>> = found?;
                unbuilt.append(&mut found);
            }
        }
        Ok(unbuilt)
    }

    /// As [`crate::quota::Quota::forget`].
    pub fn forget(&self, rules: &[Arc<Rule>], now: Timestamp) {
        self.share.forget(rules, now);
        self.lock().forget(rules, now);
    }

    /// As [`crate::quota::Quota::remember`].
    pub fn remember(&self, uses: &[Use], now: Timestamp) {
        let mut node = self.lock();
        for (bound, units) in past::by_cell(uses, now) {
            if bound.window.end_ms <= now.as_millisecond() {
                continue;
            }
            let counter = Arc::clone(&bound.rule.counter);
            let last = node.last.entry(counter).or_insert_with(|| Last {
                rule: Arc::clone(&bound.rule),
                window_end_ms: bound.window.end_ms,
                state: CounterState::default(),
            });
            last.state.used = last.state.used.saturating_add(units);
        }
    }
}
