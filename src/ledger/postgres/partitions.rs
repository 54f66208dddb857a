//! One partition of `entries` for each month of ids, made before it is needed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Object;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::connections::failed;
use super::schema;
use crate::ids::RequestId;
use crate::ledger::entry::Entry;
use crate::ledger::store::StoreError;

/// Months that have a partition of their own: others come from clocks or ids that make no sense.
const YEARS: std::ops::Range<i16> = 2020..2100;

/// The months that are known to be there.
#[derive(Debug, Default)]
pub(super) struct Known {
    months: Mutex<HashSet<Date>>,
}

impl Known {
    /// Makes the partitions of a batch that are missing.
    pub(super) async fn for_entries(
        &self,
        connection: &mut Object,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let missing: HashSet<Date> = entries
            .iter()
            .filter_map(|entry| month_of(entry.id))
            .filter(|month| !self.knows(*month))
            .collect();
        for month in missing {
            self.make(connection, month).await?;
        }
        Ok(())
    }

    /// Whether the partitions of this or the next month are not known yet.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        months_ahead(now).iter().any(|month| !self.knows(*month))
    }

    /// Makes the partitions of this month and the next.
    pub(super) async fn ahead(
        &self,
        connection: &mut Object,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for month in months_ahead(now) {
            if !self.knows(month) {
                self.make(connection, month).await?;
            }
        }
        Ok(())
    }

    async fn make(&self, connection: &mut Object, month: Date) -> Result<(), StoreError> {
        let transaction = schema::begin(connection).await?;
        schema::lock(&transaction).await?;
        let name = format!("entries_{:04}_{:02}", month.year(), month.month());
        let there = transaction
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])
            .await
            .and_then(|row| row.try_get::<_, bool>(0))
            .map_err(failed)?;
        if !there {
            let (first, end) = (first_id(month), first_id(next(month)));
            // Names and bounds are our own digits: no parameter can stand there.
            transaction
                .batch_execute(&format!(
                    "CREATE TABLE {name} PARTITION OF entries FOR VALUES FROM ('{first}') TO ('{end}')"
                ))
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        self.months().insert(month);
        Ok(())
    }

    fn knows(&self, month: Date) -> bool {
        self.months().contains(&month)
    }

    fn months(&self) -> std::sync::MutexGuard<'_, HashSet<Date>> {
        self.months.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The month in which an id was made; `None` for ids of the default partition.
fn month_of(id: RequestId) -> Option<Date> {
    let day = Offset::UTC
        .to_datetime(Timestamp::from_millisecond(id.began_ms()?).ok()?)
        .date();
    YEARS.contains(&day.year()).then(|| day.first_of_month())
}

/// The smallest id of a month.
fn first_id(month: Date) -> uuid::Uuid {
    let first = Offset::UTC
        .to_timestamp(month.to_datetime(jiff::civil::Time::midnight()))
        .map_or(0, Timestamp::as_millisecond);
    uuid::Uuid::from_u128(u128::from(first.unsigned_abs()) << 80)
}

fn months_ahead(now: Timestamp) -> [Date; 2] {
    let month = Offset::UTC.to_datetime(now).date().first_of_month();
    [month, next(month)]
}

fn next(month: Date) -> Date {
    month.last_of_month().tomorrow().unwrap_or(month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lies_between_its_months_bounds() {
        let id = RequestId::new();
        let month = month_of(id).unwrap();
        assert!(first_id(month) <= id.0 && id.0 < first_id(next(month)));
        assert_eq!(
            first_id(jiff::civil::date(2025, 3, 1)).to_string(),
            "01954f00-b000-0000-0000-000000000000"
        );
    }

    #[test]
    fn an_id_of_another_make_or_of_no_time_has_no_month() {
        assert_eq!(month_of(RequestId(uuid::Uuid::nil())), None);
        let far = uuid::Uuid::from_u128(u128::MAX >> 4 & !(0xf << 76) | 7 << 76);
        assert_eq!(month_of(RequestId(far)), None);
    }
}
