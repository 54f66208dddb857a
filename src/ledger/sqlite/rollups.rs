//! Rollup rows: added to with each batch, read by reports.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::failed;
use super::names::Names;
use crate::hash::HashMap;
use crate::ids::{AccountId, KeyId, ModelName, PlanId, UpstreamId};
use crate::ledger::codec::moment;
use crate::ledger::rollup::{DAY_MS, HOUR_MS, Sums, sorted};
use crate::ledger::store::{Grain, RollupRow, StoreError, TimeRange};

/// The key of an hourly row, in this store's numbers; 0 where an entry has no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HourKey {
    /// Hours since 1970.
    pub(super) hour: i64,
    pub(super) lineage: i64,
    pub(super) plan: i64,
    pub(super) key: i64,
    pub(super) model: i64,
    pub(super) served_model: i64,
    pub(super) upstream: i64,
    pub(super) service_tier: i64,
    pub(super) input_band: i64,
}

impl HourKey {
    fn columns(&self) -> [&dyn ToSql; 9] {
        [
            &self.hour,
            &self.lineage,
            &self.plan,
            &self.key,
            &self.model,
            &self.served_model,
            &self.upstream,
            &self.service_tier,
            &self.input_band,
        ]
    }

    fn day(&self) -> DayKey {
        DayKey {
            day: self.hour.div_euclid(DAY_MS / HOUR_MS),
            lineage: self.lineage,
            plan: self.plan,
            model: self.model,
            served_model: self.served_model,
            service_tier: self.service_tier,
            input_band: self.input_band,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct DayKey {
    /// Days since 1970.
    day: i64,
    lineage: i64,
    plan: i64,
    model: i64,
    served_model: i64,
    service_tier: i64,
    input_band: i64,
}

impl DayKey {
    fn columns(&self) -> [&dyn ToSql; 7] {
        [
            &self.day,
            &self.lineage,
            &self.plan,
            &self.model,
            &self.served_model,
            &self.service_tier,
            &self.input_band,
        ]
    }
}

/// Adds the sums of new entries to the hourly and daily rows.
pub(super) fn add(
    transaction: &Transaction<'_>,
    hours: HashMap<HourKey, Sums>,
) -> Result<(), StoreError> {
    let mut days: HashMap<DayKey, Sums> = HashMap::default();
    for (key, sums) in &hours {
        *days.entry(key.day()).or_default() += sums;
    }
    let mut hour_table = Table::open(
        transaction,
        "SELECT sums FROM rollup_hours WHERE hour = ?1 AND lineage = ?2 AND plan = ?3 AND key = ?4 AND model = ?5 \
         AND served_model = ?6 AND upstream = ?7 AND service_tier = ?8 AND input_band = ?9",
        "REPLACE INTO rollup_hours VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for (key, sums) in sorted(hours) {
        hour_table.add(&key.columns(), sums)?;
    }
    let mut day_table = Table::open(
        transaction,
        "SELECT sums FROM rollup_days WHERE day = ?1 AND lineage = ?2 AND plan = ?3 AND model = ?4 \
         AND served_model = ?5 AND service_tier = ?6 AND input_band = ?7",
        "REPLACE INTO rollup_days VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (key, sums) in sorted(days) {
        day_table.add(&key.columns(), sums)?;
    }
    Ok(())
}

/// The two statements that add to a row.
struct Table<'c> {
    select: rusqlite::CachedStatement<'c>,
    replace: rusqlite::CachedStatement<'c>,
    encoded: Vec<u8>,
}

impl<'c> Table<'c> {
    fn open(
        connection: &'c Connection,
        select: &str,
        replace: &str,
    ) -> Result<Table<'c>, StoreError> {
        Ok(Table {
            select: connection.prepare_cached(select).map_err(failed)?,
            replace: connection.prepare_cached(replace).map_err(failed)?,
            encoded: Vec::new(),
        })
    }

    /// Reads, adds and writes back: sums of money may leave SQLite's 64 bits, and its own `+` would make floats of them.
    fn add(&mut self, key: &[&dyn ToSql], mut sums: Sums) -> Result<(), StoreError> {
        let before = self
            .select
            .query_row(key, |row| Ok(decode(row, 0)))
            .optional()
            .map_err(failed)?;
        if let Some(before) = before {
            sums += &before?;
        }
        self.encoded.clear();
        sums.encode(&mut self.encoded);
        let mut columns = key.to_vec();
        columns.push(&self.encoded);
        self.replace.execute(columns.as_slice()).map_err(failed)?;
        Ok(())
    }
}

fn decode(row: &Row<'_>, column: usize) -> Result<Sums, StoreError> {
    let bytes = row
        .get_ref(column)
        .map_err(failed)?
        .as_blob()
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    Sums::decode(bytes)
        .ok_or_else(|| StoreError::Damaged("a rollup row holds no sums of this version".into()))
}

/// Calls `each` for the rows of a range.
pub(super) fn read(
    connection: &Connection,
    names: &Names,
    grain: Grain,
    range: TimeRange,
    each: &mut dyn FnMut(&RollupRow),
) -> Result<(), StoreError> {
    let (unit_ms, sql) = match grain {
        Grain::Hour => (
            HOUR_MS,
            "SELECT hour, lineage, plan, model, sums, served_model, service_tier, input_band, key, upstream \
             FROM rollup_hours WHERE hour >= ?1 AND hour < ?2",
        ),
        Grain::Day => (
            DAY_MS,
            "SELECT day, lineage, plan, model, sums, served_model, service_tier, input_band \
             FROM rollup_days WHERE day >= ?1 AND day < ?2",
        ),
    };
    // Rows that start within the range: its edges are rounded up to whole units.
    let first = -(-range.since.as_millisecond()).div_euclid(unit_ms);
    let end = -(-range.until.as_millisecond()).div_euclid(unit_ms);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([first, end]).map_err(failed)?;
    let mut ids = Ids {
        connection,
        names,
        plans: HashMap::default(),
        models: HashMap::default(),
        others: HashMap::default(),
        last_start: (i64::MIN, Timestamp::UNIX_EPOCH),
        last_lineage: None,
        last_key: (0, None),
    };
    while let Some(row) = rows.next().map_err(failed)? {
        let number = |column| row.get::<_, i64>(column).map_err(failed);
        let mut rollup = RollupRow {
            start: ids.start(number(0)?, unit_ms)?,
            lineage: ids.lineage(number(1)?)?,
            plan: ids.plan(number(2)?)?,
            key: None,
            model: ids.model(number(3)?)?,
            served_model: ids.model(number(5)?)?,
            upstream: None,
            service_tier: ids.other(number(6)?)?,
            input_band: row.get(7).map_err(failed)?,
            sums: decode(row, 4)?,
        };
        if grain == Grain::Hour {
            rollup.key = ids.key(number(8)?)?;
            rollup.upstream = ids.other(number(9)?)?.map(UpstreamId::from);
        }
        each(&rollup);
    }
    Ok(())
}

/// Numbers to ids, without taking a lock or making a text for each row.
struct Ids<'c> {
    connection: &'c Connection,
    names: &'c Names,
    plans: HashMap<i64, PlanId>,
    models: HashMap<i64, Option<ModelName>>,
    /// Names of which there are few: upstreams and tiers.
    others: HashMap<i64, Option<Arc<str>>>,
    last_start: (i64, Timestamp),
    /// Rows come account by account, so the one before is mostly the one wanted. Readers on several threads would
    /// otherwise wait for each other at the memory that they share.
    last_lineage: Option<(i64, Arc<[AccountId]>)>,
    last_key: (i64, Option<KeyId>),
}

impl Ids<'_> {
    fn start(&mut self, units: i64, unit_ms: i64) -> Result<Timestamp, StoreError> {
        if self.last_start.0 != units {
            let start = units.checked_mul(unit_ms).and_then(moment);
            let start =
                start.ok_or_else(|| StoreError::Damaged("a rollup row lies beyond time".into()))?;
            self.last_start = (units, start);
        }
        Ok(self.last_start.1)
    }

    fn lineage(&mut self, number: i64) -> Result<Arc<[AccountId]>, StoreError> {
        if let Some((last, lineage)) = &self.last_lineage
            && *last == number
        {
            return Ok(Arc::clone(lineage));
        }
        let lineage = self.names.lineage(self.connection, number)?;
        self.last_lineage = Some((number, Arc::clone(&lineage)));
        Ok(lineage)
    }

    fn key(&mut self, number: i64) -> Result<Option<KeyId>, StoreError> {
        if self.last_key.0 != number {
            self.last_key = (number, self.name(number)?.map(KeyId::from));
        }
        Ok(self.last_key.1.clone())
    }

    fn other(&mut self, number: i64) -> Result<Option<Arc<str>>, StoreError> {
        if let Some(name) = self.others.get(&number) {
            return Ok(name.clone());
        }
        let name = self.name(number)?;
        self.others.insert(number, name.clone());
        Ok(name)
    }

    fn plan(&mut self, number: i64) -> Result<PlanId, StoreError> {
        if let Some(plan) = self.plans.get(&number) {
            return Ok(plan.clone());
        }
        let plan = PlanId::from(self.names.name(self.connection, number)?);
        self.plans.insert(number, plan.clone());
        Ok(plan)
    }

    fn model(&mut self, number: i64) -> Result<Option<ModelName>, StoreError> {
        if let Some(model) = self.models.get(&number) {
            return Ok(model.clone());
        }
        let model = self.name(number)?.map(|name| ModelName::new(&name));
        self.models.insert(number, model.clone());
        Ok(model)
    }

    fn name(&self, number: i64) -> Result<Option<Arc<str>>, StoreError> {
        match number {
            0 => Ok(None),
            number => self.names.name(self.connection, number).map(Some),
        }
    }
}
