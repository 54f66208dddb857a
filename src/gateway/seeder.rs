//! What shared counters are built from when Redis does not have them: the ledger.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

use jiff::Timestamp;

use super::rebuild::{self, Apart};
use super::{FLUSH_TIMEOUT, Gateway};
use crate::ids::{AccountId, RequestId};
use crate::quota::{Past, Seeder};

/// Reads trees' use from the ledger of a gateway, once that is there: the gateway owns the counters that ask.
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
    fn flush(&self) -> Result<(), String> {
        let gateway = self.gateway().ok_or("the gateway is not there yet")?;
        let flushed = gateway.ledger.flush(FLUSH_TIMEOUT);
        flushed.map_err(|error| error.to_string())
    }

    fn used(
        &self,
        roots: &HashSet<AccountId>,
        except: &HashSet<RequestId>,
    ) -> Result<Past, String> {
        let gateway = self.gateway().ok_or("the gateway is not there yet")?;
        let (snapshot, now) = (gateway.snapshot(), Timestamp::now());
        let rules: Vec<_> = snapshot
            .chains
            .rules()
            .filter(|rule| rule.counts && rule.per.is_some() && roots.contains(&rule.root))
            .filter(|rule| !gateway.added.is_filling(rule))
            .cloned()
            .collect();
        let apart = Apart {
            except: except.clone(),
            ended_by: None,
        };
        let store = gateway.store.as_ref();
        let uses = rebuild::sum(store, &snapshot.chains, &rules, &apart, now)
            .map_err(|error| error.to_string())?;
        Ok(Past { rules, uses })
    }

    fn owe(&self, root: &AccountId) {
        if let Some(gateway) = self.gateway() {
            gateway.ledger.owe(root);
        }
    }

    fn paid(&self) {
        if let Some(gateway) = self.gateway() {
            gateway.ledger.paid();
        }
    }

    fn owed_by_the_dead(&self) -> Vec<AccountId> {
        let gateway = self.gateway();
        gateway.map_or_else(Vec::new, |gateway| gateway.ledger.owed_by_the_dead())
    }

    fn given_up(&self, roots: &[AccountId]) {
        if let Some(gateway) = self.gateway() {
            gateway.ledger.given_up(roots);
        }
    }
}
