//! A ledger in memory that sums its entries the plainest way there is.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use weir::ids::KeyId;
use weir::ledger::Entry;
use weir::ledger::store::{
    AccountEvent, AuditLine, EntryFilter, Grain, RollupRow, Store, StoreError, Stored, StoredKey,
    TimeRange,
};
use weir::plan::{Account, Plan};
use weir::secret::KeyDigest;

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) entries: Mutex<Vec<Entry>>,
    pub(crate) events: Vec<AccountEvent>,
    pub(crate) audit: Mutex<Vec<AuditLine>>,
}

impl Memory {
    pub(crate) fn new(mut entries: Vec<Entry>, events: Vec<AccountEvent>) -> Memory {
        entries.sort_by_key(|entry| (entry.started_at, entry.id));
        Memory {
            entries: Mutex::new(entries),
            events,
            audit: Mutex::default(),
        }
    }
}

fn start(grain: Grain, at: Timestamp) -> Timestamp {
    let unit = match grain {
        Grain::Hour => 3_600_000,
        Grain::Day => 86_400_000,
    };
    let ms = at.as_millisecond();
    Timestamp::from_millisecond(ms - ms.rem_euclid(unit)).unwrap()
}

impl Store for Memory {
    fn migrate(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        let mut all = self.entries.lock().unwrap();
        all.extend_from_slice(entries);
        all.sort_by_key(|entry| (entry.started_at, entry.id));
        Ok(entries.len())
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn scan(
        &self,
        filter: &EntryFilter,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), StoreError> {
        for entry in self.entries.lock().unwrap().iter() {
            let wanted = filter.since.is_none_or(|since| entry.started_at >= since)
                && filter.until.is_none_or(|until| entry.started_at < until);
            if wanted && !each(entry.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn rollup(
        &self,
        grain: Grain,
        range: TimeRange,
        each: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError> {
        assert_eq!(start(grain, range.since), range.since, "cut to whole rows");
        assert_eq!(start(grain, range.until), range.until, "cut to whole rows");
        let mut rows: BTreeMap<String, RollupRow> = BTreeMap::new();
        for entry in self.entries.lock().unwrap().iter() {
            if !(range.since..range.until).contains(&entry.started_at) {
                continue;
            }
            let mut row = RollupRow::of(entry);
            if grain == Grain::Day {
                row.start = start(grain, entry.started_at);
                row.key = None;
                row.upstream = None;
            }
            let name = format!(
                "{} {:?} {} {:?} {:?} {:?} {:?} {:?} {}",
                row.start,
                row.lineage,
                row.plan,
                row.key,
                row.model,
                row.served_model,
                row.upstream,
                row.service_tier,
                row.input_band
            );
            match rows.get_mut(&name) {
                None => {
                    rows.insert(name, row);
                }
                Some(sum) => {
                    sum.requests += row.requests;
                    sum.unpriced_requests += row.unpriced_requests;
                    for (sum, count) in sum.outcomes.iter_mut().zip(row.outcomes) {
                        *sum += count;
                    }
                    sum.retries += row.retries;
                    sum.usage += row.usage;
                    sum.cost += row.cost;
                    sum.undiscounted += row.undiscounted;
                    sum.client_closed_cost += row.client_closed_cost;
                    sum.failed_cost += row.failed_cost;
                }
            }
        }
        rows.values().for_each(each);
        Ok(())
    }

    fn approximate_entries(&self) -> Result<u64, StoreError> {
        Ok(self.entries.lock().unwrap().len() as u64)
    }

    fn pepper(&self) -> Result<Vec<u8>, StoreError> {
        Ok(vec![0; 32])
    }

    fn stored_version(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn stored(&self) -> Result<Stored, StoreError> {
        Ok(Stored::default())
    }

    fn put_plan(&self, _: &Plan, _: &AuditLine) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_account(&self, _: &Account, _: &AuditLine) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_key(&self, _: &StoredKey, _: &AuditLine) -> Result<(), StoreError> {
        Ok(())
    }

    fn revoke_key(
        &self,
        _: &KeyId,
        _: &KeyDigest,
        _: Timestamp,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError> {
        Ok(self.events.clone())
    }

    fn add_account_events(&self, _: &[AccountEvent]) -> Result<(), StoreError> {
        Ok(())
    }

    fn audit(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        let lines = self.audit.lock().unwrap();
        Ok(lines.iter().rev().take(limit).cloned().collect())
    }

    fn add_audit(&self, line: &AuditLine) -> Result<(), StoreError> {
        self.audit.lock().unwrap().push(line.clone());
        Ok(())
    }
}
