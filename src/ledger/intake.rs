//! The way of entries into the store, and aside for those that it will not take.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Entry;
use super::json;
use super::store::{Store, StoreError};

/// Told of entries that a dead process left, once they are in the store.
pub type OnRecovered = Arc<dyn Fn(&[Entry]) + Send + Sync>;

/// A store, and a file for entries that it refuses.
pub(super) struct Intake {
    store: Arc<dyn Store>,
    refused: PathBuf,
    on_recovered: Option<OnRecovered>,
}

impl Intake {
    /// Entries that the store refuses go to `refused.jsonl` in `directory`.
    pub(super) fn new(
        store: Arc<dyn Store>,
        directory: &Path,
        on_recovered: Option<OnRecovered>,
    ) -> Intake {
        Intake {
            store,
            refused: directory.join("refused.jsonl"),
            on_recovered,
        }
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Appends a batch of a dead process's entries, and tells of it.
    ///
    /// # Errors
    /// As [`Intake::append`].
    pub(super) fn recover(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        let new = self.append(entries)?;
        if let Some(on_recovered) = &self.on_recovered {
            on_recovered(entries);
        }
        Ok(new)
    }

    /// Appends a batch. One entry that the store refuses for what it is (a value beyond a column's range) must not
    /// hold up all others for ever: it is set aside in a file, and an error is logged.
    ///
    /// # Errors
    /// The store's, when the same batch may go through later.
    pub(super) fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.or_one_by_one(entries, |store| store.append(entries))
    }

    /// As [`Intake::append`], for a batch that has time.
    ///
    /// # Errors
    /// As [`Intake::append`].
    pub(super) fn append_in_turns(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.or_one_by_one(entries, |store| store.append_in_turns(entries))
    }

    fn or_one_by_one(
        &self,
        entries: &[Entry],
        append: impl FnOnce(&dyn Store) -> Result<usize, StoreError>,
    ) -> Result<usize, StoreError> {
        if entries.is_empty() {
            return Ok(0);
        }
        match append(self.store()) {
            Err(StoreError::Refused(reason)) => self.append_one_by_one(entries, &reason),
            other => other,
        }
    }

    fn append_one_by_one(&self, entries: &[Entry], reason: &str) -> Result<usize, StoreError> {
        let mut new = 0;
        for entry in entries {
            match self.store.append(std::slice::from_ref(entry)) {
                Ok(count) => new += count,
                Err(StoreError::Refused(_)) => {
                    tracing::error!(id = %entry.id, reason, file = %self.refused.display(),
                        "the store refuses an entry: it is set aside");
                    self.set_aside(entry)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(new)
    }

    fn set_aside(&self, entry: &Entry) -> Result<(), StoreError> {
        let written = || {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.refused)?;
            let mut line = Vec::new();
            json::write(entry, &mut line)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_data()
        };
        written().map_err(|error| {
            StoreError::Unavailable(format!("{}: {error}", self.refused.display()))
        })
    }
}
