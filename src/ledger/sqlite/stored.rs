//! Plans, accounts and keys made by hand, account events, the audit log.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction};

use super::{failed, schema};
use crate::ids::{AccountId, KeyId};
use crate::ledger::codec::moment;
use crate::ledger::store::{
    AccountEvent, AuditLine, PlanEvent, Revocation, StoreError, Stored, StoredKey,
};
use crate::ledger::stored::{digest_of, key_of_text, key_to_text, new_pepper, of_text, to_text};
use crate::plan::{Account, Plan};
use crate::secret::KeyDigest;

/// Everything, as it stood at one moment.
pub(super) fn read(connection: &Connection) -> Result<Stored, StoreError> {
    let snapshot = connection.unchecked_transaction().map_err(failed)?;
    Ok(Stored {
        version: schema::fact(&snapshot, "stored_version")?,
        plans: all(&snapshot, "SELECT body FROM plans ORDER BY id", [], |row| {
            of_text(&text(row, 0)?)
        })?,
        accounts: all(
            &snapshot,
            "SELECT body FROM accounts ORDER BY id",
            [],
            |row| of_text(&text(row, 0)?),
        )?,
        keys: all(
            &snapshot,
            "SELECT id, digest, body FROM keys ORDER BY id",
            [],
            |row| {
                let digest: Vec<u8> = row.get(1).map_err(failed)?;
                key_of_text(KeyId::from(text(row, 0)?.as_str()), &digest, &text(row, 2)?)
            },
        )?,
        revocations: all(
            &snapshot,
            "SELECT key, digest, at FROM revocations ORDER BY at, key",
            [],
            |row| {
                let digest: Vec<u8> = row.get(1).map_err(failed)?;
                Ok(Revocation {
                    key: KeyId::from(text(row, 0)?.as_str()),
                    digest: digest_of(&digest)?,
                    at: time(row, 2)?,
                })
            },
        )?,
    })
}

pub(super) fn put_plan(
    transaction: &Transaction<'_>,
    plan: &Plan,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "REPLACE INTO plans VALUES (?1, ?2)",
            (plan.id.as_str(), to_text(plan)?),
        )
        .map_err(failed)?;
    changed(transaction, based_on, audit)
}

pub(super) fn put_account(
    transaction: &Transaction<'_>,
    account: &Account,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "REPLACE INTO accounts VALUES (?1, ?2)",
            (account.id.as_str(), to_text(account)?),
        )
        .map_err(failed)?;
    changed(transaction, based_on, audit)
}

pub(super) fn put_key(
    transaction: &Transaction<'_>,
    stored: &StoredKey,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let key = &stored.key;
    let digest = key.digest.0.as_slice();
    let taken: Option<String> = transaction
        .query_row(
            "SELECT id FROM keys WHERE digest = ?1 AND id <> ?2",
            (digest, key.id.as_str()),
            |row| row.get(0),
        )
        .optional()
        .map_err(failed)?;
    if let Some(other) = taken {
        return Err(StoreError::Refused(format!(
            "key {other} has the same secret as {}",
            key.id
        )));
    }
    transaction
        .execute(
            "REPLACE INTO keys VALUES (?1, ?2, ?3)",
            (key.id.as_str(), digest, key_to_text(stored)?),
        )
        .map_err(failed)?;
    changed(transaction, based_on, audit)
}

pub(super) fn revoke_key(
    transaction: &Transaction<'_>,
    key: &KeyId,
    digest: &KeyDigest,
    at: Timestamp,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "INSERT INTO revocations VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            (digest.0.as_slice(), key.as_str(), at.as_millisecond()),
        )
        .map_err(failed)?;
    let known: Option<String> = transaction
        .query_row(
            "SELECT body FROM keys WHERE digest = ?1",
            [digest.0.as_slice()],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed)?;
    if let Some(body) = known {
        let mut stored = key_of_text(key.clone(), &digest.0, &body)?;
        stored.key.revoked_at.get_or_insert(at);
        transaction
            .execute(
                "UPDATE keys SET body = ?2 WHERE digest = ?1",
                (digest.0.as_slice(), key_to_text(&stored)?),
            )
            .map_err(failed)?;
    }
    changed(transaction, None, audit)
}

/// A change by hand has a new version and a line in the audit log, or did not happen.
fn changed(
    transaction: &Transaction<'_>,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let version = schema::fact(transaction, "stored_version")?;
    if based_on.is_some_and(|based_on| based_on != version) {
        return Err(StoreError::Overtaken);
    }
    schema::add_to_fact(transaction, "stored_version", 1)?;
    add_audit(transaction, audit)
}

/// The secret for key digests, made on first use.
pub(super) fn pepper(transaction: &Transaction<'_>) -> Result<Vec<u8>, StoreError> {
    transaction
        .execute(
            "INSERT INTO facts VALUES ('pepper', ?1) ON CONFLICT DO NOTHING",
            [new_pepper()?.as_slice()],
        )
        .and_then(|_| {
            transaction.query_row("SELECT value FROM facts WHERE name = 'pepper'", [], |row| {
                row.get(0)
            })
        })
        .map_err(failed)
}

/// The events of all accounts, or of one.
pub(super) fn account_events(
    connection: &Connection,
    account: Option<&AccountId>,
) -> Result<Vec<AccountEvent>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(AccountEvent {
            at: time(row, 0)?,
            account: AccountId::from(text(row, 1)?.as_str()),
            change: of_text(&text(row, 2)?)?,
        })
    };
    match account {
        None => {
            let sql = "SELECT at, account, change FROM account_events ORDER BY at, number";
            all(connection, sql, [], read)
        }
        Some(account) => {
            let sql = "SELECT at, account, change FROM account_events WHERE account = ?1 ORDER BY at, number";
            all(connection, sql, [account.as_str()], read)
        }
    }
}

pub(super) fn add_account_events(
    transaction: &Transaction<'_>,
    events: &[AccountEvent],
) -> Result<(), StoreError> {
    let mut statement = transaction
        .prepare_cached("INSERT INTO account_events (at, account, change) VALUES (?1, ?2, ?3)")
        .map_err(failed)?;
    for event in events {
        let change = to_text(&event.change)?;
        statement
            .execute((event.at.as_millisecond(), event.account.as_str(), change))
            .map_err(failed)?;
    }
    Ok(())
}

pub(super) fn plan_events(
    connection: &Connection,
    each: &mut dyn FnMut(PlanEvent),
) -> Result<(), StoreError> {
    let sql = "SELECT at, terms FROM plan_events ORDER BY at, number";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        each(PlanEvent {
            at: time(row, 0)?,
            terms: of_text(&text(row, 1)?)?,
        });
    }
    Ok(())
}

pub(super) fn add_plan_events(
    transaction: &Transaction<'_>,
    events: &[PlanEvent],
) -> Result<(), StoreError> {
    let mut statement = transaction
        .prepare_cached("INSERT INTO plan_events (at, terms) VALUES (?1, ?2)")
        .map_err(failed)?;
    for event in events {
        statement
            .execute((event.at.as_millisecond(), to_text(&event.terms)?))
            .map_err(failed)?;
    }
    Ok(())
}

pub(super) fn audit(connection: &Connection, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
    let sql = format!(
        "SELECT at, actor, action, subject, detail FROM audit ORDER BY number DESC LIMIT {limit}"
    );
    all(connection, &sql, [], |row| {
        Ok(AuditLine {
            at: time(row, 0)?,
            actor: text(row, 1)?,
            action: text(row, 2)?,
            subject: text(row, 3)?,
            detail: text(row, 4)?,
        })
    })
}

pub(super) fn add_audit(transaction: &Transaction<'_>, line: &AuditLine) -> Result<(), StoreError> {
    transaction
        .execute(
            "INSERT INTO audit (at, actor, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                line.at.as_millisecond(),
                &line.actor,
                &line.action,
                &line.subject,
                &line.detail,
            ),
        )
        .map_err(failed)?;
    Ok(())
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query(values).map_err(failed)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        items.push(read(row)?);
    }
    Ok(items)
}

fn text(row: &Row<'_>, column: usize) -> Result<String, StoreError> {
    row.get(column).map_err(failed)
}

fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, StoreError> {
    moment(row.get(column).map_err(failed)?)
        .ok_or_else(|| StoreError::Damaged("a stored row lies beyond time".into()))
}
