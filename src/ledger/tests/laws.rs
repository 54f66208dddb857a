//! The law that holds whatever happens, in whichever order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// One of the open requests, by a number that is taken modulo their count.
    Close(usize),
    /// The same, but its record waits for the next that is written.
    PutClose(usize),
    StoreAway(bool),
    /// The process dies and another starts.
    Die,
    Flush,
    MakeDurable,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Begin),
        6 => any::<usize>().prop_map(Step::Close),
        4 => any::<usize>().prop_map(Step::PutClose),
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
        // Ends that nobody was told of: a process may die before they are written.
        let (mut put_down, mut untold) = (Vec::new(), Vec::new());
        for step in steps {
            if matches!(step, Step::Begin | Step::Flush) {
                closed.append(&mut put_down);
            }
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
                        closed.append(&mut put_down);
                    }
                }
                Step::PutClose(which) => {
                    if !open.is_empty() {
                        let number = open.swap_remove(which % open.len());
                        ledger.put_close(sample(number)).unwrap();
                        put_down.push(number);
                    }
                }
                Step::StoreAway(away) => house.set_away(away),
                Step::Die => {
                    drop(ledger);
                    lost.append(&mut open);
                    untold.append(&mut put_down);
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
        untold.append(&mut put_down);
        let (ledger, recovery) = house.start_with(settings());
        prop_assert_eq!(recovery.waiting, 0);
        prop_assert_eq!(recovery.damaged_bytes, 0);
        ledger.shutdown(SOON).unwrap();
        let entries = house.store.entries();
        prop_assert_eq!(entries.len(), closed.len() + lost.len() + untold.len());
        closed.sort_unstable();
        for number in closed {
            prop_assert!(entries.contains(&sample(number)), "{number} is missing");
        }
        for number in untold {
            prop_assert!(entries.iter().any(|entry| entry.id == sample(number).id), "{number} is missing");
        }
        for number in lost {
            let found = entries.iter().find(|entry| entry.id == sample(number).id);
            prop_assert_eq!(found.map(|entry| entry.outcome), Some(Outcome::Interrupted));
        }
        prop_assert_eq!(house.journals(), Vec::<PathBuf>::new());
    }
}
