//! A few connections for reading, beside the one that writes.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::{connect, failed};
use crate::ledger::store::StoreError;

/// The most reads at once.
const READERS_MAX: usize = 4;
/// The page cache of a reader, in KiB as SQLite takes it: long reads go through the file once, and a larger cache is but
/// memory that the system must clear first.
const CACHE_KIB: i32 = -2_048;
/// How long a read waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Debug)]
struct State {
    idle: Vec<Connection>,
    in_use: usize,
}

impl Readers {
    /// An empty pool: connections are opened when they are needed.
    pub(super) fn new(path: &Path) -> Readers {
        Readers {
            path: path.to_owned(),
            state: Mutex::new(State {
                idle: Vec::new(),
                in_use: 0,
            }),
            turn: Condvar::new(),
        }
    }

    /// Runs a read on a connection of its own.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.take_turn()?;
        let turn = Turn { readers: self };
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let connection = connect(&self.path)?;
                connection
                    .pragma_update(None, "cache_size", CACHE_KIB)
                    .map_err(failed)?;
                connection
            }
        };
        let value = read(&connection)?;
        turn.keep(connection);
        Ok(value)
    }

    fn take_turn(&self) -> Result<Option<Connection>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut state, waited) = self
            .turn
            .wait_timeout_while(state, TURN_TIMEOUT, |state| state.in_use >= READERS_MAX)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(StoreError::Unavailable(
                "too many long reads at once".into(),
            ));
        }
        state.in_use += 1;
        Ok(state.idle.pop())
    }
}

/// A turn that was taken; dropping gives it back, however the read ends.
struct Turn<'a> {
    readers: &'a Readers,
}

impl Turn<'_> {
    fn keep(self, connection: Connection) {
        let mut state = self
            .readers
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.idle.push(connection);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self
            .readers
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.in_use -= 1;
        drop(state);
        self.readers.turn.notify_one();
    }
}
