//! The store as commands use it: opened beside a running gateway.

use std::sync::Arc;

use super::Failure;
use crate::config::Config;
use crate::gateway::open_store;
use crate::ledger::store::Store;
use crate::secret::Pepper;

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
