//! The schema's versions: numbered files, each applied once, in one transaction with its number.

use deadpool_postgres::Object;
use tokio_postgres::Transaction;

use super::connections::failed;
use crate::ledger::store::{StoreError, migrations_done};

/// All migrations in order; the schema's version is their count. A file that was released is never changed again.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_ledger.sql"),
    include_str!("migrations/0002_plan_events.sql"),
    include_str!("migrations/0003_pieces.sql"),
];

/// What gateways that migrate at once, or make partitions at once, wait for: "weir" in ASCII.
const LOCK: i64 = 0x7765_6972;

/// Brings the schema up to date, one gateway at a time.
pub(super) async fn migrate(connection: &mut Object) -> Result<(), StoreError> {
    let transaction = begin(connection).await?;
    lock(&transaction).await?;
    transaction
        .batch_execute(
            "SET LOCAL client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL);",
        )
        .await
        .map_err(failed)?;
    let row = transaction
        .query_opt("SELECT version FROM schema_version", &[])
        .await
        .map_err(failed)?;
    let version: i32 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
    let known = MIGRATIONS.len();
    let version = migrations_done(version.into(), known)?;
    for migration in MIGRATIONS.iter().skip(version) {
        transaction.batch_execute(migration).await.map_err(failed)?;
    }
    if version < known {
        let number =
            format!("DELETE FROM schema_version; INSERT INTO schema_version VALUES ({known})");
        transaction.batch_execute(&number).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Waits until no other gateway changes the schema; the transaction's end lets go.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await
        .map(drop)
        .map_err(failed)
}

/// A transaction on the connection itself, without the pool's wrapper.
pub(super) async fn begin(connection: &mut Object) -> Result<Transaction<'_>, StoreError> {
    let client: &mut tokio_postgres::Client = &mut *connection;
    client.transaction().await.map_err(failed)
}
