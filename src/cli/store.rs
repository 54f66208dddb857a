//! The store as commands use it: opened beside a running gateway.

use std::path::Path;
use std::sync::Arc;

use super::Failure;
use crate::account::Directory;
use crate::changes::Changes;
use crate::config::{Config, StoreUrl};
use crate::gateway::open_store;
use crate::ledger::store::{Store, Stored};
use crate::secret::Pepper;
use crate::snapshot;

/// Opens the configured store for a command that only reads. A ledger that is not there is not made: what it holds would
/// be reported as nothing, and it is more likely that another one was meant.
///
/// # Errors
/// When there is none, when it does not answer or is damaged.
pub fn open(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    if let Some(path) = missing(config)? {
        let path = std::path::absolute(path)?;
        return Err(Failure(format!(
            "there is no ledger at {}: weir serve makes it when it first starts; if yours is elsewhere, name its \
             configuration with -c FILE, or its file in [store] url",
            path.display()
        )));
    }
    open_or_make(config)
}

/// The SQLite file that is configured and not there.
fn missing(config: &Config) -> Result<Option<&Path>, Failure> {
    match &config.store.url {
        StoreUrl::Sqlite(path) if !path.try_exists()? => Ok(Some(path)),
        _ => Ok(None),
    }
}

/// Who is there: by the configuration alone where no ledger was made yet.
///
/// # Errors
/// When the store does not answer or is damaged.
pub fn directory(config: &Config) -> Result<Directory, Failure> {
    if missing(config)?.is_some() {
        let nothing = (Stored::default(), Pepper::new(b""));
        return Ok(snapshot::directory(config, &nothing.0, &nothing.1));
    }
    Ok(Desk::at(config, open(config)?)?.directory)
}

/// Opens the configured store, and makes it where there is none.
///
/// # Errors
/// When it does not answer or is damaged.
pub fn open_or_make(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    Ok(open_store(&config.store)?)
}

/// The server's own secret: the configured one, else the store's.
///
/// # Errors
/// When the store does not answer.
pub fn pepper(config: &Config, store: &dyn Store) -> Result<Pepper, Failure> {
    Ok(match &config.store.pepper {
        Some(secret) => Pepper::new(secret.expose().as_bytes()),
        None => Pepper::new(&store.pepper()?),
    })
}

/// Who is at the command line, for the audit log.
pub fn actor() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".into());
    format!("cli {user}")
}

/// What a command needs that changes accounts or keys by hand.
pub struct Desk {
    /// Who is there, by the file and by hand.
    pub directory: Directory,
    version: u64,
    store: Arc<dyn Store>,
    pepper: Pepper,
}

impl Desk {
    /// Opens the configured store and reads who is there.
    ///
    /// # Errors
    /// When the store does not answer or is damaged.
    pub fn open_or_make(config: &Config) -> Result<Desk, Failure> {
        Desk::at(config, open_or_make(config)?)
    }

    fn at(config: &Config, store: Arc<dyn Store>) -> Result<Desk, Failure> {
        let pepper = pepper(config, store.as_ref())?;
        let stored = store.stored()?;
        Ok(Desk {
            directory: snapshot::directory(config, &stored, &pepper),
            version: stored.version,
            store,
            pepper,
        })
    }

    /// The store itself.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Changes in the name of who is at the command line.
    pub fn changes<'d>(&'d self, config: &'d Config) -> Changes<'d> {
        Changes {
            config,
            directory: &self.directory,
            version: self.version,
            store: self.store.as_ref(),
            pepper: &self.pepper,
            actor: actor(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, FixedEnvironment};

    #[test]
    fn only_who_changes_something_makes_a_ledger_where_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weir.db");
        let text = format!("[store]\nurl = \"sqlite:{}\"\n", file.display());
        let config =
            config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap();
        let said = open(&config).err().unwrap().0;
        let begins = format!("there is no ledger at {}: ", file.display());
        assert!(said.starts_with(&begins), "{said}");
        assert_eq!(super::directory(&config).unwrap().members().count(), 0);
        assert!(!file.exists());
        assert!(Desk::open_or_make(&config).is_ok());
        assert!(file.exists() && open(&config).is_ok());
    }
}
