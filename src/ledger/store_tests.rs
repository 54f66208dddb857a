//! What every store must do, run against each of them: see [`suite`].

mod by_hand;
mod entries;
mod rollups;

use jiff::Timestamp;

pub(crate) use by_hand::*;
pub(crate) use entries::*;
pub(crate) use rollups::*;

use super::entry::Entry;
use super::store::{EntryFilter, Grain, RollupRow, Store, TimeRange};
use crate::ids::RequestId;

/// Makes one test of each rule for a store that `$open` makes: `None` skips.
macro_rules! suite {
    ($open:expr) => {
        $crate::ledger::store_tests::suite!($open;
            an_entry_comes_back_as_it_was_written
            entries_of_a_batch_come_back_as_they_were_written
            entries_come_in_order_whatever_the_order_of_writing
            an_entry_that_is_given_twice_is_kept_and_counted_once
            rollups_are_the_sums_of_the_entries
            a_correction_changes_cost_and_no_count
            a_late_price_takes_an_entry_out_of_the_unpriced
            sums_beyond_64_bits_stay_exact
            filters_choose_entries
            pages_follow_each_other_in_both_directions
            what_was_made_by_hand_comes_back
            a_revocation_reaches_keys_of_the_file_too
            account_events_and_audit_lines_are_kept
            terms_of_plans_are_kept_in_order
            the_pepper_is_made_once
            migrating_twice_changes_nothing
        );
    };
    ($open:expr; $($rule:ident)*) => {
        $(#[test]
        fn $rule() {
            if let Some(store) = $open {
                store.migrate().unwrap();
                $crate::ledger::store_tests::$rule(&*store);
            }
        })*
    };
}
pub(crate) use suite;

fn all(store: &dyn Store, filter: &EntryFilter) -> Vec<Entry> {
    let mut entries = Vec::new();
    store
        .scan(filter, &mut |entry| {
            entries.push(entry);
            true
        })
        .unwrap();
    entries
}

fn everything(store: &dyn Store) -> Vec<Entry> {
    all(store, &EntryFilter::default())
}

fn ids(entries: &[Entry]) -> Vec<RequestId> {
    entries.iter().map(|entry| entry.id).collect()
}

fn rollup(store: &dyn Store, grain: Grain) -> Vec<RollupRow> {
    let mut rows = Vec::new();
    let range = TimeRange {
        since: Timestamp::from_millisecond(-3_000_000_000_000).unwrap(),
        until: Timestamp::from_millisecond(5_000_000_000_000).unwrap(),
    };
    store
        .rollup(grain, range, &mut |row| rows.push(row.clone()))
        .unwrap();
    rows
}
