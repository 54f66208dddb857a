//! The ledger: one entry for each request, handed to the operating system before the client sees the end.
//!
//! ```text
//! begin ─▶ journal                                  one write, before the upstream call
//! close ─▶ journal ─▶ queue ─▶ writer ─▶ store      one write, before the answer's last byte; batches behind it
//!                                 ▲
//!                     journal ────┘                 read again when the queue was full (the store was away)
//! ```
//!
//! Four owners, one state each: the [`journal`] has the file and its pen; the writer thread moves closed entries to the
//! store in batches and waits while the store is away; the keeper thread makes the store durable, deletes journal
//! files that are no longer needed and takes over those of dead processes; the sync thread forces the journal to the
//! disk at the set interval. Entries reach the store exactly once because the store knows their ids.

mod batch;
mod codec;
pub mod entry;
pub mod export;
mod intake;
pub mod journal;
pub mod json;
mod keeper;
pub mod postgres;
mod rollup;
pub mod sqlite;
pub mod store;
mod stored;
mod writer;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
pub(crate) mod store_tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use entry::{Entry, Outcome};
use intake::Intake;
pub use intake::OnRecovered;
use journal::Journal;
pub use journal::{Fsync, JournalError, Recovery};
use store::{Store, StoreError};
use writer::Queue;

use crate::ids::{AccountId, RequestId};

/// How a ledger works.
#[derive(Clone)]
pub struct Settings {
    /// Where journals are: one directory for all gateways on this machine that share a store.
    pub journal: PathBuf,
    /// When journal records are forced to the disk.
    pub fsync: Fsync,
    /// The size at which a new journal file is begun.
    pub segment_bytes: u64,
    /// The size of the journal at which requests are refused, because the store has been away for too long.
    pub spool_bytes_max: u64,
    /// The most closed entries that wait in memory (a batch more may be in the writer's hands); beyond it the writer reads
    /// them from the journal.
    pub queue_entries_max: usize,
    /// The most entries in one transaction.
    pub batch_entries_max: usize,
    /// How long the writer waits for a batch to fill.
    pub batch_wait: Duration,
    /// Told how long each batch took to write.
    pub on_write: Option<Arc<dyn Fn(Duration) + Send + Sync>>,
    /// Told of entries that dead processes left in their journals, once they are in the store. Some of them may have been
    /// told before, by the process itself or by one that took its journal over and died in turn.
    pub on_recovered: Option<OnRecovered>,
}

impl Settings {
    /// The defaults, with journals in that directory: fsync every 50 ms, files of 16 MiB, 4 GiB in all.
    pub fn new(journal: PathBuf) -> Settings {
        Settings {
            journal,
            fsync: Fsync::Interval(50),
            segment_bytes: 16 << 20,
            spool_bytes_max: 4 << 30,
            queue_entries_max: 32 * 1024,
            batch_entries_max: 1000,
            batch_wait: Duration::from_millis(20),
            on_write: None,
            on_recovered: None,
        }
    }
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The journal did not take a record.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal's directory cannot be used.
    #[error("the journals in {0} cannot be used: {1}")]
    Directory(PathBuf, String),
    /// A thread could not be started.
    #[error("a thread of the ledger could not be started: {0}")]
    Thread(std::io::Error),
    /// It did not get done within the time given.
    #[error("{0} ledger entries had not reached the store in time; they are safe in the journal")]
    TimedOut(u64),
}

/// A handle to the ledger; clones share it. When the last one goes without [`Ledger::shutdown`], the threads stop where
/// they are, and the next start finds the rest in the journal.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

/// What the threads and all handles share.
struct Shared {
    settings: Settings,
    journal: Journal,
    intake: Intake,
    queue: Queue,
}

impl Shared {
    /// Tells the threads to end.
    fn stop(&self) {
        self.queue.stop();
        self.journal.wake();
    }
}

impl Ledger {
    /// Takes over what dead processes left in the journals, and starts the threads. The store is migrated already.
    ///
    /// When the store is away, what was left waits ([`Recovery::waiting`]) and the ledger runs from its journal alone.
    ///
    /// # Errors
    /// When the journal's directory cannot be used or the store is damaged.
    pub fn start(
        settings: Settings,
        store: Arc<dyn Store>,
    ) -> Result<(Ledger, Recovery), LedgerError> {
        let unusable = |error: std::io::Error| {
            LedgerError::Directory(settings.journal.clone(), error.to_string())
        };
        std::fs::create_dir_all(&settings.journal).map_err(unusable)?;
        let intake = Intake::new(store, &settings.journal, settings.on_recovered.clone());
        let mut recovery = Recovery::default();
        let mut waiting = Vec::new();
        let (found, others) = journal::abandoned(&settings.journal).map_err(unusable)?;
        recovery.others = others;
        let limits = journal::Limits {
            segment_bytes: settings.segment_bytes,
            total_bytes: settings.spool_bytes_max,
        };
        // Before the others are taken over: what their processes owed passes to this one's file.
        let journal = Journal::create(&settings.journal, settings.fsync, limits)?;
        for abandoned in found {
            match abandoned.recover(&intake, &journal.owed) {
                Ok(found) => recovery += found,
                Err(StoreError::Unavailable(reason)) => {
                    tracing::warn!(
                        reason,
                        "the journal of a dead process must wait for the store"
                    );
                    recovery.waiting += 1;
                    waiting.push(abandoned);
                }
                Err(error) => {
                    journal.remove_if_done();
                    return Err(error.into());
                }
            }
        }
        let shared = Arc::new(Shared {
            queue: Queue::new(
                settings.queue_entries_max,
                settings.batch_entries_max,
                journal.end(),
            ),
            settings,
            journal,
            intake,
        });
        let threads = Threads::start(&shared, waiting).map_err(LedgerError::Thread)?;
        let ledger = Ledger {
            shared,
            _threads: Arc::new(threads),
        };
        Ok((ledger, recovery))
    }

    /// Records a request before it goes upstream. `entry` is what will be booked if the process dies with it: outcome
    /// `interrupted`, with the usage and cost that can be known or estimated now.
    ///
    /// # Errors
    /// The request must then be refused: its end could not be kept.
    pub fn begin(&self, entry: &Entry) -> Result<(), LedgerError> {
        self.put_begin(entry)?;
        self.write_begin(entry.id)
    }

    /// The first half of [`Ledger::begin`]: the record is written together with those of other requests, by the next call that
    /// writes any. [`Ledger::write_begin`] is the other half; nothing may be sent upstream before it.
    ///
    /// # Errors
    /// As [`Ledger::begin`].
    pub fn put_begin(&self, entry: &Entry) -> Result<(), LedgerError> {
        Ok(self.shared.journal.put_begin(entry, &self.hand_on())?)
    }

    /// The other half of [`Ledger::begin`].
    ///
    /// # Errors
    /// As [`Ledger::begin`].
    pub fn write_begin(&self, id: RequestId) -> Result<(), LedgerError> {
        Ok(self.shared.journal.write_begin(id, &self.hand_on())?)
    }

    /// Records a request's end, or one that never began (a rejected one, a correction). When it returns, the entry
    /// survives the death of this process.
    ///
    /// # Errors
    /// Only when the disk fails: space for the end of a begun request is kept in reserve. The entry is then on its way to
    /// the store all the same, but would not survive the death of this process.
    pub fn close(&self, entry: impl Into<Box<Entry>>) -> Result<(), LedgerError> {
        self.put_close(entry)?;
        self.write()
    }

    /// The first half of [`Ledger::close`]: the record is written together with those of other requests. [`Ledger::write`] is
    /// the other half; the client must not see the end before it.
    ///
    /// # Errors
    /// As [`Ledger::close`].
    pub fn put_close(&self, entry: impl Into<Box<Entry>>) -> Result<(), LedgerError> {
        let (journal, entry) = (&self.shared.journal, entry.into());
        Ok(journal.put_close(entry, &self.hand_on())?)
    }

    /// Writes the records that were put down.
    ///
    /// # Errors
    /// As [`Ledger::close`], for at least one of the entries that were put down since somebody was last told.
    pub fn write(&self) -> Result<(), LedgerError> {
        Ok(self.shared.journal.write(&self.hand_on())?)
    }

    fn hand_on(&self) -> impl Fn(Box<Entry>, Option<journal::Position>) {
        |entry, place| match place {
            Some(place) => self.shared.queue.push(entry, place),
            None => self.shared.queue.push_unwritten(entry),
        }
    }

    /// Waits until everything closed so far is in the store.
    ///
    /// # Errors
    /// [`LedgerError::TimedOut`]: it stays in the journal and gets there later.
    pub fn flush(&self, timeout: Duration) -> Result<(), LedgerError> {
        let deadline = Instant::now() + timeout;
        // What was put down counts as closed, whoever is about to write it; should that fail, the entry is in the queue.
        let _ = self.write();
        self.shared
            .queue
            .wait_until_applied(deadline)
            .map_err(LedgerError::TimedOut)
    }

    /// Closed entries that are not in the store yet, in memory or in the journal.
    pub fn queue_len(&self) -> u64 {
        self.shared.queue.waiting()
    }

    /// Of these, the ones that wait in the journal because the store is away or slower than the requests.
    pub fn spooled_entries(&self) -> u64 {
        self.shared.queue.spooled()
    }

    /// Whether the store took the last batch that it was given.
    pub fn store_is_there(&self) -> bool {
        self.shared.queue.store_is_there()
    }

    /// Whether the journal has room for more requests and its disk takes them.
    ///
    /// # Errors
    /// Why it takes none.
    pub fn takes_requests(&self) -> Result<(), JournalError> {
        self.shared.journal.check()?;
        if self.journal_bytes() >= self.shared.settings.spool_bytes_max {
            return Err(self.shared.journal.spool_full());
        }
        Ok(())
    }

    /// Notes for the next process that shared counters of a tree begin to lack what this one has to tell them: should it end
    /// before, they are built anew. Waits for the disk the first time.
    pub fn owe(&self, tree: &AccountId) {
        noted(self.shared.journal.owed.owe(tree));
    }

    /// As if a process that is gone had noted this tree.
    pub fn leave(&self, tree: &AccountId) {
        noted(self.shared.journal.owed.leave(tree));
    }

    /// Shared counters lack nothing of this process any more.
    pub fn paid(&self) {
        noted(self.shared.journal.owed.paid());
    }

    /// Trees of which processes that are gone had something to tell.
    pub fn owed_by_the_dead(&self) -> Vec<AccountId> {
        self.shared.journal.owed.left()
    }

    /// These trees' shared counters are being built anew.
    pub fn given_up(&self, trees: &[AccountId]) {
        noted(self.shared.journal.owed.given_up(trees));
    }

    /// Requests that were begun and not closed.
    pub fn open_requests(&self) -> usize {
        self.shared.journal.open_requests()
    }

    /// The size of this process's journal on the disk.
    pub fn journal_bytes(&self) -> u64 {
        self.shared.journal.bytes()
    }

    /// The store beneath, for reading.
    pub fn store(&self) -> &dyn Store {
        self.shared.intake.store()
    }

    /// Writes what is closed to the store, ends the threads and deletes the journal if nothing in it is needed.
    ///
    /// # Errors
    /// [`LedgerError::TimedOut`]: the rest stays in the journal for the next start.
    pub fn shutdown(&self, timeout: Duration) -> Result<(), LedgerError> {
        let deadline = Instant::now() + timeout;
        let flushed = self.flush(timeout);
        self.shared.stop();
        self.shared.queue.wait_until_ended(deadline);
        if flushed.is_ok() && keeper::make_durable(&self.shared) {
            self.shared.journal.remove_if_done();
        }
        flushed
    }
}

fn noted(written: std::io::Result<()>) {
    if let Err(error) = written {
        tracing::error!(%error, "the journal's directory does not take a note of what shared counters are owed");
    }
}

/// The threads; dropping ends them.
struct Threads {
    shared: Arc<Shared>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn start(
        shared: &Arc<Shared>,
        waiting: Vec<journal::Abandoned>,
    ) -> Result<Threads, std::io::Error> {
        let threads = Threads {
            shared: Arc::clone(shared),
            running: Mutex::default(),
        };
        threads.spawn("weir-ledger-writer", writer::run)?;
        threads.spawn("weir-ledger-keeper", |shared| keeper::run(shared, waiting))?;
        if let Fsync::Interval(interval_ms) = shared.settings.fsync {
            let interval = Duration::from_millis(interval_ms.max(1));
            threads.spawn("weir-ledger-sync", move |shared| {
                keeper::run_sync(shared, interval);
            })?;
        }
        Ok(threads)
    }

    fn spawn(
        &self,
        name: &str,
        run: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), std::io::Error> {
        let shared = Arc::clone(&self.shared);
        self.shared.queue.thread_began();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                step_back();
                run(&shared);
                shared.queue.thread_ended();
            })
            .inspect_err(|_| self.shared.queue.thread_ended())?;
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }
}

/// The threads of the ledger let those of the requests go first: a batch of entries takes milliseconds, and on a busy
/// core no answer should wait for it. A quarter of a core is left to them at the least, once they have fallen behind.
fn step_back() {
    const STEPS: i32 = 5;
    let priority = rustix::process::getpriority_process(None);
    let lower = priority.and_then(|priority| {
        rustix::process::setpriority_process(None, priority.saturating_add(STEPS))
    });
    if let Err(error) = lower {
        tracing::debug!(%error, "the ledger's threads have the same priority as all others");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop();
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in running.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
