//! Advice: the lowest price and the highest limits that reach a margin, proved.

use weir::margin::advise::{Advice, Question, advise};
use weir::margin::whatif::{Changes, what_if};
use weir::margin::{Books, By};
use weir::money::Money;
use weir::plan::Amount;

use crate::ledger::Ledger;
use crate::world::*;

/// Twenty subscribers at 200 dollars: one costs 30 dollars a day, the others 3 dollars every third day.
fn world() -> (Ledger, Books) {
    let prices = prices();
    let mut entries = Vec::new();
    let mut accounts = Vec::new();
    for number in 0..20 {
        let id = format!("subscriber-{number:02}");
        accounts.push(account(&id, "pro", "2025-02-11"));
        for day in 1..=31 {
            let moment = at(&format!("2025-03-{day:02}T{number:02}:00:00Z"));
            let output = match number {
                0 => 30_000_000,
                _ if day % 3 == 0 => 300_000,
                _ => continue,
            };
            entries.push(entry(
                &prices,
                &id,
                "pro",
                "gpt-4o",
                moment,
                tokens(0, output),
            ));
        }
    }
    let books = Books::new([plan("pro", "200.00")], accounts, &[], &[]).unwrap();
    (Ledger::new(entries, &[]), books)
}

fn ask(target_ppm: i32) -> Advice {
    let (store, books) = world();
    let question = Question {
        plan: "pro".into(),
        target_ppm,
        range: range("2025-03-01", "2025-04-01"),
    };
    advise(
        &*store,
        &books,
        &prices(),
        &question,
        at("2025-04-02"),
        &|_, _| {},
    )
    .unwrap()
}

fn margin_with(changes: Changes) -> (Money, Money) {
    let (store, books) = world();
    let range = range("2025-03-01", "2025-04-01");
    let now = at("2025-04-02");
    let answer = what_if(
        &*store,
        &books,
        &prices(),
        &changes,
        By::Plan,
        range,
        now,
        &|_, _| {},
    )
    .unwrap();
    let total = answer.whatif.total;
    (total.margin_usd, total.revenue_usd)
}

fn reaches(changes: Changes, percent: i128) -> bool {
    let (margin, revenue) = margin_with(changes);
    margin.picos() * 100 >= revenue.picos() * percent
}

#[test]
fn the_price_is_the_lowest_cent_and_each_limit_the_highest_unit_that_reaches_the_target() {
    let advice = ask(300_000);
    assert!(!advice.reached);
    assert!(advice.actual.margin_usd < Money::ZERO);
    assert_eq!(advice.target_margin_ratio, "0.3000");
    let price = advice.price.unwrap();
    let with_price = |usd| Changes {
        plan_prices: vec![("pro".into(), usd)],
        ..Changes::default()
    };
    assert!(reaches(with_price(price.price_usd), 30));
    assert!(!reaches(with_price(price.price_usd - usd("0.01")), 30));
    assert_eq!(price.touched_accounts, 20);
    assert_eq!(advice.limits.len(), 3);
    for limit in advice.limits {
        let with = |cap| Changes {
            limits: vec![cap],
            ..Changes::default()
        };
        assert!(reaches(with(limit.limit.clone()), 30), "{}", limit.limit);
        let mut higher = limit.limit.clone();
        higher.max = match higher.max {
            Amount::Money(max) => Amount::Money(max + usd("0.01")),
            Amount::Count(max) => Amount::Count(max + 1),
        };
        assert!(!reaches(with(higher), 30), "{}", limit.limit);
        let (margin, _) = margin_with(with(limit.limit.clone()));
        assert_eq!(limit.whatif.margin_usd, margin);
        assert_eq!(limit.saving_usd, margin - advice.actual.margin_usd);
        // One subscriber is the whole trouble: limits on cost and tokens touch no other.
        if limit.limit.on != weir::plan::Measure::Requests {
            assert_eq!(limit.touched_accounts, 1, "{}", limit.limit);
        }
    }
}

#[test]
fn a_range_that_begins_within_a_day_gets_limits_too() {
    let (store, books) = world();
    let question = Question {
        plan: "pro".into(),
        target_ppm: 300_000,
        range: range("2025-03-01T09:30:00Z", "2025-03-31T09:30:00Z"),
    };
    let now = at("2025-04-02");
    let advice = advise(&*store, &books, &prices(), &question, now, &|_, _| {}).unwrap();
    assert_eq!(advice.limits.len(), 3, "{:?}", advice.notes);
}

#[test]
fn a_target_that_is_reached_needs_no_limit() {
    let advice = ask(-9_000_000);
    assert!(advice.reached);
    assert!(advice.limits.is_empty());
    assert!(advice.price.unwrap().price_usd < usd("200"));
}

#[test]
fn a_plan_that_nobody_pays_for_gets_an_honest_no() {
    let books = Books::new([plan("free", "0")], [], &[], &[]).unwrap();
    let question = Question {
        plan: "free".into(),
        target_ppm: 300_000,
        range: range("2025-03-01", "2025-04-01"),
    };
    let store = Ledger::default();
    let now = at("2025-04-02");
    let advice = advise(&*store, &books, &prices(), &question, now, &|_, _| {}).unwrap();
    assert_eq!(advice.price, None);
    assert!(advice.limits.is_empty());
    assert_eq!(advice.notes.len(), 4, "{:?}", advice.notes);
    let unknown = Question {
        plan: "gold".into(),
        ..question
    };
    assert!(advise(&*store, &books, &prices(), &unknown, now, &|_, _| {}).is_err());
}
