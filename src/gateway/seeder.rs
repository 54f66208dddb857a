//! What shared counters are built from when Redis does not have them: the ledger.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

use jiff::Timestamp;

use super::{FLUSH_TIMEOUT, Gateway, rebuild};
use crate::ids::{AccountId, RequestId};
use crate::ledger::Outcome;
use crate::ledger::store::EntryFilter;
use crate::plan::Measure;
use crate::quota::{Bound, Demand, Seeder, Use};

/// Reads a tree's use from the ledger of a gateway, once that is there: the gateway owns the counters that ask.
#[derive(Default)]
pub(super) struct LedgerSeeder {
    gateway: OnceLock<Weak<Gateway>>,
}

impl LedgerSeeder {
    pub(super) fn attach(&self, gateway: &Arc<Gateway>) {
        // Attached once, when the gateway starts; a second time would be the same gateway.
        let _ = self.gateway.set(Arc::downgrade(gateway));
    }

    fn gateway(&self) -> Option<Arc<Gateway>> {
        self.gateway.get().and_then(Weak::upgrade)
    }
}

impl Seeder for LedgerSeeder {
    fn flush(&self) {
        if let Some(gateway) = self.gateway()
            && let Err(error) = gateway.ledger.flush(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "counters are rebuilt without the entries that have not reached the store");
        }
    }

    fn used(&self, root: &AccountId, except: &HashSet<RequestId>) -> Result<Vec<Use>, String> {
        let gateway = self.gateway().ok_or("the gateway is not there yet")?;
        let (snapshot, now) = (gateway.snapshot(), Timestamp::now());
        let rules: Vec<_> = snapshot
            .chains
            .rules()
            .filter(|rule| rule.counts && rule.counter.per().is_some() && rule.root == *root)
            .cloned()
            .collect();
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let mut uses = rebuild::sum(gateway.store.as_ref(), &snapshot.chains, &rules, now)
            .map_err(|error| error.to_string())?;
        let Some(since) = except.iter().filter_map(made_at).min() else {
            return Ok(uses);
        };
        // Rollups hold those requests too: their entries, all of them young, are taken out again.
        let filter = EntryFilter {
            since: Some(since),
            ..EntryFilter::default()
        };
        let scanned = gateway.store.scan(&filter, &mut |entry| {
            if !except.contains(&entry.id) {
                return true;
            }
            let used = Demand::settled(entry.cost_usd(), &entry.usage);
            let model = entry.model.as_ref().map_or("", |model| model.as_str());
            let of_entry = snapshot
                .chains
                .rules_of(&entry.lineage, Some(&entry.key), model);
            for rule in of_entry.filter(|rule| rule.root == *root) {
                let on = rule.counter.on();
                let counted = on != Measure::Requests || entry.outcome != Outcome::Rejected;
                let at_ms = entry.started_at.as_millisecond();
                if counted && Bound::new(rule, now).window.contains(at_ms) {
                    uses.push(Use {
                        rule: Arc::clone(rule),
                        at: entry.started_at,
                        units: -used.units(on),
                    });
                }
            }
            true
        });
        scanned.map_err(|error| error.to_string())?;
        Ok(uses)
    }
}

/// A little before a request was given its id.
fn made_at(id: &RequestId) -> Option<Timestamp> {
    let (seconds, _) = id.0.get_timestamp()?.to_unix();
    Timestamp::from_second(i64::try_from(seconds).ok()?.saturating_sub(5)).ok()
}
