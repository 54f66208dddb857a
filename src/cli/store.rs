//! The store as commands use it: opened beside a running gateway.

use std::sync::Arc;

use super::Failure;
use crate::account::Directory;
use crate::changes::Changes;
use crate::config::Config;
use crate::gateway::open_store;
use crate::ledger::store::Store;
use crate::secret::Pepper;
use crate::snapshot;

/// Opens the configured store.
///
/// # Errors
/// When it does not answer or is damaged.
pub fn open(config: &Config) -> Result<Arc<dyn Store>, Failure> {
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
    store: Arc<dyn Store>,
    pepper: Pepper,
}

impl Desk {
    /// Opens the configured store and reads who is there.
    ///
    /// # Errors
    /// When the store does not answer or is damaged.
    pub fn open(config: &Config) -> Result<Desk, Failure> {
        let store = open(config)?;
        let pepper = pepper(config, store.as_ref())?;
        let directory = snapshot::directory(config, &store.stored()?, &pepper);
        Ok(Desk {
            directory,
            store,
            pepper,
        })
    }

    /// Changes in the name of who is at the command line.
    pub fn changes<'d>(&'d self, config: &'d Config) -> Changes<'d> {
        Changes {
            config,
            directory: &self.directory,
            store: self.store.as_ref(),
            pepper: &self.pepper,
            actor: actor(),
        }
    }
}
