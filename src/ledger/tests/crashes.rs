//! Processes that die: what they leave in their journals is found, by the next one or by one beside them.

use super::*;

#[test]
fn a_process_that_dies_leaves_closed_entries_and_open_ones_become_interrupted() {
    let house = House::new();
    house.set_away(true);
    let (ledger, _) = house.start();
    for number in 0..10 {
        ledger.begin(&begun(number)).unwrap();
    }
    for number in 0..6 {
        ledger.close(sample(number)).unwrap();
    }
    drop(ledger);
    assert_eq!(house.store.entries(), []);
    house.set_away(false);
    let (ledger, recovery) = house.start();
    assert_eq!(
        (recovery.journals, recovery.closed, recovery.interrupted),
        (1, 6, 4)
    );
    assert_eq!(recovery.damaged_bytes, 0);
    let entries = house.store.entries();
    assert_eq!(entries.len(), 10);
    for (number, entry) in (0..).zip(&entries) {
        if number < 6 {
            assert_eq!(*entry, sample(number));
        } else {
            assert_eq!(entry.outcome, Outcome::Interrupted);
            assert_eq!(entry.cost, sample(number).cost);
            assert!(entry.ended_at > entry.started_at, "when the process died");
        }
    }
    // Nothing is left for another start.
    drop(ledger);
    let (_ledger, recovery) = house.start();
    assert_eq!((recovery.closed, recovery.interrupted), (0, 0));
    assert_eq!(house.store.entries(), entries);
}

#[test]
fn a_living_process_keeps_its_journal_when_another_starts() {
    let house = House::new();
    let (old, _) = house.start();
    old.begin(&begun(1)).unwrap();
    let (new, recovery) = house.start();
    let nothing_but_another = Recovery {
        others: 1,
        ..Recovery::default()
    };
    assert_eq!(recovery, nothing_but_another);
    old.close(sample(1)).unwrap();
    old.flush(SOON).unwrap();
    new.close(sample(2)).unwrap();
    new.flush(SOON).unwrap();
    assert_eq!(house.store.entries(), [sample(1), sample(2)]);
}

#[test]
fn an_entry_that_stands_in_two_journals_is_read_once() {
    let house = House::new();
    house.set_away(true);
    let (ledger, _) = house.start();
    ledger.close(sample(1)).unwrap();
    // A disk that was copied, or a directory that was put back.
    let [set] = house.journals().try_into().unwrap();
    let copy = house.directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(&set).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let closed = journal::closed_entries(house.directory.path()).unwrap();
    assert_eq!(closed.len(), 1);
}

#[test]
fn a_running_gateway_takes_over_the_journal_of_one_that_died_beside_it() {
    let house = House::new();
    let (old, _) = house.start();
    let (_new, _) = house.start();
    old.begin(&begun(1)).unwrap();
    drop(old);
    let deadline = Instant::now() + Duration::from_secs(20);
    while house.store.entries().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(house.store.entries()[0].outcome, Outcome::Interrupted);
}

#[test]
fn a_journal_cut_at_any_record_loses_only_what_was_cut() {
    let house = House::new();
    house.set_away(true);
    let (ledger, _) = house.start();
    for number in 0..5 {
        ledger.begin(&begun(number)).unwrap();
        ledger.close(sample(number)).unwrap();
    }
    drop(ledger);
    let set = house.journals().pop().unwrap();
    let segment = set.join("0000000001.journal");
    let whole = std::fs::read(&segment).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The last close has lost its last byte: the request is found interrupted instead.
    std::fs::write(&segment, &whole[..end - 1]).unwrap();
    house.set_away(false);
    let (_ledger, recovery) = house.start();
    assert_eq!((recovery.closed, recovery.interrupted), (4, 1));
    assert!(recovery.damaged_bytes > 0);
}
