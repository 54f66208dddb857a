//! The shared store: PostgreSQL, for several gateways with one ledger.
//!
//! Batches are written with one insert of whole columns (`unnest`), duplicates left out, and the rollups of what was
//! really new are added in the same transaction. Rows are given in one order by all gateways, so that two of them never
//! wait for each other in a circle.
//!
//! Everything has a timeout: connecting, waiting for a connection, each statement (the server's), each call as a whole
//! (ours, for a server that has gone silent). A call that timed out may have been done; ids make its repetition harmless.

mod connections;
mod entries;
mod partitions;
mod rollups;
mod schema;
mod stored;
#[cfg(test)]
mod tests;
mod values;

use std::time::Duration;

use jiff::Timestamp;

use self::connections::Connections;
use super::entry::Entry;
use super::store::{
    AccountEvent, AuditLine, EntryFilter, Grain, PlanEvent, RollupRow, Store, StoreError, Stored,
    StoredKey, TimeRange,
};
use crate::ids::{AccountId, KeyId};
use crate::plan::{Account, Plan};
use crate::secret::{KeyDigest, Secret};

/// For a call that writes or reads little.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// For each piece of a long read.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// For a migration.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);

/// A ledger in a PostgreSQL database.
pub struct PostgresStore {
    connections: Connections,
    partitions: partitions::Known,
}

impl PostgresStore {
    /// A store behind a `postgres://…` URL. No connection is made yet.
    ///
    /// With `sslmode=require` the server's certificate is checked against the operating system's roots (`SSL_CERT_FILE`
    /// names others); `prefer`, PostgreSQL's default, uses TLS where the server has it, checked as well.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the URL or the system's TLS roots cannot be used.
    pub fn new(url: &Secret) -> Result<PostgresStore, StoreError> {
        Ok(PostgresStore {
            connections: Connections::new(url)?,
            partitions: partitions::Known::default(),
        })
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore(…)")
    }
}

impl Store for PostgresStore {
    fn migrate(&self) -> Result<(), StoreError> {
        self.connections.call(MIGRATE_TIMEOUT, async |connection| {
            schema::migrate(connection).await?;
            self.partitions.ahead(connection, Timestamp::now()).await
        })
    }

    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        if entries.is_empty() {
            return Ok(0);
        }
        self.connections.call(CALL_TIMEOUT, async |connection| {
            self.partitions.for_entries(connection, entries).await?;
            entries::insert(connection, entries).await
        })
    }

    /// Commits wait for the server's disk (`synchronous_commit`), so that nothing is left to do but upkeep.
    fn make_durable(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        if !self.partitions.is_due(now) {
            return Ok(());
        }
        self.connections.call(CALL_TIMEOUT, async |connection| {
            self.partitions.ahead(connection, now).await
        })
    }

    fn scan(
        &self,
        filter: &EntryFilter,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), StoreError> {
        self.connections.call(Duration::MAX, async |connection| {
            entries::scan(connection, filter, each).await
        })
    }

    fn rollup(
        &self,
        grain: Grain,
        range: TimeRange,
        each: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError> {
        self.connections.call(Duration::MAX, async |connection| {
            rollups::read(connection, grain, range, each).await
        })
    }

    fn approximate_entries(&self) -> Result<u64, StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            entries::approximate(connection).await
        })
    }

    fn pepper(&self) -> Result<Vec<u8>, StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::pepper(connection).await
        })
    }

    fn stored_version(&self) -> Result<u64, StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::version(&***connection).await
        })
    }

    fn stored(&self) -> Result<Stored, StoreError> {
        self.connections.call(READ_TIMEOUT, async |connection| {
            stored::read(connection).await
        })
    }

    fn put_plan(
        &self,
        plan: &Plan,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::put_plan(connection, plan, based_on, audit).await
        })
    }

    fn put_account(
        &self,
        account: &Account,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::put_account(connection, account, based_on, audit).await
        })
    }

    fn put_key(
        &self,
        key: &StoredKey,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::put_key(connection, key, based_on, audit).await
        })
    }

    fn revoke_key(
        &self,
        key: &KeyId,
        digest: &KeyDigest,
        at: Timestamp,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::revoke_key(connection, key, digest, at, audit).await
        })
    }

    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError> {
        self.connections.call(READ_TIMEOUT, async |connection| {
            stored::account_events(connection, None).await
        })
    }

    fn account_events_of(&self, account: &AccountId) -> Result<Vec<AccountEvent>, StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::account_events(connection, Some(account)).await
        })
    }

    fn add_account_events(&self, events: &[AccountEvent]) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::add_account_events(connection, events).await
        })
    }

    fn plan_events(&self, each: &mut dyn FnMut(PlanEvent)) -> Result<(), StoreError> {
        self.connections.call(READ_TIMEOUT, async |connection| {
            stored::plan_events(connection, each).await
        })
    }

    fn add_plan_events(&self, events: &[PlanEvent]) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::add_plan_events(connection, events).await
        })
    }

    fn audit(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.connections.call(READ_TIMEOUT, async |connection| {
            stored::audit(connection, limit).await
        })
    }

    fn add_audit(&self, line: &AuditLine) -> Result<(), StoreError> {
        self.connections.call(CALL_TIMEOUT, async |connection| {
            stored::add_audit(&***connection, line).await
        })
    }
}
