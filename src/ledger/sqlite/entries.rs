//! Entries in and out of their table.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params_from_iter};

use super::names::{Interned, Names, find};
use super::rollups::{self, HourKey};
use super::{failed, schema};
use crate::hash::HashMap;
use crate::ids::{ModelName, RequestId, UpstreamId};
use crate::ledger::codec::moment;
use crate::ledger::entry::{Entry, Outcome};
use crate::ledger::json;
use crate::ledger::rollup::{HOUR_MS, Sums, hour_of};
use crate::ledger::store::{EntryFilter, StoreError, input_band};
use crate::money::Money;
use crate::price::CostByClass;
use crate::tokens::{Usage, UsageSource};

/// How many entries one statement of a scan reads: between two of them the log can be copied and begun anew.
const CHUNK: usize = 2_000;

/// The columns, in the order in which they are bound and read: the usage in that of [`Usage::counts`], the cost in that of
/// [`CostByClass::amounts`].
const COLUMNS: [&str; 48] = [
    "started_at",
    "id",
    "ended_at",
    "lineage",
    "account",
    "key",
    "plan",
    "endpoint",
    "model",
    "served_model",
    "upstream",
    "service_tier",
    "status",
    "outcome",
    "reason",
    "streamed",
    "usage_source",
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "web_search_requests",
    "file_search_requests",
    "code_interpreter_requests",
    "images",
    "audio_seconds",
    "cost_input",
    "cost_cache_read_input",
    "cost_cache_write_input",
    "cost_media_input",
    "cost_output",
    "cost_reasoning_output",
    "cost_media_output",
    "cost_other",
    "undiscounted",
    "priced_by",
    "first_token_ms",
    "duration_ms",
    "retries",
    "end_user",
    "tags",
    "corrects",
];

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let places = vec!["?"; COLUMNS.len()].join(", ");
    let columns = COLUMNS.join(", ");
    format!("INSERT INTO entries ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING")
});

/// How many entries are inserted before others have their turn on the core, about 20 microseconds' worth.
const TURN: usize = 8;

/// For how long: a batch holds the pen, and a thread that gives way on a busy core may wait for milliseconds each time.
const TURNS_TIME: Duration = Duration::from_millis(50);

/// How a batch is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// In all the time that there is.
    AtOnce,
    /// A few entries at a time, between which others have their turn: no answer should wait for a whole batch.
    InTurns,
}

/// Inserts what is new, with its rollups; how many were new.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    interned: &mut Interned,
    entries: &[Entry],
    pace: Pace,
) -> Result<usize, StoreError> {
    let mut statement = transaction.prepare_cached(&INSERT).map_err(failed)?;
    // Made anew with each statement: what is bound is forgotten when it goes back to the connection's cache.
    let mut bound = [Bound::Other; COLUMNS.len()];
    let mut hours: HashMap<HourKey, Sums> = HashMap::default();
    let mut new = 0;
    let began = Instant::now();
    for (number, entry) in entries.iter().enumerate() {
        if pace == Pace::InTurns && number % TURN == TURN - 1 && began.elapsed() < TURNS_TIME {
            std::thread::yield_now();
        }
        let says_when = entry.id.began_ms() == Some(entry.started_at.as_millisecond());
        if !says_when && !note_undated(transaction, entry).map_err(failed)? {
            continue;
        }
        let row = Numbered::new(transaction, interned, entry)?;
        if row
            .insert(&mut statement, &mut bound, entry)
            .map_err(failed)?
            == 0
        {
            continue;
        }
        new += 1;
        hours
            .entry(row.hour_key(entry))
            .or_default()
            .add_entry(entry);
    }
    rollups::add(transaction, hours)?;
    if new > 0 {
        schema::add_to_fact(transaction, "entries", new)?;
    }
    Ok(new)
}

/// Notes the time of an id that does not say it, in the transaction that writes its entry; whether the id is new.
fn note_undated(connection: &Connection, entry: &Entry) -> rusqlite::Result<bool> {
    let values = (
        entry.id.0.as_bytes().as_slice(),
        entry.started_at.as_millisecond(),
    );
    connection
        .prepare_cached(
            "INSERT INTO undated (id, started_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| statement.execute(values))
        .map(|changed| changed > 0)
}

/// The numbers of an entry's names.
struct Numbered {
    lineage: i64,
    account: i64,
    key: i64,
    plan: i64,
    endpoint: i64,
    model: Option<i64>,
    served_model: Option<i64>,
    upstream: Option<i64>,
    service_tier: Option<i64>,
    priced_by: Option<i64>,
}

impl Numbered {
    fn new(
        connection: &Connection,
        interned: &mut Interned,
        entry: &Entry,
    ) -> Result<Numbered, StoreError> {
        let account = entry.account().map_or("", |account| account.as_str());
        let model = entry.model.as_ref().map(ModelName::as_str);
        let served_model = entry.served_model.as_ref().map(ModelName::as_str);
        let upstream = entry.upstream.as_ref().map(UpstreamId::as_str);
        Ok(Numbered {
            lineage: interned.lineage(connection, &entry.lineage)?,
            account: interned.number(connection, account)?,
            key: interned.number(connection, entry.key.as_str())?,
            plan: interned.number(connection, entry.plan.as_str())?,
            endpoint: interned.number(connection, &entry.endpoint)?,
            model: interned.optional(connection, model)?,
            served_model: interned.optional(connection, served_model)?,
            upstream: interned.optional(connection, upstream)?,
            service_tier: interned.optional(connection, entry.service_tier.as_deref())?,
            priced_by: interned.price_rows(connection, &entry.priced_by)?,
        })
    }

    fn hour_key(&self, entry: &Entry) -> HourKey {
        HourKey {
            hour: hour_of(entry.started_at).div_euclid(HOUR_MS),
            lineage: self.lineage,
            plan: self.plan,
            key: self.key,
            model: self.model.unwrap_or(0),
            served_model: self.served_model.unwrap_or(0),
            upstream: self.upstream.unwrap_or(0),
            service_tier: self.service_tier.unwrap_or(0),
            input_band: input_band(entry.usage.input_tokens).into(),
        }
    }

    /// Binds the columns, in the order of [`COLUMNS`].
    fn insert(
        &self,
        statement: &mut rusqlite::CachedStatement<'_>,
        bound: &mut [Bound; COLUMNS.len()],
        entry: &Entry,
    ) -> rusqlite::Result<usize> {
        let mut columns = Columns {
            statement,
            bound: bound.iter_mut(),
            next: 1,
        };
        columns.bind(entry.started_at.as_millisecond())?;
        columns.bind(entry.id.0.as_bytes().as_slice())?;
        columns.bind(entry.ended_at.as_millisecond())?;
        columns.bind(self.lineage)?;
        columns.bind(self.account)?;
        columns.bind(self.key)?;
        columns.bind(self.plan)?;
        columns.bind(self.endpoint)?;
        columns.bind(self.model)?;
        columns.bind(self.served_model)?;
        columns.bind(self.upstream)?;
        columns.bind(self.service_tier)?;
        columns.bind(entry.status)?;
        columns.bind(entry.outcome.code())?;
        columns.bind(entry.reason.as_deref())?;
        columns.bind(entry.streamed)?;
        columns.bind(entry.usage_source.code())?;
        for count in entry.usage.counts() {
            // A class never exceeds a billion tokens; a sum of parts cannot reach 63 bits.
            columns.bind(i64::try_from(count).unwrap_or(i64::MAX))?;
        }
        for amount in entry.cost.amounts() {
            columns.bind(Picos(amount))?;
        }
        columns.bind(Picos(entry.undiscounted))?;
        columns.bind(self.priced_by)?;
        columns.bind(entry.first_token_ms)?;
        columns.bind(entry.duration_ms)?;
        columns.bind(entry.retries)?;
        columns.bind(entry.end_user.as_deref())?;
        columns.bind(json::tags_to_text(&entry.tags))?;
        let corrects = entry.corrects.as_ref();
        columns.bind(corrects.map(|id| id.0.as_bytes().as_slice()))?;
        columns.statement.raw_execute()
    }
}

/// What a parameter of the statement was bound to last. It holds until it is bound again, and most columns of an entry are
/// as in the one before: no tokens of a class, the same key, the same model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Null,
    Integer(i64),
    /// Nothing yet, or what is not compared.
    Other,
}

struct Columns<'s, 'c> {
    statement: &'s mut rusqlite::CachedStatement<'c>,
    bound: std::slice::IterMut<'s, Bound>,
    next: usize,
}

impl Columns<'_, '_> {
    fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        let value = value.to_sql()?;
        let now = match &value {
            ToSqlOutput::Borrowed(ValueRef::Null) | ToSqlOutput::Owned(Value::Null) => Bound::Null,
            ToSqlOutput::Borrowed(ValueRef::Integer(number))
            | ToSqlOutput::Owned(Value::Integer(number)) => Bound::Integer(*number),
            _ => Bound::Other,
        };
        let last = self.bound.next().map(|last| std::mem::replace(last, now));
        if now == Bound::Other || last != Some(now) {
            self.statement.raw_bind_parameter(self.next, value)?;
        }
        self.next += 1;
        Ok(())
    }
}

/// Money in a column: an integer of pico-dollars, or sixteen bytes where 64 bits do not hold it. An integer column would
/// turn the latter into a float.
struct Picos(Money);

impl ToSql for Picos {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(match self.0.picos_i64() {
            Some(picos) => Value::Integer(picos),
            None => Value::Blob(self.0.picos().to_be_bytes().to_vec()),
        }))
    }
}

impl FromSql for Picos {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Picos> {
        let picos = match value {
            ValueRef::Integer(picos) => picos.into(),
            ValueRef::Blob(bytes) => bytes
                .try_into()
                .map(i128::from_be_bytes)
                .map_err(|_| FromSqlError::InvalidType)?,
            _ => return Err(FromSqlError::InvalidType),
        };
        Ok(Picos(Money::from_picos(picos)))
    }
}

/// Calls `each` for what passes, in order, until it says to stop.
pub(super) fn scan(
    connection: &Connection,
    names: &Names,
    filter: &EntryFilter,
    each: &mut dyn FnMut(Entry) -> bool,
) -> Result<(), StoreError> {
    let Some(query) = Query::new(connection, filter)? else {
        return Ok(());
    };
    let mut after = query.after;
    loop {
        let (sql, values) = query.chunk(after);
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let entry = read(connection, names, row)?;
            count += 1;
            after = Some((entry.started_at.as_millisecond(), entry.id));
            if !each(entry) {
                return Ok(());
            }
        }
        if count < CHUNK {
            return Ok(());
        }
    }
}

/// A filter in this store's numbers.
struct Query {
    conditions: Vec<(&'static str, Value)>,
    after: Option<(i64, RequestId)>,
    descending: bool,
}

impl Query {
    /// `None` when nothing can pass: the filter names what the store has never seen.
    fn new(connection: &Connection, filter: &EntryFilter) -> Result<Option<Query>, StoreError> {
        let mut conditions = Vec::new();
        if let Some(since) = filter.since {
            conditions.push(("started_at >= ?", Value::from(since.as_millisecond())));
        }
        if let Some(until) = filter.until {
            conditions.push(("started_at < ?", Value::from(until.as_millisecond())));
        }
        let named = [
            ("account = ?", filter.account.as_ref().map(|id| id.as_str())),
            ("key = ?", filter.key.as_ref().map(|id| id.as_str())),
            (
                "? IN (model, served_model)",
                filter.model.as_ref().map(ModelName::as_str),
            ),
        ];
        for (condition, name) in named {
            let Some(name) = name else { continue };
            match find(connection, name)? {
                Some(number) => conditions.push((condition, Value::from(number))),
                None => return Ok(None),
            }
        }
        if let Some(outcome) = filter.outcome {
            conditions.push(("outcome = ?", Value::from(i64::from(outcome.code()))));
        }
        let after = filter
            .after
            .map(|id| started_at(connection, id))
            .transpose()?;
        Ok(Some(Query {
            conditions,
            after,
            descending: filter.descending,
        }))
    }

    fn chunk(&self, after: Option<(i64, RequestId)>) -> (String, Vec<Value>) {
        let (than, order) = match self.descending {
            true => ("<", "DESC"),
            false => (">", "ASC"),
        };
        let mut clauses: Vec<String> = Vec::new();
        let mut values = Vec::new();
        for (condition, value) in &self.conditions {
            clauses.push((*condition).to_owned());
            values.push(value.clone());
        }
        if let Some((started_at, id)) = after {
            clauses.push(format!("(started_at, id) {than} (?, ?)"));
            values.push(Value::from(started_at));
            values.push(Value::from(id.0.as_bytes().to_vec()));
        }
        let filter = match clauses.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", clauses.join(" AND ")),
        };
        let sql = format!(
            "SELECT {columns} FROM entries {filter} ORDER BY started_at {order}, id {order} LIMIT {CHUNK}",
            columns = COLUMNS.join(", "),
        );
        (sql, values)
    }
}

/// The place of an entry in the order.
fn started_at(connection: &Connection, id: RequestId) -> Result<(i64, RequestId), StoreError> {
    let sql = "SELECT started_at FROM entries WHERE started_at = ?2 AND id = ?1
        UNION ALL SELECT started_at FROM undated WHERE id = ?1";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            let values = (id.0.as_bytes().as_slice(), id.began_ms());
            statement.query_row(values, |row| row.get(0)).optional()
        })
        .map_err(failed)?
        .map(|started_at| (started_at, id))
        .ok_or_else(|| StoreError::Refused(format!("no ledger entry has the id {id}")))
}

/// Reads a row of the table.
fn read(connection: &Connection, names: &Names, row: &Row<'_>) -> Result<Entry, StoreError> {
    let mut columns = Cells {
        connection,
        names,
        row,
        next: 0,
    };
    let started_at = columns.moment()?;
    let id: Id = columns.get()?;
    let ended_at = columns.moment()?;
    let lineage_number = columns.get()?;
    let lineage = names.lineage(connection, lineage_number)?;
    let _account: i64 = columns.get()?;
    Ok(Entry {
        id: id.0,
        started_at,
        ended_at,
        lineage,
        key: columns.name()?.into(),
        plan: columns.name()?.into(),
        endpoint: columns.name()?,
        model: columns.optional_name()?.map(|name| ModelName::new(&name)),
        served_model: columns.optional_name()?.map(|name| ModelName::new(&name)),
        upstream: columns.optional_name()?.map(UpstreamId::from),
        service_tier: columns.optional_name()?,
        status: columns.get()?,
        outcome: Outcome::of_code(columns.get()?).ok_or_else(damaged)?,
        reason: columns.text()?,
        streamed: columns.get()?,
        usage_source: UsageSource::of_code(columns.get()?).ok_or_else(damaged)?,
        usage: columns.usage()?,
        cost: columns.cost()?,
        undiscounted: columns.get::<Picos>()?.0,
        priced_by: match columns.optional_name()? {
            Some(text) => json::priced_by_of_text(&text).ok_or_else(damaged)?,
            None => Vec::new(),
        },
        first_token_ms: columns.get()?,
        duration_ms: columns.get()?,
        retries: columns.get()?,
        end_user: columns.text()?,
        tags: match columns.text()? {
            Some(text) => json::tags_of_text(&text).ok_or_else(damaged)?,
            None => Vec::new(),
        },
        corrects: columns.get::<Option<Id>>()?.map(|id| id.0),
    })
}

struct Id(RequestId);

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Id> {
        let bytes = value.as_blob()?;
        uuid::Uuid::from_slice(bytes)
            .map(|id| Id(RequestId(id)))
            .map_err(|_| FromSqlError::InvalidType)
    }
}

/// Takes a row's columns one after the other.
struct Cells<'r, 's> {
    connection: &'r Connection,
    names: &'r Names,
    row: &'r Row<'s>,
    next: usize,
}

impl Cells<'_, '_> {
    fn get<T: FromSql>(&mut self) -> Result<T, StoreError> {
        let value = self.row.get(self.next).map_err(failed)?;
        self.next += 1;
        Ok(value)
    }

    fn moment(&mut self) -> Result<jiff::Timestamp, StoreError> {
        moment(self.get()?).ok_or_else(damaged)
    }

    fn name(&mut self) -> Result<Arc<str>, StoreError> {
        let number = self.get()?;
        self.names.name(self.connection, number)
    }

    fn optional_name(&mut self) -> Result<Option<Arc<str>>, StoreError> {
        let number: Option<i64> = self.get()?;
        number
            .map(|number| self.names.name(self.connection, number))
            .transpose()
    }

    fn text(&mut self) -> Result<Option<Arc<str>>, StoreError> {
        let text: Option<String> = self.get()?;
        Ok(text.map(Arc::from))
    }

    fn usage(&mut self) -> Result<Usage, StoreError> {
        let mut counts = [0; Usage::CLASSES];
        for count in &mut counts {
            *count = self.get::<i64>()?.unsigned_abs();
        }
        Ok(Usage::from_counts(counts))
    }

    fn cost(&mut self) -> Result<CostByClass, StoreError> {
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
