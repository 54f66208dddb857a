//! Advice: the lowest price and the highest limits that reach a margin, proved.

use weir::margin::advise::{Advice, Question, advise};
use weir::margin::whatif::Changes;
use weir::margin::{Books, By};
use weir::money::Money;
use weir::plan::{Amount, Overage, OverageCharge};

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
    let by = By::Plan;
    let answer = what_if(&store, &books, &prices(), &changes, by, range, "2025-04-02");
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

/// A house whose members pay by themselves, all on one plan that charges for use beyond its quota: what a member uses
/// counts against the house's limit too, and every dollar that is not used may be a dollar that is not charged.
fn house() -> (Ledger, Books) {
    let prices = prices();
    let mut pro = plan("pro", "200.00");
    pro.overage = Some(Overage {
        above: Amount::Money(usd("500")),
        charge: OverageCharge::MarkupPpm(200_000),
    });
    let mut accounts = vec![account("house", "pro", "2025-02-11")];
    let mut entries = Vec::new();
    for number in 0..5_u64 {
        let id = format!("member-{number}");
        let mut member = account(&id, "pro", "2025-02-11");
        member.parent = Some("house".into());
        accounts.push(member);
        for day in 1..=31 {
            for hour in [3, 11, 17] {
                let moment = at(&format!("2025-03-{day:02}T{hour:02}:{number:02}:00Z"));
                let output = (number * number * 400 + 13) * 1_000;
                let usage = tokens(0, output);
                let mut entry = entry(&prices, &id, "pro", "gpt-4o", moment, usage);
                entry.lineage = vec!["house".into(), id.as_str().into()].into();
                entries.push(entry);
            }
        }
    }
    let books = Books::new([pro], accounts, &[], &[]).unwrap();
    (Ledger::new(entries, &[]), books)
}

#[test]
fn limits_are_found_where_what_they_save_is_not_simply_what_they_cut() {
    let (store, books) = house();
    let range = range("2025-03-01T09:30:00Z", "2025-03-31T09:30:00Z");
    let now = at("2025-04-02");
    for target_ppm in [-500_000, 0, 100_000, 300_000, 600_000, 900_000] {
        let question = Question {
            plan: "pro".into(),
            target_ppm,
            range,
        };
        let advice = advise(&*store, &books, &prices(), &question, now, &|_, _| {}).unwrap();
        assert!(!advice.reached);
        assert_eq!(advice.limits.len(), 3, "{target_ppm}: {:?}", advice.notes);
        for limit in advice.limits {
            let asked = |cap| {
                let changes = Changes {
                    limits: vec![cap],
                    ..Changes::default()
                };
                let by = By::Plan;
                let answer = what_if(&store, &books, &prices(), &changes, by, range, "2025-04-02");
                let total = answer.whatif.total;
                let wanted = total.revenue_usd.picos() * i128::from(target_ppm);
                total.margin_usd.picos() * 1_000_000 >= wanted
            };
            assert!(asked(limit.limit.clone()), "{}", limit.limit);
            let mut higher = limit.limit.clone();
            higher.max = match higher.max {
                Amount::Money(max) => Amount::Money(max + max.mul_ratio(1, 100).unwrap()),
                Amount::Count(max) => Amount::Count(max + max.div_ceil(100)),
            };
            assert!(!asked(higher), "{}", limit.limit);
        }
    }
}

#[test]
fn where_no_limit_reaches_the_target_the_reason_is_what_was_found() {
    let (store, _) = world();
    let mut pro = plan("pro", "200.00");
    pro.fixed_cost = usd("190.00");
    let accounts = (0..20).map(|number| {
        let id = format!("subscriber-{number:02}");
        account(&id, "pro", "2025-03-01")
    });
    let books = Books::new([pro], accounts, &[], &[]).unwrap();
    let question = Question {
        plan: "pro".into(),
        target_ppm: 300_000,
        range: range("2025-03-01", "2025-04-01"),
    };
    let now = at("2025-04-02");
    let advice = advise(&*store, &books, &prices(), &question, now, &|_, _| {}).unwrap();
    assert!(advice.limits.is_empty());
    // 20 accounts bring 10 dollars each beside their use.
    let why = "no limit on cost: even pro:cost=0.00/period leaves a margin of 5.0 %";
    assert!(
        advice.notes.iter().any(|note| note == why),
        "{:?}",
        advice.notes
    );
}

#[test]
fn where_fees_eat_every_price_the_reason_is_not_that_nobody_paid() {
    let (store, _) = world();
    let mut pro = plan("pro", "200.00");
    pro.payment_fee.ppm = 800_000;
    let books = Books::new([pro], [account("a", "pro", "2025-03-01")], &[], &[]).unwrap();
    let question = Question {
        plan: "pro".into(),
        target_ppm: 300_000,
        range: range("2025-03-01", "2025-04-01"),
    };
    let now = at("2025-04-02");
    let advice = advise(&*store, &books, &prices(), &question, now, &|_, _| {}).unwrap();
    assert_eq!(
        advice.notes[0],
        "no price reaches the target: payment fees leave a margin of 20.0 % at any price"
    );
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
