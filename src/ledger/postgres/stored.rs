//! Plans, accounts and keys made by hand, account events, the audit log.

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, Row, Transaction};

use super::connections::failed;
use super::schema::begin;
use crate::ids::{AccountId, KeyId};
use crate::ledger::codec::moment;
use crate::ledger::store::{
    AccountEvent, AuditLine, PlanEvent, Revocation, StoreError, Stored, StoredKey,
};
use crate::ledger::stored::{digest_of, key_of_text, key_to_text, new_pepper, of_text, to_text};
use crate::plan::{Account, Plan};
use crate::secret::{KeyDigest, hex};

/// Everything, as it stood at one moment.
pub(super) async fn read(connection: &mut Object) -> Result<Stored, StoreError> {
    let client: &mut Client = &mut *connection;
    let snapshot = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(failed)?;
    let body = |row: &Row| text(row, 0);
    Ok(Stored {
        version: version(&snapshot).await?,
        plans: all(
            &snapshot,
            "SELECT body FROM plans ORDER BY id",
            &[],
            |row| of_text(&body(row)?),
        )
        .await?,
        accounts: all(
            &snapshot,
            "SELECT body FROM accounts ORDER BY id",
            &[],
            |row| of_text(&body(row)?),
        )
        .await?,
        keys: all(
            &snapshot,
            "SELECT id, digest, body FROM keys ORDER BY id",
            &[],
            |row| {
                let digest: &[u8] = row.try_get(1).map_err(failed)?;
                key_of_text(KeyId::from(text(row, 0)?.as_str()), digest, &text(row, 2)?)
            },
        )
        .await?,
        revocations: all(
            &snapshot,
            "SELECT key, digest, at FROM revocations ORDER BY at, key",
            &[],
            |row| {
                let digest: &[u8] = row.try_get(1).map_err(failed)?;
                Ok(Revocation {
                    key: KeyId::from(text(row, 0)?.as_str()),
                    digest: digest_of(digest)?,
                    at: time(row, 2)?,
                })
            },
        )
        .await?,
    })
}

/// The version of what was made by hand.
pub(super) async fn version(client: &impl GenericClient) -> Result<u64, StoreError> {
    let row = client
        .query_one(
            "SELECT value::bigint FROM facts WHERE name = 'stored_version'",
            &[],
        )
        .await
        .map_err(failed)?;
    let version: i64 = row.try_get(0).map_err(failed)?;
    Ok(version.unsigned_abs())
}

pub(super) async fn put_plan(
    connection: &mut Object,
    plan: &Plan,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let transaction = begin(connection).await?;
    let sql =
        "INSERT INTO plans VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
    execute(&transaction, sql, &[&plan.id.as_str(), &to_text(plan)?]).await?;
    changed(transaction, based_on, audit).await
}

pub(super) async fn put_account(
    connection: &mut Object,
    account: &Account,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let transaction = begin(connection).await?;
    let sql =
        "INSERT INTO accounts VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
    execute(
        &transaction,
        sql,
        &[&account.id.as_str(), &to_text(account)?],
    )
    .await?;
    changed(transaction, based_on, audit).await
}

pub(super) async fn put_key(
    connection: &mut Object,
    stored: &StoredKey,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let key = &stored.key;
    let digest = key.digest.0.as_slice();
    let transaction = begin(connection).await?;
    let taken = transaction
        .query_opt(
            "SELECT id FROM keys WHERE digest = $1 AND id <> $2",
            &[&digest, &key.id.as_str()],
        )
        .await
        .map_err(failed)?;
    if let Some(row) = taken {
        return Err(StoreError::Refused(format!(
            "key {} has the same secret as {}",
            text(&row, 0)?,
            key.id
        )));
    }
    let sql = "INSERT INTO keys VALUES ($1, $2, $3) \
        ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, body = excluded.body";
    let body = key_to_text(stored)?;
    execute(&transaction, sql, &[&key.id.as_str(), &digest, &body]).await?;
    changed(transaction, based_on, audit).await
}

pub(super) async fn revoke_key(
    connection: &mut Object,
    key: &KeyId,
    digest: &KeyDigest,
    at: Timestamp,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let bytes = digest.0.as_slice();
    let transaction = begin(connection).await?;
    let sql = "INSERT INTO revocations VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    execute(
        &transaction,
        sql,
        &[&bytes, &key.as_str(), &at.as_millisecond()],
    )
    .await?;
    let known = transaction
        .query_opt(
            "SELECT body FROM keys WHERE digest = $1 FOR UPDATE",
            &[&bytes],
        )
        .await
        .map_err(failed)?;
    if let Some(row) = known {
        let mut stored = key_of_text(key.clone(), &digest.0, &text(&row, 0)?)?;
        stored.key.revoked_at.get_or_insert(at);
        let sql = "UPDATE keys SET body = $2 WHERE digest = $1";
        execute(&transaction, sql, &[&bytes, &key_to_text(&stored)?]).await?;
    }
    changed(transaction, None, audit).await
}

/// A change by hand has a new version and a line in the audit log, or did not happen.
async fn changed(
    transaction: Transaction<'_>,
    based_on: Option<u64>,
    audit: &AuditLine,
) -> Result<(), StoreError> {
    let based_on = based_on.map(|version| version.to_string());
    let sql = "UPDATE facts SET value = (value::bigint + 1)::text \
        WHERE name = 'stored_version' AND value = coalesce($1, value)";
    if execute(&transaction, sql, &[&based_on]).await? == 0 {
        return Err(StoreError::Overtaken);
    }
    add_audit(&transaction, audit).await?;
    transaction.commit().await.map_err(failed)
}

/// The secret for key digests, made on first use.
pub(super) async fn pepper(client: &Client) -> Result<Vec<u8>, StoreError> {
    let fresh = hex(&new_pepper()?);
    let sql = "INSERT INTO facts VALUES ('pepper', $1) ON CONFLICT DO NOTHING";
    execute(client, sql, &[&fresh]).await?;
    let row = client
        .query_one(
            "SELECT decode(value, 'hex') FROM facts WHERE name = 'pepper'",
            &[],
        )
        .await
        .map_err(failed)?;
    row.try_get(0).map_err(failed)
}

/// The events of all accounts, or of one.
pub(super) async fn account_events(
    client: &Client,
    account: Option<&AccountId>,
) -> Result<Vec<AccountEvent>, StoreError> {
    let read = |row: &Row| {
        Ok(AccountEvent {
            at: time(row, 0)?,
            account: AccountId::from(text(row, 1)?.as_str()),
            change: of_text(&text(row, 2)?)?,
        })
    };
    match account {
        None => {
            let sql = "SELECT at, account, change FROM account_events ORDER BY at, number";
            all(client, sql, &[], read).await
        }
        Some(account) => {
            let sql = "SELECT at, account, change FROM account_events WHERE account = $1 ORDER BY at, number";
            all(client, sql, &[&account.as_str()], read).await
        }
    }
}

pub(super) async fn add_account_events(
    connection: &mut Object,
    events: &[AccountEvent],
) -> Result<(), StoreError> {
    let transaction = begin(connection).await?;
    for event in events {
        let sql = "INSERT INTO account_events (at, account, change) VALUES ($1, $2, $3)";
        let change = to_text(&event.change)?;
        execute(
            &transaction,
            sql,
            &[&event.at.as_millisecond(), &event.account.as_str(), &change],
        )
        .await?;
    }
    transaction.commit().await.map_err(failed)
}

pub(super) async fn plan_events(
    client: &Client,
    each: &mut dyn FnMut(PlanEvent),
) -> Result<(), StoreError> {
    let sql = "SELECT at, terms FROM plan_events ORDER BY at, number";
    for row in client.query(sql, &[]).await.map_err(failed)? {
        each(PlanEvent {
            at: time(&row, 0)?,
            terms: of_text(&text(&row, 1)?)?,
        });
    }
    Ok(())
}

pub(super) async fn add_plan_events(
    connection: &mut Object,
    events: &[PlanEvent],
) -> Result<(), StoreError> {
    let transaction = begin(connection).await?;
    for event in events {
        let sql = "INSERT INTO plan_events (at, terms) VALUES ($1, $2)";
        let terms = to_text(&event.terms)?;
        execute(&transaction, sql, &[&event.at.as_millisecond(), &terms]).await?;
    }
    transaction.commit().await.map_err(failed)
}

pub(super) async fn audit(client: &Client, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
    let sql = "SELECT at, actor, action, subject, detail FROM audit ORDER BY number DESC LIMIT $1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(client, sql, &[&limit], |row| {
        Ok(AuditLine {
            at: time(row, 0)?,
            actor: text(row, 1)?,
            action: text(row, 2)?,
            subject: text(row, 3)?,
            detail: text(row, 4)?,
        })
    })
    .await
}

pub(super) async fn add_audit(
    client: &impl GenericClient,
    line: &AuditLine,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit (at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)";
    execute(
        client,
        sql,
        &[
            &line.at.as_millisecond(),
            &line.actor,
            &line.action,
            &line.subject,
            &line.detail,
        ],
    )
    .await?;
    Ok(())
}

async fn execute(
    client: &impl GenericClient,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, StoreError> {
    client.execute(sql, values).await.map_err(failed)
}

async fn all<T>(
    client: &impl GenericClient,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
    read: impl Fn(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let rows = client.query(sql, values).await.map_err(failed)?;
    rows.iter().map(read).collect()
}

fn text(row: &Row, column: usize) -> Result<String, StoreError> {
    row.try_get(column).map_err(failed)
}

fn time(row: &Row, column: usize) -> Result<Timestamp, StoreError> {
    moment(row.try_get(column).map_err(failed)?)
        .ok_or_else(|| StoreError::Damaged("a stored row lies beyond time".into()))
}
