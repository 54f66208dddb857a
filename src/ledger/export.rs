//! Export: entries as JSON lines, as CSV, or as the FinOps community's FOCUS rows; oldest first, in bounded memory.
//!
//! What is read is the store and, beside it, what still sits in the journals of the gateways on this machine: an entry
//! is in an export from the moment that it was closed.

mod focus;
mod table;

use std::io;
use std::path::Path;

use super::entry::Entry;
use super::journal::{self, Closed};
use super::json;
use super::store::{EntryFilter, Store, StoreError};
use crate::spreadsheet::Sheet;

/// How entries are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line: everything, to be read back.
    #[default]
    Jsonl,
    /// One row an entry, with a header: see [`COLUMNS`].
    Csv,
    /// One row an entry and class of cost, in the columns of FOCUS 1.0: see [`FOCUS_COLUMNS`].
    Focus,
}

pub use focus::FOCUS_COLUMNS;
pub use table::COLUMNS;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journals cannot be read.
    #[error("the journals in {0} cannot be read: {1}")]
    Journal(std::path::PathBuf, io::Error),
    /// What was written to went away.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Writes every entry that passes, oldest first, and returns how many there were.
///
/// `journals` is the directory of the journals of all gateways on this machine that write to the store.
///
/// # Errors
/// See [`ExportError`]; what was written so far is whole lines.
pub fn write(
    store: &dyn Store,
    journals: Option<&Path>,
    filter: &EntryFilter,
    format: Format,
    out: &mut dyn io::Write,
) -> Result<u64, ExportError> {
    let mut writer = Writer::new(format, out)?;
    let mut count = 0;
    let mut failed = None;
    scan(store, journals, filter, &mut |entry| {
        match writer.entry(&entry) {
            Ok(()) => count += 1,
            Err(error) => failed = Some(error),
        }
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    writer.finish()?;
    Ok(count)
}

/// Calls `each` for every entry that passes, in the store or still in a journal only, oldest first and each once, until
/// it returns `false`. The filter's `after` and `descending` are for pages of the store; they have no effect here.
///
/// # Errors
/// The store's, or a journal that cannot be read.
pub fn scan(
    store: &dyn Store,
    journals: Option<&Path>,
    filter: &EntryFilter,
    each: &mut dyn FnMut(Entry) -> bool,
) -> Result<(), ExportError> {
    let filter = EntryFilter {
        after: None,
        descending: false,
        ..filter.clone()
    };
    // The journals first: what moves to the store meanwhile is met there, under the same key.
    let closed = match journals {
        None => Vec::new(),
        Some(root) => journal::closed_entries(root)
            .map_err(|error| ExportError::Journal(root.to_owned(), error))?,
    };
    let mut waiting = closed.iter().peekable();
    let mut going = true;
    let mut unreadable = None;
    store.scan(&filter, &mut |entry| {
        let key = (entry.started_at.as_millisecond(), entry.id);
        while let Some(next) = waiting.next_if(|next| next.key < key) {
            going = going && give(next, &filter, each, &mut unreadable);
        }
        waiting.next_if(|next| next.key == key);
        going = going && each(entry);
        going
    })?;
    for next in waiting {
        going = going && give(next, &filter, each, &mut unreadable);
    }
    match (unreadable, journals) {
        (Some(error), Some(root)) => Err(ExportError::Journal(root.to_owned(), error)),
        _ => Ok(()),
    }
}

/// Gives an entry of a journal, if it passes.
fn give(
    closed: &Closed,
    filter: &EntryFilter,
    each: &mut dyn FnMut(Entry) -> bool,
    unreadable: &mut Option<io::Error>,
) -> bool {
    match closed.read() {
        Ok(Some(entry)) if filter.passes(&entry) => each(entry),
        Ok(_) => true,
        Err(error) => {
            *unreadable = Some(error);
            false
        }
    }
}

enum Writer<'w> {
    Jsonl(io::BufWriter<&'w mut dyn io::Write>),
    Csv(Sheet<&'w mut dyn io::Write>),
    Focus(Sheet<&'w mut dyn io::Write>),
}

impl<'w> Writer<'w> {
    fn new(format: Format, out: &'w mut dyn io::Write) -> io::Result<Writer<'w>> {
        Ok(match format {
            Format::Jsonl => Writer::Jsonl(io::BufWriter::with_capacity(1 << 16, out)),
            Format::Csv => {
                let mut sheet = Sheet::new(out);
                sheet.line(COLUMNS)?;
                Writer::Csv(sheet)
            }
            Format::Focus => {
                let mut sheet = Sheet::new(out);
                sheet.line(FOCUS_COLUMNS)?;
                Writer::Focus(sheet)
            }
        })
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        match self {
            Writer::Jsonl(out) => {
                json::write(entry, &mut *out)?;
                io::Write::write_all(out, b"\n")
            }
            Writer::Csv(sheet) => sheet.line(table::row(entry)),
            Writer::Focus(sheet) => focus::rows(entry)
                .into_iter()
                .try_for_each(|row| sheet.line(row)),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Writer::Jsonl(mut out) => io::Write::flush(&mut out),
            Writer::Csv(sheet) | Writer::Focus(sheet) => sheet.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::sample;
    use crate::ledger::sqlite::SqliteStore;
    use crate::ledger::{Ledger, Settings};
    use crate::money::Money;
    use crate::tokens::UsageSource;
    use std::sync::Arc;
    use std::time::Duration;

    struct House {
        directory: tempfile::TempDir,
        store: Arc<SqliteStore>,
    }

    impl House {
        fn new() -> House {
            let directory = tempfile::tempdir().unwrap();
            let store = Arc::new(SqliteStore::open(&directory.path().join("weir.db")).unwrap());
            store.migrate().unwrap();
            House { directory, store }
        }

        fn journals(&self) -> std::path::PathBuf {
            self.directory.path().join("weir.journal")
        }

        fn export(&self, format: Format) -> String {
            let mut out = Vec::new();
            let filter = EntryFilter::default();
            let journals = self.journals();
            write(&*self.store, Some(&journals), &filter, format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        }

        /// A ledger that closed an entry which cannot have reached the store yet.
        fn ledger(&self) -> Ledger {
            let settings = Settings {
                batch_wait: Duration::from_secs(60),
                ..Settings::new(self.journals())
            };
            Ledger::start(settings, self.store.clone()).unwrap().0
        }
    }

    fn numbers(lines: &str) -> Vec<u64> {
        let base = sample(0).usage.input_tokens;
        let read = |line: &str| json::read(line.as_bytes()).unwrap();
        lines
            .lines()
            .map(|line| read(line).usage.input_tokens - base)
            .collect()
    }

    #[test]
    fn an_entry_is_exported_from_the_moment_that_it_is_closed_and_once() {
        let house = House::new();
        let ledger = house.ledger();
        for number in [4, 1, 9] {
            ledger.close(sample(number)).unwrap();
        }
        house
            .store
            .append(&[sample(2), sample(4), sample(7)])
            .unwrap();
        assert_eq!(house.store.approximate_entries().unwrap(), 3);
        assert_eq!(numbers(&house.export(Format::Jsonl)), [1, 2, 4, 7, 9]);
        ledger.flush(Duration::from_secs(10)).unwrap();
        assert_eq!(numbers(&house.export(Format::Jsonl)), [1, 2, 4, 7, 9]);
        ledger.shutdown(Duration::from_secs(10)).unwrap();
        assert_eq!(numbers(&house.export(Format::Jsonl)), [1, 2, 4, 7, 9]);
    }

    #[test]
    fn a_filter_holds_for_what_is_in_the_journal_too() {
        let house = House::new();
        let ledger = house.ledger();
        for number in 0..5 {
            ledger.close(sample(number)).unwrap();
        }
        let filter = EntryFilter {
            account: Some("acme-3".into()),
            ..EntryFilter::default()
        };
        let mut found = Vec::new();
        scan(
            &*house.store,
            Some(&house.journals()),
            &filter,
            &mut |entry| {
                found.push(entry);
                true
            },
        )
        .unwrap();
        assert_eq!(found, [sample(3)]);
    }

    #[test]
    fn csv_has_one_row_an_entry_under_stable_columns() {
        let house = House::new();
        let mut strange = sample(1);
        strange.end_user = Some("Bobby \"; DROP\nTABLE".into());
        strange.model = Some("=1+1".into());
        strange.priced_by = Vec::new();
        house.store.append(&[strange, sample(2)]).unwrap();
        let text = house.export(Format::Csv);
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(csv.headers().unwrap(), &COLUMNS[..]);
        let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        let cell = |row: usize, name: &str| {
            let column = COLUMNS.iter().position(|column| *column == name).unwrap();
            rows[row][column].to_owned()
        };
        assert_eq!(cell(0, "end_user"), "Bobby \"; DROP\nTABLE");
        assert_eq!(cell(0, "model"), "'=1+1", "no formula");
        assert_eq!(cell(0, "priced_by"), "");
        assert_eq!(cell(1, "priced_by"), "gpt-4o@2024-10-02");
        assert_eq!(cell(1, "cost_usd"), sample(2).cost_usd().to_string());
        assert_eq!(cell(1, "ancestors"), "acme");
    }

    #[test]
    fn focus_rows_add_up_to_the_cost_and_to_the_tokens() {
        let house = House::new();
        let mut free = sample(3);
        free.usage = Default::default();
        free.usage_source = UsageSource::None;
        free.cost = Default::default();
        free.undiscounted = Money::ZERO;
        house.store.append(&[sample(1), free]).unwrap();
        let text = house.export(Format::Focus);
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        let column = |name: &str| FOCUS_COLUMNS.iter().position(|one| *one == name).unwrap();
        let sum = |name: &str| -> Money {
            rows.iter()
                .map(|row| Money::parse(&row[column(name)]).unwrap())
                .sum()
        };
        assert_eq!(rows.len(), 4, "one for each class that was used");
        assert_eq!(sum("BilledCost"), sample(1).cost_usd());
        assert_eq!(sum("EffectiveCost"), sample(1).cost_usd());
        assert_eq!(sum("ListCost"), sample(1).undiscounted);
        let tokens: u64 = rows
            .iter()
            .map(|row| row[column("ConsumedQuantity")].parse::<u64>().unwrap())
            .sum();
        assert_eq!(tokens, sample(1).usage.total_tokens());
        assert_eq!(&rows[1][column("SkuId")], "gpt-4o:cache_read_input");
        assert_eq!(&rows[0][column("SubAccountId")], "acme-1");
        assert_eq!(&rows[0][column("BillingPeriodEnd")], "2025-04-01T00:00:00Z");
    }
}
