//! A store that is away, or refuses: entries wait, in bounded memory and on a bounded disk.

use super::*;

#[test]
fn while_the_store_is_away_entries_wait_in_the_journal_in_bounded_memory() {
    let house = House::new();
    let (ledger, _) = house.start_with(Settings {
        queue_entries_max: 10,
        batch_entries_max: 4,
        segment_bytes: 20_000,
        ..house.settings()
    });
    house.set_away(true);
    for number in 0..500 {
        ledger.begin(&begun(number)).unwrap();
        ledger.close(sample(number)).unwrap();
    }
    assert!(ledger.flush(Duration::from_millis(100)).is_err());
    assert_eq!(ledger.queue_len(), 500);
    assert_eq!(ledger.spooled_entries(), 500);
    assert!(!ledger.store_is_there());
    house.set_away(false);
    ledger.flush(SOON).unwrap();
    // The queue takes entries again.
    for number in 500..520 {
        ledger.close(sample(number)).unwrap();
    }
    ledger.flush(SOON).unwrap();
    assert_eq!(ledger.spooled_entries(), 0);
    let expected: Vec<Entry> = (0..520).map(sample).collect();
    assert_eq!(house.store.entries(), expected);
    // The finished files go once the store is durable.
    assert!(keeper::make_durable(&ledger.shared));
    assert!(
        ledger.journal_bytes() < 40_000,
        "{}",
        ledger.journal_bytes()
    );
    assert!(house.store.durable.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_start_without_the_store_keeps_old_journals_for_later() {
    let house = House::new();
    let (ledger, _) = house.start();
    ledger.begin(&begun(1)).unwrap();
    drop(ledger);
    house.set_away(true);
    let (ledger, recovery) = house.start();
    assert_eq!(recovery.waiting, 1);
    ledger.begin(&begun(2)).unwrap();
    ledger.close(sample(2)).unwrap();
    house.set_away(false);
    ledger.flush(SOON).unwrap();
    drop(ledger);
    let (_ledger, recovery) = house.start();
    assert_eq!(recovery.interrupted, 1);
    assert_eq!(house.store.entries().len(), 2);
}

#[test]
fn a_spool_that_is_full_refuses_new_requests_and_takes_the_ends_of_old_ones() {
    let house = House::new();
    house.set_away(true);
    let (ledger, _) = house.start_with(Settings {
        spool_bytes_max: 100_000,
        segment_bytes: 30_000,
        ..house.settings()
    });
    let mut open = Vec::new();
    let refused = loop {
        let entry = begun(open.len() as u64);
        assert!(open.len() < 10_000, "it is never full");
        match ledger.begin(&entry) {
            Ok(()) => open.push(sample(open.len() as u64)),
            Err(error) => break error,
        }
    };
    assert!(matches!(
        refused,
        LedgerError::Journal(JournalError::SpoolFull(_))
    ));
    let count = open.len();
    assert!(count > 100);
    for entry in open {
        ledger.close(entry).unwrap();
    }
    house.set_away(false);
    ledger.flush(SOON).unwrap();
    assert_eq!(house.store.entries().len(), count);
    assert!(keeper::make_durable(&ledger.shared));
    ledger.begin(&begun(9_999)).unwrap();
}

#[test]
fn one_entry_that_the_store_refuses_does_not_hold_up_the_others() {
    let house = House::new();
    house.store.refused.lock().unwrap().insert(sample(5).id);
    let (ledger, _) = house.start();
    for number in 0..10 {
        ledger.close(sample(number)).unwrap();
    }
    ledger.flush(SOON).unwrap();
    assert_eq!(house.store.entries().len(), 9);
    let aside = std::fs::read(house.directory.path().join("refused.jsonl")).unwrap();
    assert_eq!(json::read(aside.trim_ascii_end()).unwrap(), sample(5));
}
