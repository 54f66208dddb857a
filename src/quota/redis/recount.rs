//! Counters that lack what nobody can tell Redis any more: given up, and built anew from the ledger.
//!
//! A gateway owes Redis the settlements of an outage, and they are only in its memory. If it ends before Redis is back, their
//! cost is in the ledger and nowhere else. Settling them later by the ledger's entries would not do: of what was admitted
//! while Redis was away Redis knows nothing, and of the rest it forgets after an hour who was settled; what it had taken
//! would be charged twice. A rebuild counts each request once, whatever Redis had taken of it: so the names of the trees
//! concerned are all that must outlive the gateway ([`super::Seeder::owe`]).
//!
//! To the other gateways it looks as if Redis had lost these trees. They notice by the moment since which Redis has kept its
//! data, bring their entries into the ledger, and register their open requests, which the ledger's sums then leave out. What a
//! dead gateway had reserved is not registered by anyone, and so is free. The price: requests of these trees are treated for a
//! second as if Redis were away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::script::{Arguments, SCRIPTS};
use super::{LinkError, RedisQuota, TreeError};
use crate::ids::AccountId;

impl RedisQuota {
    /// Settlements that Redis has not taken.
    pub fn owed(&self) -> usize {
        let node = self.lock();
        node.owed.len() + node.uncounted.values().sum::<usize>()
    }

    /// Has trees built anew whose counters lack settlements of gateways that are gone, or of this one. What fails is tried
    /// again at the next tick.
    pub(super) async fn recount(self: &Arc<Self>) {
        let uncounted: HashMap<AccountId, usize> = self.lock().uncounted.clone();
        let mut trees: HashSet<AccountId> = uncounted.keys().cloned().collect();
        trees.extend(self.seeder.owed_by_the_dead());
        if trees.is_empty() || !self.is_up() {
            return;
        }
        let trees: Vec<AccountId> = trees.into_iter().collect();
        // The ledger comes first: whoever builds the counters is to find in it what they lack.
        if !self.flush().await {
            return;
        }
        if let Err(error) = self.give_up(&trees).await {
            tracing::warn!(error = %LinkError::from(error), "counters that lack settlements could not be given up yet");
            return;
        }
        tracing::warn!(
            trees = trees.len(),
            "quota counters lack settlements that Redis was not told of: they are built anew from the ledger"
        );
        self.seeder.given_up(&trees);
        let mut node = self.lock();
        for (tree, count) in uncounted {
            let left = node.uncounted.get(&tree).copied().unwrap_or_default();
            match left.saturating_sub(count) {
                0 => node.uncounted.remove(&tree),
                left => node.uncounted.insert(tree, left),
            };
        }
    }

    /// Takes trees' counters out of Redis, and tells the other gateways that data is lost: before, so that nobody builds them
    /// without waiting for the others, and after, so that what these settled until then is in the ledger in time.
    async fn give_up(self: &Arc<Self>, trees: &[AccountId]) -> Result<(), TreeError> {
        // Few at a time: a rebuild waits for others since the first telling.
        for some in trees.chunks(Self::CALLS_MAX) {
            self.tell_of_loss().await?;
            let mut losing = JoinSet::new();
            for tree in some {
                let (quota, tree) = (Arc::clone(self), tree.clone());
                losing.spawn(async move {
                    let arguments = Arguments::new("", quota.latest().as_millisecond());
                    quota.call(&tree, &SCRIPTS.lose, &arguments).await
                });
            }
            while let Some(Ok(lost)) = losing.join_next().await {
                lost?;
            }
            self.tell_of_loss().await?;
        }
        Ok(())
    }

    /// Another moment than before, so that every gateway takes notice, this one included.
    async fn tell_of_loss(&self) -> Result<(), TreeError> {
        let known_ms = self.since_ms().await.unwrap_or(i64::MIN);
        let since_ms = self
            .latest_ms
            .load(Ordering::Relaxed)
            .max(known_ms.saturating_add(1));
        let told = redis::cmd("SET").arg("weir:since").arg(since_ms).to_owned();
        let told: Result<(), LinkError> = self.link.command(&told).await;
        self.heard(told.as_ref().err());
        told.map_err(TreeError::Link)
    }
}
