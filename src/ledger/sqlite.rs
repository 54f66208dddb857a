//! The embedded store: one SQLite file in WAL mode.
//!
//! **Durability.** Commits run with `synchronous = NORMAL`: they survive the death of the process, not the loss of power.
//! That is what the journal is for: its files are deleted, and entries marked as applied, only after
//! [`Store::make_durable`] has forced the write-ahead log to the disk. A loss of power may then take committed entries
//! from the database, never ones that the journal no longer has. With `FULL` each commit would wait for the disk (5 ms),
//! and the writer could not keep up at small batches.
//!
//! **Upkeep.** Automatic checkpoints are off: they would run inside a commit. The keeper thread does them on a connection
//! of its own, beside the writer, and holds the writer back only for the short rest once the log has grown large.
//!
//! **Several processes** may have the file open: a gateway that stops and the one that follows it, the command line. Writers
//! wait for each other up to `BUSY_TIMEOUT`. All are of one version: what a new one has migrated is not an older one's to write.

mod entries;
mod names;
mod readers;
mod rollups;
mod schema;
mod stored;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::entry::Entry;
use super::store::{
    AccountEvent, AuditLine, EntryFilter, Grain, PlanEvent, RollupRow, Store, StoreError, Stored,
    StoredKey, TimeRange,
};
use crate::ids::{AccountId, KeyId};
use crate::plan::{Account, Plan};
use crate::secret::KeyDigest;
use entries::Pace;
use names::{Interned, Names};
use readers::Readers;

/// How long a writer waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries after which the log is copied into the database, and the longest time between two copies.
const CHECKPOINT_ENTRIES: usize = 500;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// Pages in the log at which the writer is held back until all of it is copied, so that the log can begin anew.
const LOG_PAGES_MAX: i64 = 8_192;

/// A ledger in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    pen: Mutex<Pen>,
    readers: Readers,
    names: Names,
    upkeep: Mutex<Upkeep>,
}

/// The one connection that writes.
#[derive(Debug)]
struct Pen {
    connection: Connection,
    interned: Interned,
    /// Entries since the last checkpoint.
    unchecked: usize,
}

#[derive(Debug)]
struct Upkeep {
    connection: Connection,
    checked_at: Instant,
}

impl SqliteStore {
    /// Opens the file, which is made if need be, readable by its owner alone: it holds the secret for key digests.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be opened, [`StoreError::Damaged`] when it is no database.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        create_private(path)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        let pen = connect(path)?;
        Ok(SqliteStore {
            path: path.to_owned(),
            readers: Readers::new(path),
            upkeep: Mutex::new(Upkeep {
                connection: connect(path)?,
                checked_at: Instant::now(),
            }),
            pen: Mutex::new(Pen {
                connection: pen,
                interned: Interned::default(),
                unchecked: 0,
            }),
            names: Names::default(),
        })
    }

    /// Appends in one transaction; how many were new.
    fn insert(&self, entries: &[Entry], pace: Pace) -> Result<usize, StoreError> {
        let new = self
            .write(|transaction, interned| entries::insert(transaction, interned, entries, pace))?;
        self.pen().unchecked += new;
        Ok(new)
    }

    /// Runs `change` in one transaction of the writing connection.
    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>, &mut Interned) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut pen = self.pen();
        let Pen {
            connection,
            interned,
            ..
        } = &mut *pen;
        // Immediate: two processes that both read first and write later would fail instead of waiting.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| named(&self.path, failed(error)))?;
        let done = change(&transaction, interned)
            .and_then(|value| transaction.commit().map_err(failed).map(|()| value));
        if done.is_err() {
            // Names that the transaction made are gone with it.
            interned.clear();
        }
        done.map_err(|error| named(&self.path, error))
    }

    /// Forces the write-ahead log to the disk. It is an ordinary file that SQLite neither locks nor keeps elsewhere.
    fn sync_log(&self) -> io::Result<()> {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        match File::open(PathBuf::from(log)) {
            Ok(log) => log.sync_data(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn checkpoint(&self, upkeep: &mut Upkeep) -> Result<(), StoreError> {
        let pages = passive_checkpoint(&upkeep.connection)?;
        if pages > LOG_PAGES_MAX {
            // Under steady writing a copy beside the writer is never complete, and the log would grow for ever.
            let _held_back = self.pen();
            passive_checkpoint(&upkeep.connection)?;
        }
        upkeep.checked_at = Instant::now();
        Ok(())
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        // A panic inside a transaction has rolled it back.
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn migrate(&self) -> Result<(), StoreError> {
        schema::migrate(&mut self.pen().connection)
    }

    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.insert(entries, Pace::AtOnce)
    }

    fn append_in_turns(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.insert(entries, Pace::InTurns)
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_log()
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let unchecked = self.pen().unchecked;
        let due = unchecked > CHECKPOINT_ENTRIES
            || (unchecked > 0 && upkeep.checked_at.elapsed() > CHECKPOINT_EVERY);
        if due {
            self.checkpoint(&mut upkeep)?;
            self.pen().unchecked = 0;
        }
        Ok(())
    }

    fn scan(
        &self,
        filter: &EntryFilter,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), StoreError> {
        self.readers
            .with(|connection| entries::scan(connection, &self.names, filter, each))
    }

    fn rollup(
        &self,
        grain: Grain,
        range: TimeRange,
        each: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError> {
        self.readers
            .with(|connection| rollups::read(connection, &self.names, grain, range, each))
    }

    fn approximate_entries(&self) -> Result<u64, StoreError> {
        self.readers
            .with(|connection| schema::fact(connection, "entries"))
    }

    fn pepper(&self) -> Result<Vec<u8>, StoreError> {
        self.write(|transaction, _| stored::pepper(transaction))
    }

    fn stored_version(&self) -> Result<u64, StoreError> {
        self.readers
            .with(|connection| schema::fact(connection, "stored_version"))
    }

    fn stored(&self) -> Result<Stored, StoreError> {
        self.readers.with(stored::read)
    }

    fn put_plan(
        &self,
        plan: &Plan,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::put_plan(transaction, plan, based_on, audit))
    }

    fn put_account(
        &self,
        account: &Account,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::put_account(transaction, account, based_on, audit))
    }

    fn put_key(
        &self,
        key: &StoredKey,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::put_key(transaction, key, based_on, audit))
    }

    fn revoke_key(
        &self,
        key: &KeyId,
        digest: &KeyDigest,
        at: Timestamp,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::revoke_key(transaction, key, digest, at, audit))
    }

    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError> {
        self.readers
            .with(|connection| stored::account_events(connection, None))
    }

    fn account_events_of(&self, account: &AccountId) -> Result<Vec<AccountEvent>, StoreError> {
        self.readers
            .with(|connection| stored::account_events(connection, Some(account)))
    }

    fn add_account_events(&self, events: &[AccountEvent]) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::add_account_events(transaction, events))
    }

    fn plan_events(&self, each: &mut dyn FnMut(PlanEvent)) -> Result<(), StoreError> {
        self.readers
            .with(|connection| stored::plan_events(connection, each))
    }

    fn add_plan_events(&self, events: &[PlanEvent]) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::add_plan_events(transaction, events))
    }

    fn audit(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.readers
            .with(|connection| stored::audit(connection, limit))
    }

    fn add_audit(&self, line: &AuditLine) -> Result<(), StoreError> {
        self.write(|transaction, _| stored::add_audit(transaction, line))
    }
}

/// A connection as all of them are set up.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    open_connection(path).map_err(|error| named(path, error))
}

/// An error of the file with its name: there are several on a machine. What is refused is not the file's fault.
fn named(path: &Path, error: StoreError) -> StoreError {
    let named = |text: String| format!("{}: {text}", path.display());
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(named(text)),
        StoreError::Damaged(text) => StoreError::Damaged(named(text)),
        refused => refused,
    }
}

/// The pages that a connection keeps, in KiB. Entries and rollups of the current hour are what is written, and they fit; more
/// would fill for hours and look like a leak. What it does not hold is in the page cache of the system.
const CACHE_KIB: u32 = 2 * 1024;

fn open_connection(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    write_ahead(&connection).map_err(failed)?;
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = NORMAL;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA cache_size = -{CACHE_KIB};
             PRAGMA temp_store = MEMORY;",
        ))
        .map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Gives the file its write-ahead log. Of several processes that do so to a new file at once, SQLite fails some without
/// waiting: each holds a lock that the other needs, and the busy timeout is for those whose waiting can end. They try again.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let begun_at = Instant::now();
    loop {
        let done = connection.execute_batch("PRAGMA journal_mode = WAL");
        match done {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun_at.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Copies what it can from the log into the database without waiting for anybody; how many pages the log has.
fn passive_checkpoint(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .map_err(failed)
}

/// SQLite's errors by what can be done about them.
fn failed(error: rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(text),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            StoreError::Refused(text)
        }
        Some(_) => StoreError::Unavailable(text),
        // Not from SQLite but from reading a value: another type than was ever written there.
        None => StoreError::Damaged(text),
    }
}

#[cfg(test)]
mod tests;
