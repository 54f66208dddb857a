//! Texts that repeat, kept once: names to numbers for the writer, numbers to names for readers.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use super::failed;
use crate::hash::HashMap;
use crate::ids::AccountId;
use crate::ledger::json;
use crate::ledger::store::StoreError;
use crate::price::PricedBy;

/// Names come from clients too (models): what is remembered of them is bounded, and begins anew when it is full.
const REMEMBERED_MAX: usize = 100_000;
/// Between the accounts of a lineage; not in the alphabet of ids.
const SEPARATOR: &str = "/";

/// The writer's memory of numbers. Belongs to one connection: a transaction that fails takes its new numbers with it.
#[derive(Debug, Default)]
pub(super) struct Interned {
    numbers: HashMap<Box<str>, i64>,
    /// Of price rows, whose text takes longer to write than to look up.
    price_rows: HashMap<Vec<PricedBy>, i64>,
}

impl Interned {
    /// The number of a name, new if need be.
    pub(super) fn number(
        &mut self,
        connection: &Connection,
        name: &str,
    ) -> Result<i64, StoreError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = match find(connection, name)? {
            Some(number) => number,
            None => connection
                .prepare_cached("INSERT INTO names (name) VALUES (?1)")
                .and_then(|mut statement| statement.insert([name]))
                .map_err(failed)?,
        };
        if self.numbers.len() >= REMEMBERED_MAX {
            self.numbers.clear();
        }
        self.numbers.insert(name.into(), number);
        Ok(number)
    }

    /// The number of a name that may be absent.
    pub(super) fn optional(
        &mut self,
        connection: &Connection,
        name: Option<&str>,
    ) -> Result<Option<i64>, StoreError> {
        name.map(|name| self.number(connection, name)).transpose()
    }

    /// The number of the price rows of an entry; `None` when it has none.
    pub(super) fn price_rows(
        &mut self,
        connection: &Connection,
        rows: &[PricedBy],
    ) -> Result<Option<i64>, StoreError> {
        if let Some(number) = self.price_rows.get(rows) {
            return Ok(Some(*number));
        }
        let text = json::priced_by_to_text(rows);
        let number = self.optional(connection, text.as_deref())?;
        if let Some(number) = number {
            if self.price_rows.len() >= REMEMBERED_MAX {
                self.price_rows.clear();
            }
            self.price_rows.insert(rows.to_vec(), number);
        }
        Ok(number)
    }

    /// The number of a path of accounts.
    pub(super) fn lineage(
        &mut self,
        connection: &Connection,
        lineage: &[AccountId],
    ) -> Result<i64, StoreError> {
        if let [account] = lineage {
            return self.number(connection, account.as_str());
        }
        let path: Vec<&str> = lineage.iter().map(AccountId::as_str).collect();
        self.number(connection, &path.join(SEPARATOR))
    }

    /// Forgets all: after a transaction that failed.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.price_rows.clear();
    }
}

/// The number of a name, if it has one.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM names WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .map_err(failed)
}

/// The readers' memory of names. A number never changes its name, so all connections share it.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Mutex<HashMap<i64, Arc<str>>>,
    lineages: Mutex<HashMap<i64, Arc<[AccountId]>>>,
}

impl Names {
    /// The name of a number.
    pub(super) fn name(
        &self,
        connection: &Connection,
        number: i64,
    ) -> Result<Arc<str>, StoreError> {
        if let Some(name) = lock(&self.names).get(&number) {
            return Ok(Arc::clone(name));
        }
        let name: Arc<str> = connection
            .prepare_cached("SELECT name FROM names WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([number], |row| row.get::<_, String>(0)))
            .map_err(failed)?
            .into();
        remember(&self.names, number, &name);
        Ok(name)
    }

    /// The path of accounts of a number.
    pub(super) fn lineage(
        &self,
        connection: &Connection,
        number: i64,
    ) -> Result<Arc<[AccountId]>, StoreError> {
        if let Some(lineage) = lock(&self.lineages).get(&number) {
            return Ok(Arc::clone(lineage));
        }
        let name = self.name(connection, number)?;
        let lineage: Arc<[AccountId]> = name
            .split(SEPARATOR)
            .filter(|account| !account.is_empty())
            .map(AccountId::from)
            .collect();
        remember(&self.lineages, number, &lineage);
        Ok(lineage)
    }
}

fn remember<T: ?Sized>(memory: &Mutex<HashMap<i64, Arc<T>>>, number: i64, value: &Arc<T>) {
    let mut memory = lock(memory);
    if memory.len() >= REMEMBERED_MAX {
        memory.clear();
    }
    memory.insert(number, Arc::clone(value));
}

fn lock<T>(memory: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
