//! Entries: kept as written, once, in order, and found again.

use super::{all, everything, ids, rollup};
use crate::ids::RequestId;
use crate::ledger::entry::{Entry, Outcome};
use crate::ledger::samples::{MARCH_MS, any_entry, id_at, sample};
use crate::ledger::store::{EntryFilter, Grain, Store, StoreError};
use crate::money::Money;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

pub(crate) fn an_entry_comes_back_as_it_was_written(store: &dyn Store) {
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&any_entry(), |entry| {
            prop_assert_eq!(store.append(std::slice::from_ref(&entry)).unwrap(), 1);
            let found = all(
                store,
                &EntryFilter {
                    since: Some(entry.started_at),
                    until: Some(entry.started_at + SignedDuration::from_millis(1)),
                    ..EntryFilter::default()
                },
            );
            prop_assert!(found.contains(&entry), "{found:?}\n{entry:?}");
            Ok(())
        })
        .unwrap();
}

pub(crate) fn entries_of_a_batch_come_back_as_they_were_written(store: &dyn Store) {
    // A column that is other than before, of another kind, absent, and as before again.
    let batch: Vec<Entry> = (0..35)
        .map(|number| {
            let mut entry = sample(number * 10);
            match number % 4 {
                1 => {
                    entry.cost.output = Money::from_usd(50_000_000);
                    entry.reason = Some("broke off".into());
                    entry.end_user = Some("u1".into());
                    entry.priced_by = Vec::new();
                }
                3 => {
                    entry.first_token_ms = None;
                    entry.model = None;
                    entry.tags = Vec::new();
                    entry.corrects = Some(sample(1).id);
                }
                _ => {}
            }
            entry
        })
        .collect();
    store.append(&batch).unwrap();
    assert_eq!(everything(store), batch);
}

pub(crate) fn entries_come_in_order_whatever_the_order_of_writing(store: &dyn Store) {
    let mut entries: Vec<Entry> = (0..50).map(sample).collect();
    // Two in the same millisecond are ordered by id.
    entries[7].started_at = entries[9].started_at;
    entries[7].id = id_at(entries[9].started_at, 7);
    let mut sorted = entries.clone();
    sorted.sort_by_key(|entry| (entry.started_at, entry.id));
    entries.reverse();
    for batch in entries.chunks(7) {
        store.append(batch).unwrap();
    }
    assert_eq!(everything(store), sorted);
    assert_eq!(store.approximate_entries().unwrap(), 50);
}

/// The id of a bill, which does not say a time.
fn a_bills(number: u64) -> RequestId {
    RequestId(uuid::Builder::from_custom_bytes(u128::from(number).to_be_bytes()).into_uuid())
}

pub(crate) fn an_entry_that_is_given_twice_is_kept_and_counted_once(store: &dyn Store) {
    let mut entries: Vec<Entry> = (0..10).map(sample).collect();
    entries[3].id = a_bills(3);
    let doubled: Vec<Entry> = entries.iter().chain(&entries).cloned().collect();
    assert_eq!(store.append(&doubled).unwrap(), 10);
    assert_eq!(store.append(&entries).unwrap(), 0);
    // The same id under another time is the same entry still.
    let mut moved = entries[3].clone();
    moved.started_at += SignedDuration::from_hours(5);
    assert_eq!(store.append(&[moved]).unwrap(), 0);
    assert_eq!(everything(store), entries);
    for grain in [Grain::Hour, Grain::Day] {
        let rows = rollup(store, grain);
        assert_eq!(rows.iter().map(|row| row.sums.requests).sum::<u64>(), 10);
        let cost: Money = rows.iter().map(|row| row.sums.cost.total()).sum();
        assert_eq!(cost, entries.iter().map(Entry::cost_usd).sum());
    }
    assert_eq!(store.approximate_entries().unwrap(), 10);
}

pub(crate) fn filters_choose_entries(store: &dyn Store) {
    let mut entries: Vec<Entry> = (0..20).map(sample).collect();
    entries[3].outcome = Outcome::ClientClosed;
    entries[4].model = Some("o3".into());
    entries[5].served_model = Some("o3".into());
    entries[6].model = None;
    store.append(&entries).unwrap();
    let second = |number: i64| Timestamp::from_millisecond(MARCH_MS + number * 1000).unwrap();
    let check = |filter: EntryFilter, expected: &[u64]| {
        let found = all(store, &filter);
        let expected: Vec<_> = expected.iter().map(|number| sample(*number).id).collect();
        assert_eq!(ids(&found), expected, "{filter:?}");
        for entry in &entries {
            assert_eq!(filter.passes(entry), expected.contains(&entry.id));
        }
    };
    check(
        EntryFilter {
            since: Some(second(5)),
            until: Some(second(8)),
            ..EntryFilter::default()
        },
        &[5, 6, 7],
    );
    check(
        EntryFilter {
            account: Some("acme-3".into()),
            ..EntryFilter::default()
        },
        &[3, 13],
    );
    // An account's entries are its own, not its descendants'.
    check(
        EntryFilter {
            account: Some("acme".into()),
            ..EntryFilter::default()
        },
        &[],
    );
    check(
        EntryFilter {
            key: Some("key-9".into()),
            ..EntryFilter::default()
        },
        &[9, 19],
    );
    check(
        EntryFilter {
            model: Some("o3".into()),
            ..EntryFilter::default()
        },
        &[4, 5],
    );
    check(
        EntryFilter {
            outcome: Some(Outcome::ClientClosed),
            ..EntryFilter::default()
        },
        &[3],
    );
    check(
        EntryFilter {
            account: Some("nobody".into()),
            ..EntryFilter::default()
        },
        &[],
    );
}

pub(crate) fn pages_follow_each_other_in_both_directions(store: &dyn Store) {
    let mut entries: Vec<Entry> = (0..5000)
        .map(|number| {
            let mut entry = sample(number);
            // Many in one millisecond.
            entry.started_at = sample(number / 7).started_at;
            entry.id = match number % 1000 {
                999 => a_bills(number / 1000),
                _ => id_at(entry.started_at, number),
            };
            entry
        })
        .collect();
    entries.sort_by_key(|entry| (entry.started_at, entry.id));
    store.append(&entries).unwrap();
    let mut forward = ids(&entries);
    for descending in [false, true] {
        let mut found = Vec::new();
        loop {
            let mut page = Vec::new();
            let filter = EntryFilter {
                after: found.last().copied(),
                descending,
                ..EntryFilter::default()
            };
            store
                .scan(&filter, &mut |entry| {
                    page.push(entry.id);
                    page.len() < 900
                })
                .unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, forward);
        forward.reverse();
    }
    assert_eq!(everything(store).len(), 5000, "across chunks");
    let unknown = EntryFilter {
        after: Some(RequestId::new()),
        ..EntryFilter::default()
    };
    assert!(matches!(
        store.scan(&unknown, &mut |_| true),
        Err(StoreError::Refused(_))
    ));
}
