//! `[store]`: where the ledger, accounts and keys are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Table;
use super::value::Value;
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

impl Store {
    pub(super) fn read(table: &Table<'_>) -> Store {
        let url = table.or("url", StoreUrl::Sqlite("weir.db".into()), StoreUrl::read);
        let beside = match &url {
            StoreUrl::Sqlite(path) => path.with_extension("journal"),
            StoreUrl::Postgres(_) => PathBuf::from("weir.journal"),
        };
        Store {
            journal: table.or("journal", beside, |value| {
                let text = value.text("the path of a file")?;
                match text {
                    "" => value.wrong(text, "the path of a file"),
                    path => Some(path.into()),
                }
            }),
            fsync: table.or(
                "fsync",
                Fsync::Interval(Duration::from_millis(50)),
                Fsync::read,
            ),
            pepper: table.optional("pepper", pepper),
            spool_bytes_max: table.or("spool_max_bytes", 1 << 30, |value| {
                value.bytes(1 << 20..=1 << 40)
            }),
            url,
        }
    }
}

impl StoreUrl {
    /// The URL is a secret as a whole: its mistakes are shown without it.
    fn read(value: &Value<'_>) -> Option<StoreUrl> {
        const EXPECTED: &str = "\"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\"";
        let url = value.secret()?;
        let text = url.expose();
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') || path.contains('?') {
                value.refuse("names no file, expected \"sqlite:PATH\" such as \"sqlite:weir.db\"");
                return None;
            }
            return Some(StoreUrl::Sqlite(path.into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            if text.parse::<tokio_postgres::Config>().is_ok() {
                return Some(StoreUrl::Postgres(url));
            }
            value.refuse(format!(
                "is not a PostgreSQL URL that can be used, expected {EXPECTED}"
            ));
            return None;
        }
        value.refuse(format!(
            "is neither SQLite nor PostgreSQL, expected {EXPECTED}"
        ));
        None
    }
}

impl Fsync {
    fn read(value: &Value<'_>) -> Option<Fsync> {
        const EXPECTED: &str = "\"always\", \"never\" or the time between two such as \"50ms\"";
        match value.text(EXPECTED)? {
            "always" => Some(Fsync::Always),
            "never" => Some(Fsync::Never),
            text if text.starts_with(|first: char| first.is_ascii_digit()) => value
                .duration(Duration::from_millis(1)..=Duration::from_secs(60))
                .map(Fsync::Interval),
            text => value.wrong(text, EXPECTED),
        }
    }
}

fn pepper(value: &Value<'_>) -> Option<Secret> {
    let pepper = value.secret()?;
    if pepper.expose().len() < PEPPER_BYTES_MIN {
        value.refuse(format!(
            "is too short, expected a random secret of at least {PEPPER_BYTES_MIN} bytes"
        ));
        return None;
    }
    Some(pepper)
}

const PEPPER_BYTES_MIN: usize = 16;
