//! Changes that operators make by hand: to accounts, keys and plans. Each is checked against what is there, and written
//! with a line in the audit log. The command line and the admin API both come through here.

mod accounts;
pub mod history;
mod keys;
mod plans;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

pub use accounts::{AccountPatch, NewAccount};
pub use keys::{MadeKey, NewKey, network};

use crate::account::Directory;
use crate::config::Config;
use crate::ledger::store::{AuditLine, Store, StoreError};
use crate::plan::Account;
use crate::secret::{NoRandomness, Pepper};

/// Someone who changes things, and what the changes are checked against.
#[derive(Clone)]
pub struct Changes<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// Accounts, plans and keys as they stand.
    pub directory: &'a Directory,
    /// The version of the store that they stand at: what somebody else changes meanwhile is not overwritten.
    pub version: u64,
    /// Where changes are kept.
    pub store: &'a dyn Store,
    /// The server's own secret, for the digests of new keys.
    pub pepper: &'a Pepper,
    /// Who changes: `cli root`, `admin api 127.0.0.1`.
    pub actor: String,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An account.
    Account,
    /// A key.
    Key,
    /// A plan.
    Plan,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Account => "account",
            Kind::Key => "key",
            Kind::Plan => "plan",
        })
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is nothing of that name.
    #[error("{kind} {id}: there is none of this name")]
    Unknown {
        /// What was sought.
        kind: Kind,
        /// Its name, as it was given.
        id: String,
    },
    /// There is something of that name already.
    #[error("{kind} {id}: there is one of this name already")]
    Taken {
        /// What was to be made.
        kind: Kind,
        /// Its name.
        id: String,
    },
    /// The configuration file declares it, and the file holds.
    #[error("{kind} {id} is declared in the configuration file: change it there")]
    Declared {
        /// What was to be changed.
        kind: Kind,
        /// Its name.
        id: String,
    },
    /// What was asked for cannot be.
    #[error("{member}: {reason}")]
    Unfit {
        /// The member that is wrong.
        member: &'static str,
        /// Why.
        reason: String,
    },
    /// The operating system gave no randomness for a secret.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Changes<'_> {
    /// A line for the audit log.
    fn audit(&self, action: &str, subject: &str, detail: &serde_json::Value) -> AuditLine {
        AuditLine {
            at: Timestamp::now(),
            actor: self.actor.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_string(),
        }
    }

    /// The account of that name.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub fn account(&self, id: &str) -> Result<&Account, ChangeError> {
        self.directory
            .member(&id.into())
            .map(|member| &member.account)
            .ok_or_else(|| ChangeError::Unknown {
                kind: Kind::Account,
                id: id.to_owned(),
            })
    }
}

fn unfit(member: &'static str, reason: impl Into<String>) -> ChangeError {
    ChangeError::Unfit {
        member,
        reason: reason.into(),
    }
}

fn today() -> Date {
    Offset::UTC.to_datetime(Timestamp::now()).date()
}
