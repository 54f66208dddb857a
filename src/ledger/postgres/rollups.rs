//! Rollup rows: added to with each batch, read by reports.

use std::sync::Arc;

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::connections::{failed, piece};
use super::entries::Cells;
use super::schema::begin;
use super::values::{Picos, text};
use crate::hash::HashMap;
use crate::ids::{AccountId, KeyId, ModelName, UpstreamId};
use crate::ledger::codec::moment;
use crate::ledger::entry::Entry;
use crate::ledger::rollup::{DAY_MS, HOUR_MS, Sums, hour_of, sorted};
use crate::ledger::store::{Grain, RollupRow, StoreError, TimeRange, input_band};

/// How many rows are fetched at once.
const CHUNK: i32 = 5_000;

/// The columns of sums, in the order in which they are sent and read.
const SUMS: [&str; 34] = [
    "requests",
    "unpriced_requests",
    "completed",
    "client_closed",
    "upstream_failed",
    "interrupted",
    "rejected",
    "retries",
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
    "client_closed_cost",
    "failed_cost",
];
/// How many of these are counts; the rest is money.
const COUNTS: usize = 23;

/// The texts of a key between its time and its band, by grain, as columns.
const HOUR_NAMES: [&str; 7] = [
    "lineage",
    "plan",
    "key",
    "model",
    "served_model",
    "upstream",
    "service_tier",
];
const DAY_NAMES: [&str; 5] = ["lineage", "plan", "model", "served_model", "service_tier"];

/// The key of an hourly row; `''` where an entry has no such name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HourKey {
    /// Hours since 1970.
    hour: i64,
    /// In the order of [`HOUR_NAMES`].
    names: [String; 7],
    input_band: i16,
}

impl HourKey {
    /// The key of the row that an entry counts in.
    pub(super) fn of(entry: &Entry) -> HourKey {
        let name = |name: Option<&str>| text(name.unwrap_or_default()).into_owned();
        HourKey {
            hour: hour_of(entry.started_at).div_euclid(HOUR_MS),
            names: [
                lineage_text(&entry.lineage),
                name(Some(entry.plan.as_str())),
                name(Some(entry.key.as_str())),
                name(entry.model.as_ref().map(ModelName::as_str)),
                name(entry.served_model.as_ref().map(ModelName::as_str)),
                name(entry.upstream.as_ref().map(UpstreamId::as_str)),
                name(entry.service_tier.as_deref()),
            ],
            input_band: input_band(entry.usage.input_tokens).into(),
        }
    }

    fn day(&self) -> DayKey {
        let [lineage, plan, _, model, served_model, _, tier] = self.names.clone();
        DayKey {
            day: self.hour.div_euclid(DAY_MS / HOUR_MS),
            names: [lineage, plan, model, served_model, tier],
            input_band: self.input_band,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct DayKey {
    /// Days since 1970.
    day: i64,
    /// In the order of [`DAY_NAMES`].
    names: [String; 5],
    input_band: i16,
}

/// Adds the sums of new entries to the hourly and daily rows, in the order of their keys.
pub(super) async fn add(
    transaction: &Transaction<'_>,
    hours: HashMap<HourKey, Sums>,
) -> Result<(), StoreError> {
    if hours.is_empty() {
        return Ok(());
    }
    let mut days: HashMap<DayKey, Sums> = HashMap::default();
    for (key, sums) in &hours {
        *days.entry(key.day()).or_default() += sums;
    }
    let hours = sorted(hours)
        .into_iter()
        .map(|(key, sums)| (key.hour, key.names, key.input_band, sums))
        .collect();
    upsert(transaction, "rollup_hours", "hour", HOUR_NAMES, hours).await?;
    let days = sorted(days)
        .into_iter()
        .map(|(key, sums)| (key.day, key.names, key.input_band, sums))
        .collect();
    upsert(transaction, "rollup_days", "day", DAY_NAMES, days).await
}

async fn upsert<const N: usize>(
    transaction: &Transaction<'_>,
    table: &str,
    time: &str,
    names: [&str; N],
    rows: Vec<(i64, [String; N], i16, Sums)>,
) -> Result<(), StoreError> {
    let mut key = vec![time];
    key.extend(names);
    key.push("input_band");
    let key = key.join(", ");
    let mut types = vec!["bigint"];
    types.extend([("text"); N]);
    types.push("smallint");
    types.extend(["bigint"; COUNTS]);
    types.extend(["numeric"; SUMS.len() - COUNTS]);
    let arrays: Vec<String> = types
        .iter()
        .zip(1..)
        .map(|(kind, number)| format!("${number}::{kind}[]"))
        .collect();
    let added: Vec<String> = SUMS
        .iter()
        .map(|column| format!("{column} = r.{column} + excluded.{column}"))
        .collect();
    let sql = format!(
        "INSERT INTO {table} AS r ({key}, {sums}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) DO UPDATE SET {added}",
        sums = SUMS.join(", "),
        arrays = arrays.join(", "),
        added = added.join(", "),
    );
    let columns = columns_of(rows);
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column.as_ref() as _).collect();
    transaction
        .execute(&sql, &parameters)
        .await
        .map(drop)
        .map_err(failed)
}

/// Turns rows into the arrays that `unnest` makes rows of again, in the order of the table's columns.
fn columns_of<const N: usize>(
    rows: Vec<(i64, [String; N], i16, Sums)>,
) -> Vec<Box<dyn ToSql + Sync + Send>> {
    // Lists of lists, not arrays: where a loop over an array is unrolled, LLVM before 23 puts its exits into an order that
    // changes from build to build (llvm/llvm-project#188821), and the release binary was not the same twice.
    let mut names = vec![Vec::new(); N];
    let mut counts = vec![Vec::new(); COUNTS];
    let mut money = vec![Vec::new(); SUMS.len() - COUNTS];
    let times: Vec<i64> = rows.iter().map(|row| row.0).collect();
    let bands: Vec<i16> = rows.iter().map(|row| row.2).collect();
    for (_, of_row, _, sums) in rows {
        for (column, name) in names.iter_mut().zip(of_row) {
            column.push(name);
        }
        for (column, count) in counts.iter_mut().zip(counts_of(&sums)) {
            column.push(count);
        }
        for (column, amount) in money.iter_mut().zip(money_of(&sums)) {
            column.push(amount);
        }
    }
    let mut columns: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(times)];
    columns.extend(names.into_iter().map(boxed));
    columns.push(Box::new(bands));
    columns.extend(counts.into_iter().map(boxed));
    columns.extend(money.into_iter().map(boxed));
    columns
}

fn boxed<T>(column: Vec<T>) -> Box<dyn ToSql + Sync + Send>
where
    Vec<T>: ToSql + Sync + Send + 'static,
{
    Box::new(column)
}

fn counts_of(sums: &Sums) -> impl Iterator<Item = i64> + use<> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut counts = vec![signed(sums.requests), sums.unpriced_requests];
    counts.extend(sums.outcomes.map(signed));
    counts.push(signed(sums.retries));
    counts.extend(sums.usage.counts().map(signed));
    counts.into_iter()
}

fn money_of(sums: &Sums) -> impl Iterator<Item = Picos> + use<> {
    let mut money: Vec<Picos> = sums.cost.amounts().map(Picos).to_vec();
    money.extend([
        Picos(sums.undiscounted),
        Picos(sums.client_closed_cost),
        Picos(sums.failed_cost),
    ]);
    money.into_iter()
}

/// Calls `each` for the rows of a range.
pub(super) async fn read(
    connection: &mut Object,
    grain: Grain,
    range: TimeRange,
    each: &mut dyn FnMut(&RollupRow),
) -> Result<(), StoreError> {
    let (unit_ms, time, table, extra) = match grain {
        Grain::Hour => (HOUR_MS, "hour", "rollup_hours", ", key, upstream"),
        Grain::Day => (DAY_MS, "day", "rollup_days", ""),
    };
    let sql = format!(
        "SELECT {time}, lineage, plan, model, served_model, service_tier, input_band, {sums}{extra} \
         FROM {table} WHERE {time} >= $1 AND {time} < $2",
        sums = SUMS.join(", "),
    );
    // Rows that start within the range: its edges are rounded up to whole units.
    let first = -(-range.since.as_millisecond()).div_euclid(unit_ms);
    let end = -(-range.until.as_millisecond()).div_euclid(unit_ms);
    let transaction = begin(connection).await?;
    let statement = transaction.prepare(&sql).await.map_err(failed)?;
    let portal = transaction
        .bind(&statement, &[&first, &end])
        .await
        .map_err(failed)?;
    let mut shared = Shared::default();
    loop {
        let rows = piece(transaction.query_portal(&portal, CHUNK)).await?;
        for row in &rows {
            each(&rollup(row, grain, unit_ms, &mut shared)?);
        }
        if rows.len() < CHUNK as usize {
            return Ok(());
        }
    }
}

fn rollup(
    row: &tokio_postgres::Row,
    grain: Grain,
    unit_ms: i64,
    shared: &mut Shared,
) -> Result<RollupRow, StoreError> {
    let mut cells = Cells { row, next: 0 };
    let count = |count: i64| count.unsigned_abs();
    let mut rollup = RollupRow {
        start: start(cells.get()?, unit_ms)?,
        lineage: shared.lineage(cells.get()?),
        plan: shared.text(cells.get()?).into(),
        key: None,
        model: some(cells.get()?).map(ModelName::new),
        served_model: some(cells.get()?).map(ModelName::new),
        upstream: None,
        service_tier: some(cells.get()?).map(|tier| shared.text(tier)),
        input_band: u8::try_from(cells.get::<i16>()?).unwrap_or(0),
        sums: Sums {
            requests: count(cells.get()?),
            unpriced_requests: cells.get()?,
            outcomes: [
                count(cells.get()?),
                count(cells.get()?),
                count(cells.get()?),
                count(cells.get()?),
                count(cells.get()?),
            ],
            retries: count(cells.get()?),
            usage: cells.usage()?,
            cost: cells.cost()?,
            undiscounted: cells.get::<Picos>()?.0,
            client_closed_cost: cells.get::<Picos>()?.0,
            failed_cost: cells.get::<Picos>()?.0,
        },
    };
    if grain == Grain::Hour {
        rollup.key = some(cells.get()?).map(KeyId::from);
        rollup.upstream = some(cells.get()?).map(UpstreamId::from);
    }
    Ok(rollup)
}

fn start(units: i64, unit_ms: i64) -> Result<Timestamp, StoreError> {
    units
        .checked_mul(unit_ms)
        .and_then(moment)
        .ok_or_else(|| StoreError::Damaged("a rollup row lies beyond time".into()))
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Texts that repeat in nearly every row, made once for a read.
#[derive(Default)]
struct Shared {
    lineages: HashMap<Box<str>, Arc<[AccountId]>>,
    texts: HashMap<Box<str>, Arc<str>>,
}

impl Shared {
    fn lineage(&mut self, text: &str) -> Arc<[AccountId]> {
        if let Some(lineage) = self.lineages.get(text) {
            return Arc::clone(lineage);
        }
        let lineage = lineage_of_text(text);
        self.lineages.insert(text.into(), Arc::clone(&lineage));
        lineage
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.texts.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(text.into(), Arc::clone(&shared));
        shared
    }
}

/// Between the accounts of a lineage; not in the alphabet of ids.
const SEPARATOR: &str = "/";

/// A path of accounts as its column holds it.
pub(super) fn lineage_text(lineage: &[AccountId]) -> String {
    let path: Vec<&str> = lineage.iter().map(AccountId::as_str).collect();
    path.join(SEPARATOR)
}

/// The path of such a text.
pub(super) fn lineage_of_text(text: &str) -> Arc<[AccountId]> {
    text.split(SEPARATOR)
        .filter(|account| !account.is_empty())
        .map(AccountId::from)
        .collect()
}
