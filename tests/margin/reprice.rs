//! Late and corrected prices: correcting entries, counted once.

use weir::ledger::Entry;
use weir::ledger::entry::WAS_UNPRICED;
use weir::ledger::store::{EntryFilter, Store as _};
use weir::margin::reprice::{Repriced, reprice};
use weir::margin::{Books, By};
use weir::money::Money;
use weir::price::PriceTable;

use crate::ledger::Ledger;
use crate::world::*;

/// Booked with a wrong price of gpt-4o and none of gpt-late.
fn ledger() -> (Ledger, Books) {
    let wrong = PriceTable::new([model("gpt-4o", &[("2024-05-13", "5", "5", "15")])]);
    let mut entries = Vec::new();
    for day in 1..=3 {
        let moment = at(&format!("2025-03-0{day}T10:00:00Z"));
        entries.push(entry(
            &wrong,
            "a",
            "pro",
            "gpt-4o",
            moment,
            tokens(1_000_000, 0),
        ));
        // At the very same moment, as a busy gateway has it.
        entries.push(entry(
            &wrong,
            "a",
            "pro",
            "gpt-late",
            moment,
            tokens(0, 1_000_000),
        ));
        entries.push(entry(&wrong, "a", "pro", "mystery", moment, tokens(5, 5)));
    }
    let books = Books::new(
        [plan("pro", "200.00")],
        [account("a", "pro", "2025-03-01")],
        &[],
        &[],
    );
    (Ledger::new(entries, &[]), books.unwrap())
}

fn right_prices() -> PriceTable {
    PriceTable::new([
        model(
            "gpt-4o",
            &[
                ("2024-05-13", "5", "5", "15"),
                ("2025-03-02", "2.50", "1.25", "10"),
            ],
        ),
        model("gpt-late", &[("2025-01-01", "1", "1", "7")]),
    ])
}

fn run(ledger: &Ledger, prices: &PriceTable, dry_run: bool) -> Repriced {
    let range = range("2025-03-01", "2025-03-10");
    let now = at("2025-03-10");
    reprice(
        &**ledger,
        prices,
        range,
        dry_run,
        "cli test",
        now,
        &|_, _| {},
    )
    .unwrap()
}

fn all(ledger: &Ledger) -> Vec<Entry> {
    let mut entries = Vec::new();
    ledger
        .scan(&EntryFilter::default(), &mut |entry| {
            entries.push(entry);
            true
        })
        .unwrap();
    entries
}

#[test]
fn two_runs_at_the_same_time_book_the_same_corrections_which_the_ledger_takes_once() {
    let (ledger, _) = ledger();
    let before = all(&ledger);
    let corrections = |ledger: &Ledger| {
        run(ledger, &right_prices(), false);
        let entries = all(ledger).into_iter();
        let corrections = entries.filter(|entry| entry.corrects.is_some());
        let mut ids: Vec<_> = corrections
            .map(|entry| (entry.corrects, entry.id))
            .collect();
        ids.sort();
        ids
    };
    let elsewhere = Ledger::new(before, &[]);
    assert_eq!(corrections(&elsewhere), corrections(&ledger));
    // Another price later is another correction.
    let cheap = PriceTable::new([model("gpt-late", &[("2025-01-01", "1", "1", "3")])]);
    let first = all(&ledger).len();
    assert!(run(&ledger, &cheap, false).corrected > 0);
    let ids: std::collections::HashSet<_> = all(&ledger).iter().map(|entry| entry.id).collect();
    assert!(ids.len() > first);
}

#[test]
fn late_prices_are_booked_by_correcting_entries_once() {
    let (ledger, books) = ledger();
    let before = all(&ledger);
    let dry = run(&ledger, &right_prices(), true);
    assert_eq!(all(&ledger), before, "a dry run writes nothing");
    let done = run(&ledger, &right_prices(), false);
    assert_eq!(
        (done.corrected, done.newly_priced, done.unpriced),
        (5, 3, 3)
    );
    assert_eq!(done.difference_usd, usd("16"), "3 x 7 - 2 x 2.50");
    assert_eq!(
        Repriced {
            dry_run: false,
            ..dry
        },
        done
    );

    let after = all(&ledger);
    assert_eq!(after.len(), before.len() + 5);
    for entry in &before {
        assert!(after.contains(entry), "nothing is rewritten");
    }
    let again = run(&ledger, &right_prices(), false);
    assert_eq!((again.corrected, again.difference_usd), (0, Money::ZERO));
    assert_eq!(all(&ledger).len(), after.len());

    let correction = after
        .iter()
        .find(|entry| {
            let reason = entry.reason.as_deref().unwrap_or_default();
            entry.corrects.is_some() && reason.starts_with(WAS_UNPRICED)
        })
        .unwrap();
    assert_eq!(correction.cost_usd(), usd("7"));
    assert_eq!(correction.usage.total_tokens(), 0);
    assert_eq!(correction.started_at.to_string(), "2025-03-01T10:00:00Z");
    let audit = ledger.audit(10).unwrap();
    assert_eq!(audit.len(), 1, "one line a run that booked something");
    assert_eq!(
        (audit[0].action.as_str(), audit[0].actor.as_str()),
        ("reprice", "cli test")
    );

    // Every way to read it has the corrected cost, and the requests that still have no price.
    for by in [By::Plan, By::Model, By::Key, By::Day, By::Tag] {
        let report = report(
            &ledger,
            &books,
            by,
            range("2025-03-01", "2025-03-10"),
            "2025-03-10",
        );
        assert_eq!(
            report.total.cost_usd,
            usd("31"),
            "{by:?}: 5 + 2 x 2.50 + 3 x 7"
        );
        assert_eq!(report.total.requests, 9);
        assert_eq!(report.total.unpriced_requests, 3, "{by:?}");
    }
}

#[test]
fn a_second_change_of_price_corrects_what_the_first_one_booked() {
    let (ledger, _) = ledger();
    run(&ledger, &right_prices(), false);
    let cheaper = PriceTable::new([
        model("gpt-4o", &[("2024-05-13", "1", "1", "1")]),
        model("gpt-late", &[("2025-01-01", "1", "1", "2")]),
    ]);
    let done = run(&ledger, &cheaper, false);
    assert_eq!((done.corrected, done.newly_priced), (6, 0));
    let sum: Money = all(&ledger).iter().map(Entry::cost_usd).sum();
    assert_eq!(sum, usd("9"), "3 x 1 + 3 x 2");
    // A price that is gone takes nothing away.
    let none = run(&ledger, &PriceTable::default(), false);
    assert_eq!(none.corrected, 0);
}
