//! The gateway: the rooms of the request path and the tasks beside it, put together from the configuration.

mod added;
mod gauges;
pub mod pulse;
pub(crate) mod rebuild;
mod recovered;
mod reload;
mod seeder;
mod start;
mod warnings;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use added::AddedLimits;
pub use added::Origin;
use pulse::Pulse;
pub use start::{Running, StartError, open_store, start};
use warnings::Warnings;

use crate::admit::{Conversations, Habits};
use crate::exchange::Background;
use crate::ledger::store::Store;
use crate::ledger::{Entry, JournalError, Ledger, LedgerError};
use crate::meter::count::Counter;
use crate::metrics::Metrics;
use crate::quota::Quota;
use crate::secret::Pepper;
use crate::snapshot::Snapshot;

/// One running gateway. The request path reads the snapshot, touches quota and journal, and nothing else.
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    /// The server's own secret, for the digests of clients' keys.
    pub pepper: Pepper,
    /// The counters of limits.
    pub quota: Quota,
    /// The ledger's pen.
    pub ledger: Ledger,
    /// The ledger's database; never read by the request path.
    pub store: Arc<dyn Store>,
    /// Counts tokens that nobody reported.
    pub counter: Counter,
    /// How much output requests without a maximum have needed.
    pub habits: Habits,
    /// How long the conversations are that providers keep.
    pub conversations: Conversations,
    /// Which responses made in the background are billed.
    pub background: Background,
    /// Memory for the bodies of requests in flight, in KiB.
    pub body_memory: Arc<tokio::sync::Semaphore>,
    /// Requests in flight by key.
    pub places: Arc<crate::request::Places>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Settlements and readings-on that a stopping gateway waits for.
    pub tasks: TaskTracker,
    /// Cancelled when the gateway should stop.
    pub stop: CancellationToken,
    /// Cancelled when a stop's grace time is over: what is open is cut, and booked with what it had.
    pub cut: CancellationToken,
    /// What holds until the next start.
    pub(crate) startup: crate::config::Startup,
    /// The configuration's file, where it was named; a reload reads it again.
    pub path: Option<PathBuf>,
    /// The last minutes, second by second.
    pub pulse: Pulse,
    /// Which warnings were given in which window, and who is told.
    warnings: Warnings,
    /// Limits that came while requests were in flight.
    added: AddedLimits,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl Gateway {
    /// What requests read just now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Swaps in a new snapshot: requests that began keep the old one.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
    }

    /// Hands an entry to the ledger. The journal keeps room for the end of every request that began, so this fails only
    /// when the disk itself does; the entry is then still in the writer's hands.
    pub fn book(&self, entry: impl Into<Box<Entry>>) {
        self.booked(self.ledger.close(entry));
    }

    /// Hands an entry to the ledger, to be written together with others by [`Gateway::write_records`].
    pub fn put_down(&self, entry: impl Into<Box<Entry>>) {
        self.booked(self.ledger.put_close(entry));
    }

    /// Writes what was put down to the journal.
    pub fn write_records(&self) {
        self.booked(self.ledger.write());
    }

    fn booked(&self, written: Result<(), LedgerError>) {
        if let Err(error) = written {
            // The journal itself has logged that it fails; here one line for each request would come.
            self.metrics.event("journal_failed", "close");
            tracing::debug!(%error, "an entry could not be written to the journal");
        }
    }

    /// Whether the gateway takes requests: it is not stopping, and the ledger takes entries.
    pub fn is_ready(&self) -> bool {
        self.why_not_ready().is_empty()
    }

    /// What keeps the gateway from taking requests; nothing while it is ready. Whoever reaches the admin listener reads this: where things lie on the
    /// disk is the log's to say.
    pub fn why_not_ready(&self) -> Vec<&'static str> {
        let stopping = self.stop.is_cancelled();
        let journal = self.ledger.takes_requests().err();
        let journal = journal.map(|error| match error {
            JournalError::DiskFull(_) => "the disk of the journal is full",
            JournalError::SpoolFull(_) => {
                "the journal has reached spool_max_bytes while the store is away"
            }
            JournalError::TooLarge(_) | JournalError::Failed(..) => {
                "the journal cannot be written; the log says why"
            }
        });
        stopping
            .then_some("the gateway is stopping")
            .into_iter()
            .chain(journal)
            .collect()
    }
}

/// How long an entry may take to reach the store before a report goes on without it.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
