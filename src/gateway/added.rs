//! Limits that are younger than requests in flight: these settle into them too.
//!
//! A new limit's counter is filled from the ledger with what ended before the limit came; what ends after it adds itself.
//! Which of the two a request is, the keeper of counters says, at one moment for all ([`Quota::begin_generation`]).
//!
//! [`Quota::begin_generation`]: crate::quota::Quota::begin_generation

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::Gateway;
use crate::ids::{AccountId, KeyId, ModelName};
use crate::plan::Measure;
use crate::quota::chain::Rule;
use crate::quota::{CounterId, Demand, Owner, Use};

/// What decides which limits a request counts against.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The generation of limits that it was admitted to.
    pub generation: u64,
    /// The accounts that it counts against.
    pub lineage: Arc<[AccountId]>,
    /// Its key.
    pub key: KeyId,
    /// The model that it asked for.
    pub model: Option<ModelName>,
    /// When it was admitted.
    pub at: Timestamp,
}

/// The limits that each of the latest generations brought, and those among them whose past is being read.
#[derive(Default)]
pub(super) struct AddedLimits {
    by_generation: Mutex<VecDeque<(u64, Vec<Arc<Rule>>)>>,
    filling: Mutex<HashSet<Arc<CounterId>>>,
}

/// Generations kept: more reloads than a call lasts, at three a second.
const KEPT: usize = 10_000;

impl AddedLimits {
    /// Keeps what a generation brought. Before it begins.
    pub(super) fn note(&self, generation: u64, rules: &[Arc<Rule>]) {
        let mut added = self
            .by_generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if added.len() >= KEPT {
            added.pop_front();
        }
        added.push_back((generation, rules.to_vec()));
    }

    /// The past of these limits will be read by who took them into force, and by nobody else: only he knows which requests
    /// add themselves.
    pub(super) fn fills(&self, rules: &[Arc<Rule>]) {
        let counters = rules.iter().map(|rule| Arc::clone(&rule.counter));
        self.filling().extend(counters);
    }

    /// It has been read.
    pub(super) fn filled(&self, rules: &[Arc<Rule>]) {
        let mut filling = self.filling();
        rules.iter().for_each(|rule| {
            filling.remove(&rule.counter);
        });
    }

    /// Whether somebody is about to read a limit's past.
    pub(super) fn is_filling(&self, rule: &Rule) -> bool {
        self.filling().contains(&rule.counter)
    }

    fn filling(&self) -> MutexGuard<'_, HashSet<Arc<CounterId>>> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of a request that came after its admission, up to a generation. Concurrency has no past.
    fn of(&self, origin: &Origin, until: u64) -> Vec<Arc<Rule>> {
        let added = self
            .by_generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let model = origin.model.as_ref().map_or("", ModelName::as_str);
        let later = added
            .iter()
            .filter(|(generation, _)| origin.generation < *generation && *generation <= until);
        later
            .flat_map(|(_, rules)| rules)
            .filter(|rule| rule.counts && rule.on != Measure::Concurrent && rule.matches(model))
            .filter(|rule| match rule.counter.owner() {
                Owner::Account(account) => origin.lineage.contains(account),
                Owner::Key(key) => origin.key == *key,
            })
            .cloned()
            .collect()
    }
}

impl Gateway {
    /// Settles a request into the limits that came while it was in flight.
    pub async fn settle_added(&self, origin: &Origin, until: u64, used: &Demand) {
        let rules = self.added.of(origin, until);
        let uses: Vec<Use> = rules
            .into_iter()
            .map(|rule| Use {
                units: used.units(rule.on),
                at: origin.at,
                rule,
            })
            .collect();
        if !uses.is_empty()
            && let Err(error) = self.quota.add(&uses, Timestamp::now()).await
        {
            tracing::warn!(%error, "a request in flight could not be counted on a limit that is new");
        }
    }
}
