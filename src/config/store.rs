//! `[store]`: where the ledger, accounts and keys are kept.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// Where the ledger is kept, and how safe an entry is before the client sees the end of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// The database. `sqlite:weir.db`.
    pub url: StoreUrl,
    /// This gateway's own append-only file, relative to the working directory. Beside the SQLite file with the extension
    /// `journal`; `weir.journal` with PostgreSQL.
    pub journal: PathBuf,
    /// When the journal is forced to the disk. Every 50 ms.
    pub fsync: Fsync,
    /// The server's own secret for hashing client keys; without it one is made and kept in the store.
    pub pepper: Option<Secret>,
    /// The most that the journal may hold while the database is away, in bytes. 1 GiB.
    pub spool_bytes_max: u64,
}

/// Which database holds the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreUrl {
    /// A file, relative to the working directory.
    Sqlite(PathBuf),
    /// A whole `postgres://…` URL: secret, for it may hold a password.
    Postgres(Secret),
}

/// When the journal is forced to the disk. A killed process loses nothing either way; this is about power cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before each answer ends.
    Always,
    /// Once in so long: a power cut loses at most that much.
    Interval(Duration),
    /// When the operating system sees fit.
    Never,
}
