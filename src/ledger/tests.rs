//! The ledger as a whole: what is closed reaches the store exactly once, whatever dies in between.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::samples::sample;
use super::store::{
    AccountEvent, AuditLine, EntryFilter, Grain, PlanEvent, RollupRow, Stored, StoredKey, TimeRange,
};
use super::*;
use crate::ids::{AccountId, KeyId, RequestId};
use crate::secret::KeyDigest;

/// A store in memory that goes away on command.
#[derive(Default)]
struct Fake {
    entries: Mutex<BTreeMap<RequestId, Entry>>,
    away: AtomicBool,
    refused: Mutex<HashSet<RequestId>>,
    batches: AtomicUsize,
    durable: AtomicUsize,
}

impl Fake {
    fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().values().cloned().collect()
    }

    fn answer(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("gone fishing".into())),
            false => Ok(()),
        }
    }
}

impl Store for Fake {
    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.answer()?;
        let refused = self.refused.lock().unwrap();
        if entries.iter().any(|entry| refused.contains(&entry.id)) {
            return Err(StoreError::Refused("out of range".into()));
        }
        self.batches.fetch_add(1, Ordering::SeqCst);
        let mut known = self.entries.lock().unwrap();
        let before = known.len();
        for entry in entries {
            known.entry(entry.id).or_insert_with(|| entry.clone());
        }
        Ok(known.len() - before)
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        self.answer()?;
        self.durable.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn migrate(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    fn scan(&self, _: &EntryFilter, _: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        unreachable!()
    }
    fn rollup(
        &self,
        _: Grain,
        _: TimeRange,
        _: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn approximate_entries(&self) -> Result<u64, StoreError> {
        unreachable!()
    }
    fn pepper(&self) -> Result<Vec<u8>, StoreError> {
        unreachable!()
    }
    fn stored_version(&self) -> Result<u64, StoreError> {
        unreachable!()
    }
    fn stored(&self) -> Result<Stored, StoreError> {
        unreachable!()
    }
    fn put_plan(
        &self,
        _: &crate::plan::Plan,
        _: Option<u64>,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn put_account(
        &self,
        _: &crate::plan::Account,
        _: Option<u64>,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn put_key(&self, _: &StoredKey, _: Option<u64>, _: &AuditLine) -> Result<(), StoreError> {
        unreachable!()
    }
    fn revoke_key(
        &self,
        _: &KeyId,
        _: &KeyDigest,
        _: jiff::Timestamp,
        _: &AuditLine,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError> {
        unreachable!()
    }
    fn account_events_of(&self, _: &AccountId) -> Result<Vec<AccountEvent>, StoreError> {
        unreachable!()
    }
    fn add_account_events(&self, _: &[AccountEvent]) -> Result<(), StoreError> {
        unreachable!()
    }
    fn plan_events(&self, _: &mut dyn FnMut(PlanEvent)) -> Result<(), StoreError> {
        unreachable!()
    }
    fn add_plan_events(&self, _: &[PlanEvent]) -> Result<(), StoreError> {
        unreachable!()
    }
    fn audit(&self, _: usize) -> Result<Vec<AuditLine>, StoreError> {
        unreachable!()
    }
    fn add_audit(&self, _: &AuditLine) -> Result<(), StoreError> {
        unreachable!()
    }
}

/// A directory for journals, and the store that outlives the gateways.
struct House {
    directory: tempfile::TempDir,
    store: Arc<Fake>,
}

impl House {
    fn new() -> House {
        House {
            directory: tempfile::tempdir().unwrap(),
            store: Arc::default(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            batch_wait: Duration::from_millis(1),
            ..Settings::new(self.directory.path().to_owned())
        }
    }

    fn start(&self) -> (Ledger, Recovery) {
        self.start_with(self.settings())
    }

    fn start_with(&self, settings: Settings) -> (Ledger, Recovery) {
        let store: Arc<dyn Store> = self.store.clone();
        Ledger::start(settings, store).unwrap()
    }

    /// File sets of living and dead processes.
    fn journals(&self) -> Vec<PathBuf> {
        let sets = std::fs::read_dir(self.directory.path()).unwrap();
        sets.map(|set| set.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    }

    fn set_away(&self, away: bool) {
        self.store.away.store(away, Ordering::SeqCst);
    }
}

fn begun(number: u64) -> Entry {
    let mut entry = sample(number);
    entry.outcome = Outcome::Interrupted;
    entry.ended_at = entry.started_at;
    entry
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn what_is_closed_is_in_the_store_after_a_flush_and_the_journal_goes_at_the_end() {
    let house = House::new();
    let (ledger, recovery) = house.start();
    assert_eq!(recovery, Recovery::default());
    for number in 0..100 {
        ledger.begin(&begun(number)).unwrap();
    }
    assert_eq!(ledger.open_requests(), 100);
    for number in 0..100 {
        ledger.close(sample(number)).unwrap();
    }
    ledger.flush(SOON).unwrap();
    assert_eq!((ledger.open_requests(), ledger.queue_len()), (0, 0));
    let expected: Vec<Entry> = (0..100).map(sample).collect();
    assert_eq!(house.store.entries(), expected);
    ledger.shutdown(SOON).unwrap();
    assert_eq!(house.journals(), Vec::<PathBuf>::new());
}

#[test]
fn entries_that_come_together_are_written_together() {
    let house = House::new();
    let (ledger, _) = house.start_with(Settings {
        batch_wait: Duration::from_millis(200),
        ..house.settings()
    });
    for number in 0..500 {
        ledger.close(sample(number)).unwrap();
    }
    ledger.flush(SOON).unwrap();
    assert!(house.store.batches.load(Ordering::SeqCst) <= 3);
}

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

#[test]
fn every_fsync_policy_keeps_entries() {
    for fsync in [Fsync::Always, Fsync::Interval(5), Fsync::Never] {
        let house = House::new();
        let (ledger, _) = house.start_with(Settings {
            fsync,
            segment_bytes: 5_000,
            ..house.settings()
        });
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || {
                    for number in 0..20 {
                        ledger.begin(&begun(thread * 100 + number)).unwrap();
                        ledger.close(sample(thread * 100 + number)).unwrap();
                    }
                });
            }
        });
        ledger.shutdown(SOON).unwrap();
        assert_eq!(house.store.entries().len(), 80);
        assert_eq!(house.journals(), Vec::<PathBuf>::new());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// One of the open requests, by a number that is taken modulo their count.
    Close(usize),
    StoreAway(bool),
    /// The process dies and another starts.
    Die,
    Flush,
    MakeDurable,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Begin),
        8 => any::<usize>().prop_map(Step::Close),
        1 => any::<bool>().prop_map(Step::StoreAway),
        1 => Just(Step::Die),
        1 => Just(Step::Flush),
        2 => Just(Step::MakeDurable),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_closed_entry_is_there_once_and_every_open_one_is_interrupted(
        steps in proptest::collection::vec(any_step(), 1..200),
    ) {
        let house = House::new();
        let settings = || Settings {
            queue_entries_max: 8,
            batch_entries_max: 3,
            segment_bytes: 3_000,
            fsync: Fsync::Never,
            ..house.settings()
        };
        let (mut ledger, _) = house.start_with(settings());
        let (mut next, mut open, mut closed, mut lost) = (0, Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Begin => {
                    ledger.begin(&begun(next)).unwrap();
                    open.push(next);
                    next += 1;
                }
                Step::Close(which) => {
                    if !open.is_empty() {
                        let number = open.swap_remove(which % open.len());
                        ledger.close(sample(number)).unwrap();
                        closed.push(number);
                    }
                }
                Step::StoreAway(away) => house.set_away(away),
                Step::Die => {
                    drop(ledger);
                    lost.append(&mut open);
                    ledger = house.start_with(settings()).0;
                }
                Step::Flush => {
                    let _ = ledger.flush(Duration::from_millis(2));
                }
                Step::MakeDurable => {
                    keeper::make_durable(&ledger.shared);
                }
            }
        }
        house.set_away(false);
        drop(ledger);
        lost.append(&mut open);
        let (ledger, recovery) = house.start_with(settings());
        prop_assert_eq!(recovery.waiting, 0);
        prop_assert_eq!(recovery.damaged_bytes, 0);
        ledger.shutdown(SOON).unwrap();
        let entries = house.store.entries();
        prop_assert_eq!(entries.len(), closed.len() + lost.len());
        closed.sort_unstable();
        for number in closed {
            prop_assert!(entries.contains(&sample(number)), "{number} is missing");
        }
        for number in lost {
            let found = entries.iter().find(|entry| entry.id == sample(number).id);
            prop_assert_eq!(found.map(|entry| entry.outcome), Some(Outcome::Interrupted));
        }
        prop_assert_eq!(house.journals(), Vec::<PathBuf>::new());
    }
}
