//! A ledger on disk, in a directory of its own.

use std::ops::Deref;

use weir::ledger::Entry;
use weir::ledger::sqlite::SqliteStore;
use weir::ledger::store::{AccountEvent, Store as _};

pub(crate) struct Ledger {
    store: SqliteStore,
    /// What was written when it was made.
    pub(crate) entries: Vec<Entry>,
    _directory: tempfile::TempDir,
}

impl Ledger {
    pub(crate) fn new(entries: Vec<Entry>, events: &[AccountEvent]) -> Ledger {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("weir.db")).unwrap();
        store.migrate().unwrap();
        store.append(&entries).unwrap();
        store.add_account_events(events).unwrap();
        Ledger {
            store,
            entries,
            _directory: directory,
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new(Vec::new(), &[])
    }
}

impl Deref for Ledger {
    type Target = SqliteStore;
    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}
