//! The law that holds whatever happens, in whichever order.

use proptest::prelude::*;

use super::*;

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
