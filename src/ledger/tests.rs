//! The ledger as a whole: what is closed reaches the store exactly once, whatever dies in between.

mod crashes;
mod fake;
mod laws;
mod store_away;

use std::sync::atomic::Ordering;

use self::fake::Fake;
use super::samples::sample;
use super::*;

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
