//! Entries in and out of their table.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use deadpool_postgres::Object;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

use super::connections::{failed, piece};
use super::rollups::{self, HourKey};
use super::schema::begin;
use super::values::{Id, Picos, text};
use crate::hash::HashMap;
use crate::ids::{AccountId, ModelName, RequestId, UpstreamId};
use crate::ledger::codec::moment;
use crate::ledger::entry::{Entry, Outcome};
use crate::ledger::json;
use crate::ledger::rollup::Sums;
use crate::ledger::store::{EntryFilter, StoreError};
use crate::money::Money;
use crate::price::CostByClass;
use crate::tokens::{Usage, UsageSource};

/// How many rows of a scan are fetched at once.
const CHUNK: i32 = 2_000;

/// The columns with their types, in the order in which they are sent and read: the usage in that of [`Usage::counts`], the
/// cost in that of [`CostByClass::amounts`].
const COLUMNS: [(&str, &str); 48] = [
    ("id", "uuid"),
    ("started_at", "bigint"),
    ("ended_at", "bigint"),
    ("lineage", "text"),
    ("account", "text"),
    ("key", "text"),
    ("plan", "text"),
    ("endpoint", "text"),
    ("model", "text"),
    ("served_model", "text"),
    ("upstream", "text"),
    ("service_tier", "text"),
    ("status", "integer"),
    ("outcome", "smallint"),
    ("reason", "text"),
    ("streamed", "boolean"),
    ("usage_source", "smallint"),
    ("input_tokens", "bigint"),
    ("cache_read_input_tokens", "bigint"),
    ("cache_write_input_tokens", "bigint"),
    ("cache_write_1h_input_tokens", "bigint"),
    ("audio_input_tokens", "bigint"),
    ("image_input_tokens", "bigint"),
    ("output_tokens", "bigint"),
    ("reasoning_output_tokens", "bigint"),
    ("audio_output_tokens", "bigint"),
    ("image_output_tokens", "bigint"),
    ("web_search_requests", "bigint"),
    ("file_search_requests", "bigint"),
    ("code_interpreter_requests", "bigint"),
    ("images", "bigint"),
    ("audio_seconds", "bigint"),
    ("cost_input", "numeric"),
    ("cost_cache_read_input", "numeric"),
    ("cost_cache_write_input", "numeric"),
    ("cost_media_input", "numeric"),
    ("cost_output", "numeric"),
    ("cost_reasoning_output", "numeric"),
    ("cost_media_output", "numeric"),
    ("cost_other", "numeric"),
    ("undiscounted", "numeric"),
    ("priced_by", "text"),
    ("first_token_ms", "bigint"),
    ("duration_ms", "bigint"),
    ("retries", "smallint"),
    ("end_user", "text"),
    ("tags", "text"),
    ("corrects", "uuid"),
];

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let arrays: Vec<String> = (1..)
        .zip(COLUMNS)
        .map(|(number, (_, kind))| format!("${number}::{kind}[]"))
        .collect();
    format!(
        "INSERT INTO entries ({}) SELECT * FROM unnest({}) ON CONFLICT DO NOTHING RETURNING id",
        names(),
        arrays.join(", "),
    )
});

fn names() -> String {
    COLUMNS.map(|(name, _)| name).join(", ")
}

/// Inserts what is new, with its rollups; how many were new.
pub(super) async fn insert(
    connection: &mut Object,
    entries: &[Entry],
) -> Result<usize, StoreError> {
    let statement = connection.prepare_cached(&INSERT).await.map_err(failed)?;
    let transaction = begin(connection).await?;
    // In the order of ids, each once.
    let mut batch: Vec<&Entry> = entries.iter().collect();
    batch.sort_by_key(|entry| entry.id);
    batch.dedup_by_key(|entry| entry.id);
    let columns = columns(&batch);
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column.as_ref() as _).collect();
    let inserted = transaction
        .query(&statement, &parameters)
        .await
        .map_err(failed)?;
    let new: HashSet<Id> = inserted
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let mut hours: HashMap<HourKey, Sums> = HashMap::default();
    for entry in batch.iter().filter(|entry| new.contains(&Id(entry.id))) {
        hours
            .entry(HourKey::of(entry))
            .or_default()
            .add_entry(entry);
    }
    rollups::add(&transaction, hours).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(new.len())
}

type Column = Box<dyn ToSql + Sync + Send>;

/// The entries column by column, in the order of [`COLUMNS`].
fn columns(entries: &[&Entry]) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![
        column(entries, |entry| Id(entry.id)),
        column(entries, |entry| entry.started_at.as_millisecond()),
        column(entries, |entry| entry.ended_at.as_millisecond()),
        column(entries, |entry| rollups::lineage_text(&entry.lineage)),
        column(entries, |entry| {
            entry.account().map_or("", AccountId::as_str).to_owned()
        }),
        column(entries, |entry| entry.key.as_str().to_owned()),
        column(entries, |entry| entry.plan.as_str().to_owned()),
        column(entries, |entry| text(&entry.endpoint).into_owned()),
        column(entries, |entry| {
            owned(entry.model.as_ref().map(ModelName::as_str))
        }),
        column(entries, |entry| {
            owned(entry.served_model.as_ref().map(ModelName::as_str))
        }),
        column(entries, |entry| {
            owned(entry.upstream.as_ref().map(UpstreamId::as_str))
        }),
        column(entries, |entry| owned(entry.service_tier.as_deref())),
        column(entries, |entry| i32::from(entry.status)),
        column(entries, |entry| i16::from(entry.outcome.code())),
        column(entries, |entry| owned(entry.reason.as_deref())),
        column(entries, |entry| entry.streamed),
        column(entries, |entry| i16::from(entry.usage_source.code())),
    ];
    for at in 0..Usage::default().counts().len() {
        columns.push(column(entries, |entry| {
            let count = entry.usage.counts().get(at).copied().unwrap_or(0);
            i64::try_from(count).unwrap_or(i64::MAX)
        }));
    }
    for at in 0..CostByClass::default().amounts().len() {
        columns.push(column(entries, |entry| {
            Picos(entry.cost.amounts().get(at).copied().unwrap_or_default())
        }));
    }
    columns.extend([
        column(entries, |entry| Picos(entry.undiscounted)),
        column(entries, |entry| {
            json::priced_by_to_text(&entry.priced_by).map(|rows| text(&rows).into_owned())
        }),
        column(entries, |entry| entry.first_token_ms.map(i64::from)),
        column(entries, |entry| i64::from(entry.duration_ms)),
        column(entries, |entry| i16::from(entry.retries)),
        column(entries, |entry| owned(entry.end_user.as_deref())),
        column(entries, |entry| json::tags_to_text(&entry.tags)),
        column(entries, |entry| entry.corrects.map(Id)),
    ]);
    columns
}

fn column<T: ToSql + Sync + Send + 'static>(
    entries: &[&Entry],
    value: impl Fn(&Entry) -> T,
) -> Column {
    let values: Vec<T> = entries.iter().map(|entry| value(entry)).collect();
    Box::new(values)
}

fn owned(optional: Option<&str>) -> Option<String> {
    optional.map(|value| text(value).into_owned())
}

/// Calls `each` for what passes, in order, until it says to stop.
pub(super) async fn scan(
    connection: &mut Object,
    filter: &EntryFilter,
    each: &mut dyn FnMut(Entry) -> bool,
) -> Result<(), StoreError> {
    let after = match filter.after {
        Some(id) => Some((started_at(connection, id).await?, Id(id))),
        None => None,
    };
    let query = Query::new(filter, after);
    let transaction = begin(connection).await?;
    let parameters: Vec<&(dyn ToSql + Sync)> = query
        .values
        .iter()
        .map(|value| value.as_ref() as _)
        .collect();
    let statement = transaction.prepare(&query.sql).await.map_err(failed)?;
    let portal = transaction
        .bind(&statement, &parameters)
        .await
        .map_err(failed)?;
    loop {
        let rows = piece(transaction.query_portal(&portal, CHUNK)).await?;
        for row in &rows {
            if !each(read(row)?) {
                return Ok(());
            }
        }
        if rows.len() < CHUNK as usize {
            return Ok(());
        }
    }
}

/// A filter as SQL.
struct Query {
    sql: String,
    values: Vec<Column>,
}

impl Query {
    fn new(filter: &EntryFilter, after: Option<(i64, Id)>) -> Query {
        let mut clauses: Vec<String> = Vec::new();
        let mut values: Vec<Column> = Vec::new();
        let mut add = |clause: &str, value: Column| {
            values.push(value);
            clauses.push(clause.replace('?', &format!("${}", values.len())));
        };
        if let Some(since) = filter.since {
            add("started_at >= ?", Box::new(since.as_millisecond()));
        }
        if let Some(until) = filter.until {
            add("started_at < ?", Box::new(until.as_millisecond()));
        }
        if let Some(account) = &filter.account {
            add("account = ?", Box::new(account.as_str().to_owned()));
        }
        if let Some(key) = &filter.key {
            add("key = ?", Box::new(key.as_str().to_owned()));
        }
        if let Some(model) = &filter.model {
            let name = model.as_str().to_owned();
            add("(model = ? OR served_model = ?)", Box::new(name));
        }
        if let Some(outcome) = filter.outcome {
            add("outcome = ?", Box::new(i16::from(outcome.code())));
        }
        let (than, order) = match filter.descending {
            true => ("<", "DESC"),
            false => (">", "ASC"),
        };
        if let Some((started_at, id)) = after {
            // The first clause is the index's; the second tells ids of one millisecond apart.
            add(&format!("started_at {than}= ?"), Box::new(started_at));
            add(
                &format!("(started_at {than} {started_at} OR id {than} ?)"),
                Box::new(id),
            );
        }
        let clauses = match clauses.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", clauses.join(" AND ")),
        };
        Query {
            sql: format!(
                "SELECT {} FROM entries {clauses} ORDER BY started_at {order}, id {order}",
                names()
            ),
            values,
        }
    }
}

/// The place of an entry in the order.
async fn started_at(client: &Client, id: RequestId) -> Result<i64, StoreError> {
    client
        .query_opt("SELECT started_at FROM entries WHERE id = $1", &[&Id(id)])
        .await
        .map_err(failed)?
        .ok_or_else(|| StoreError::Refused(format!("no ledger entry has the id {id}")))?
        .try_get(0)
        .map_err(failed)
}

/// Entries that are no corrections, from the daily sums: counting the table itself would read all of it.
pub(super) async fn approximate(client: &Client) -> Result<u64, StoreError> {
    let count: i64 = client
        .query_one(
            "SELECT coalesce(sum(requests), 0)::bigint FROM rollup_days",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    Ok(count.unsigned_abs())
}

/// Reads a row of the table.
fn read(row: &Row) -> Result<Entry, StoreError> {
    let mut columns = Cells { row, next: 0 };
    let id: Id = columns.get()?;
    let started_at = columns.moment()?;
    let ended_at = columns.moment()?;
    let lineage: Arc<[AccountId]> = rollups::lineage_of_text(columns.get()?);
    let _account: &str = columns.get()?;
    Ok(Entry {
        id: id.0,
        started_at,
        ended_at,
        lineage,
        key: columns.get::<&str>()?.into(),
        plan: columns.get::<&str>()?.into(),
        endpoint: columns.get::<&str>()?.into(),
        model: columns.get::<Option<&str>>()?.map(ModelName::new),
        served_model: columns.get::<Option<&str>>()?.map(ModelName::new),
        upstream: columns.get::<Option<&str>>()?.map(UpstreamId::from),
        service_tier: columns.text()?,
        status: u16::try_from(columns.get::<i32>()?).map_err(|_| damaged())?,
        outcome: columns.code(Outcome::of_code)?,
        reason: columns.text()?,
        streamed: columns.get()?,
        usage_source: columns.code(UsageSource::of_code)?,
        usage: columns.usage()?,
        cost: columns.cost()?,
        undiscounted: columns.get::<Picos>()?.0,
        priced_by: match columns.get::<Option<&str>>()? {
            Some(text) => json::priced_by_of_text(text).ok_or_else(damaged)?,
            None => Vec::new(),
        },
        first_token_ms: match columns.get::<Option<i64>>()? {
            Some(ms) => Some(u32::try_from(ms).map_err(|_| damaged())?),
            None => None,
        },
        duration_ms: u32::try_from(columns.get::<i64>()?).map_err(|_| damaged())?,
        retries: u8::try_from(columns.get::<i16>()?).map_err(|_| damaged())?,
        end_user: columns.text()?,
        tags: match columns.get::<Option<&str>>()? {
            Some(text) => json::tags_of_text(text).ok_or_else(damaged)?,
            None => Vec::new(),
        },
        corrects: columns.get::<Option<Id>>()?.map(|id| id.0),
    })
}

/// Takes a row's columns one after the other.
pub(super) struct Cells<'r> {
    pub(super) row: &'r Row,
    pub(super) next: usize,
}

impl<'r> Cells<'r> {
    pub(super) fn get<T: FromSql<'r>>(&mut self) -> Result<T, StoreError> {
        let value = self.row.try_get(self.next).map_err(|error| {
            StoreError::Damaged(format!("a row of the store cannot be read: {error}"))
        })?;
        self.next += 1;
        Ok(value)
    }

    fn moment(&mut self) -> Result<jiff::Timestamp, StoreError> {
        moment(self.get()?).ok_or_else(damaged)
    }

    fn text(&mut self) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.get::<Option<&str>>()?.map(Arc::from))
    }

    fn code<T>(&mut self, of_code: impl Fn(u8) -> Option<T>) -> Result<T, StoreError> {
        let code: i16 = self.get()?;
        u8::try_from(code)
            .ok()
            .and_then(of_code)
            .ok_or_else(damaged)
    }

    pub(super) fn usage(&mut self) -> Result<Usage, StoreError> {
        let mut counts = [0; Usage::CLASSES];
        for count in &mut counts {
            *count = self.get::<i64>()?.unsigned_abs();
        }
        Ok(Usage::from_counts(counts))
    }

    pub(super) fn cost(&mut self) -> Result<CostByClass, StoreError> {
        let mut amounts = [Money::ZERO; 8];
        for amount in &mut amounts {
            *amount = self.get::<Picos>()?.0;
        }
        Ok(CostByClass::from_amounts(amounts))
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged("an entry holds a value that was never written there".into())
}
