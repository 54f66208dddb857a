//! The schema's versions: numbered files, each applied once, in one transaction with its number.

use rusqlite::{Connection, TransactionBehavior};

use super::failed;
use crate::ledger::store::{StoreError, migrations_done};

/// All migrations in order; the schema's version is their count. A file that was released is never changed again.
const MIGRATIONS: [&str; 4] = [
    include_str!("migrations/0001_ledger.sql"),
    include_str!("migrations/0002_plan_events.sql"),
    include_str!("migrations/0003_pieces.sql"),
    include_str!("migrations/0004_ids.sql"),
];

/// Brings the schema up to date. A process that dies in it leaves the version before; two that start together wait for
/// each other.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let version: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let known = MIGRATIONS.len();
    let version = migrations_done(version, known)?;
    for migration in MIGRATIONS.iter().skip(version) {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    if version < known {
        transaction
            .execute_batch(&format!("PRAGMA user_version = {known}"))
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// A counter of the `facts` table.
pub(super) fn fact(connection: &Connection, name: &str) -> Result<u64, StoreError> {
    let value: i64 = connection
        .prepare_cached("SELECT value FROM facts WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)))
        .map_err(failed)?;
    Ok(value.unsigned_abs())
}

/// Adds to a counter of the `facts` table.
pub(super) fn add_to_fact(
    connection: &Connection,
    name: &str,
    more: usize,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE facts SET value = value + ?2 WHERE name = ?1")
        .and_then(|mut statement| statement.execute((name, more as i64)))
        .map_err(failed)?;
    Ok(())
}
