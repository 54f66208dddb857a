//! A store that a test can take away.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::ids::{AccountId, KeyId, RequestId};
use crate::ledger::entry::Entry;
use crate::ledger::store::{
    AccountEvent, AuditLine, EntryFilter, Grain, PlanEvent, RollupRow, Store, StoreError, Stored,
    StoredKey, TimeRange,
};
use crate::secret::KeyDigest;

/// A store in memory that goes away on command.
#[derive(Default)]
pub(super) struct Fake {
    entries: Mutex<BTreeMap<RequestId, Entry>>,
    pub(super) away: AtomicBool,
    pub(super) refused: Mutex<HashSet<RequestId>>,
    pub(super) batches: AtomicUsize,
    pub(super) durable: AtomicUsize,
}

impl Fake {
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().values().cloned().collect()
    }

    fn answer(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("gone fishing".into())),
            false => Ok(()),
        }
    }
}

impl Store for Fake {
    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.answer()?;
        let refused = self.refused.lock().unwrap();
        if entries.iter().any(|entry| refused.contains(&entry.id)) {
            return Err(StoreError::Refused("out of range".into()));
        }
        self.batches.fetch_add(1, Ordering::SeqCst);
        let mut known = self.entries.lock().unwrap();
        let before = known.len();
        for entry in entries {
            known.entry(entry.id).or_insert_with(|| entry.clone());
        }
        Ok(known.len() - before)
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        self.answer()?;
        self.durable.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn migrate(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    fn scan(&self, _: &EntryFilter, _: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        unreachable!()
    }
    fn rollup(
        &self,
        _: Grain,
        _: TimeRange,
        _: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn approximate_entries(&self) -> Result<u64, StoreError> {
        unreachable!()
    }
    fn pepper(&self) -> Result<Vec<u8>, StoreError> {
        unreachable!()
    }
    fn stored_version(&self) -> Result<u64, StoreError> {
        unreachable!()
    }
    fn stored(&self) -> Result<Stored, StoreError> {
        unreachable!()
    }
    fn put_plan(
        &self,
        _: &crate::plan::Plan,
        _: Option<u64>,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn put_account(
        &self,
        _: &crate::plan::Account,
        _: Option<u64>,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn put_key(&self, _: &StoredKey, _: Option<u64>, _: &AuditLine) -> Result<(), StoreError> {
        unreachable!()
    }
    fn revoke_key(
        &self,
        _: &KeyId,
        _: &KeyDigest,
        _: jiff::Timestamp,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError> {
        unreachable!()
    }
    fn account_events_of(&self, _: &AccountId) -> Result<Vec<AccountEvent>, StoreError> {
        unreachable!()
    }
    fn add_account_events(&self, _: &[AccountEvent]) -> Result<(), StoreError> {
        unreachable!()
    }
    fn plan_events(&self, _: &mut dyn FnMut(PlanEvent)) -> Result<(), StoreError> {
        unreachable!()
    }
    fn add_plan_events(&self, _: &[PlanEvent]) -> Result<(), StoreError> {
        unreachable!()
    }
    fn audit(&self, _: usize) -> Result<Vec<AuditLine>, StoreError> {
        unreachable!()
    }
    fn add_audit(&self, _: &AuditLine) -> Result<(), StoreError> {
        unreachable!()
    }
}
