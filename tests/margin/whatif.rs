//! What-if: identity, maps, plan prices, limits, cache hits.

use weir::ledger::Entry;
use weir::ledger::store::Store as _;
use weir::margin::whatif::limits::Cap;
use weir::margin::whatif::spoken::price_table;
use weir::margin::whatif::{Changes, WhatIf, what_if};
use weir::margin::{Books, By};
use weir::money::Money;
use weir::price::{Above, PriceTable, Rates};
use weir::tokens::Usage;

use crate::ledger::Ledger;
use crate::world::*;

/// A heavy, a light and an idle subscriber in March 2025, and a team that pays nothing.
fn world() -> (Ledger, Books) {
    let prices = prices();
    let mut entries: Vec<Entry> = Vec::new();
    for day in 1..=30 {
        let moment = at(&format!("2025-03-{day:02}T09:15:00Z"));
        entries.push(entry(
            &prices,
            "heavy",
            "pro",
            "gpt-4o",
            moment,
            tokens(0, 2_000_000),
        ));
        if day % 10 == 0 {
            entries.push(entry(
                &prices,
                "light",
                "pro",
                "gpt-4o",
                moment,
                tokens(400_000, 0),
            ));
            entries.push(entry(
                &prices,
                "lab",
                "team",
                "mystery",
                moment,
                tokens(1_000, 10),
            ));
        }
    }
    let books = Books::new(
        [plan("pro", "200.00"), plan("team", "0")],
        [
            account("heavy", "pro", "2025-03-01"),
            account("light", "pro", "2025-03-01"),
            account("idle", "pro", "2025-03-01"),
            account("lab", "team", "2025-03-01"),
        ],
        &[],
        &[],
    )
    .unwrap();
    (Ledger::new(entries, &[]), books)
}

fn ask(changes: &Changes, by: By) -> WhatIf {
    let (store, books) = world();
    let range = range("2025-03-01", "2025-04-01");
    let now = at("2025-04-10");
    what_if(
        &*store,
        &books,
        &prices(),
        changes,
        by,
        range,
        now,
        &|_, _| {},
    )
    .unwrap()
}

fn limit(text: &str) -> Changes {
    Changes {
        limits: vec![text.parse::<Cap>().unwrap()],
        ..Changes::default()
    }
}

#[test]
fn without_a_change_it_is_what_happened() {
    let same = Changes {
        maps: vec!["gpt-4o=gpt-4o".parse().unwrap()],
        limits: vec!["pro:cost=1000000/month".parse().unwrap()],
        ..Changes::default()
    };
    for changes in [Changes::default(), same] {
        for by in [
            By::Plan,
            By::Account,
            By::Model,
            By::Key,
            By::Upstream,
            By::Tag,
            By::Day,
        ] {
            let answer = ask(&changes, by);
            assert_eq!(answer.actual, answer.whatif);
            assert_eq!(answer.difference_usd, Money::ZERO);
            assert_eq!(answer.touched_accounts, 0);
        }
    }
}

#[test]
fn another_plan_price_changes_revenue_and_touches_whoever_has_the_plan() {
    let changes = Changes {
        plan_prices: vec![("pro".into(), usd("250"))],
        ..Changes::default()
    };
    let answer = ask(&changes, By::Plan);
    assert_eq!(answer.difference_usd, usd("150"));
    assert_eq!(answer.touched_accounts, 3);
    assert_eq!(answer.touched_paying_accounts, 3);
    assert_eq!(row(&answer.whatif, "pro").revenue_usd, usd("750"));
}

#[test]
fn a_limit_serves_what_fits_and_says_whom_it_stops() {
    let answer = ask(&limit("pro:cost=150/period"), By::Account);
    // 20 dollars a day: the eighth day is served by half.
    assert_eq!(row(&answer.whatif, "heavy").cost_usd, usd("150"));
    assert_eq!(
        row(&answer.whatif, "light").cost_usd,
        row(&answer.actual, "light").cost_usd
    );
    assert_eq!(answer.difference_usd, usd("450"));
    assert_eq!(
        (answer.touched_accounts, answer.touched_paying_accounts),
        (1, 1)
    );
    assert_eq!(answer.stopped_accounts, 1);
    assert_eq!(answer.stopped[0].account, "heavy");
    assert_eq!(answer.stopped[0].first, at("2025-03-08"));
    assert_eq!(answer.stopped[0].saving_usd, usd("450"));
    // Whoever is stopped still asked: its requests are refused, not gone.
    let heavy = row(&answer.whatif, "heavy");
    assert_eq!((heavy.requests, heavy.outcomes[4]), (30, 23));
}

#[test]
fn requests_that_are_cut_one_by_one_add_up_to_what_the_limit_serves() {
    let prices = prices();
    let books = Books::new(
        [plan("pro", "200.00")],
        [account("heavy", "pro", "2025-03-01")],
        &[],
        &[],
    )
    .unwrap();
    // Ten an hour on two days; each is an entry of its own where tags are asked for, or within an hour.
    let mut entries: Vec<Entry> = Vec::new();
    for hour in ["03-01T09", "03-01T10", "03-02T09"] {
        for minute in 10..20 {
            let moment = at(&format!("2025-{hour}:{minute}:00Z"));
            let mut entry = entry(&prices, "heavy", "pro", "mystery", moment, tokens(1_000, 0));
            entry.retries = 2;
            entry.tags = vec![("minute".into(), minute.to_string().into())];
            entries.push(entry);
        }
    }
    let store = Ledger::new(entries, &[]);
    let ask = |text: &str, by: By, since: &str, until: &str| {
        let range = range(since, until);
        let now = at("2025-04-10");
        let changes = limit(text);
        let quiet = |_, _| {};
        let answer = what_if(&*store, &books, &prices, &changes, by, range, now, &quiet).unwrap();
        let total = answer.whatif.total;
        assert_eq!(total.unpriced_requests, total.outcomes[0]);
        (total.requests, total.outcomes[0], total.outcomes[4])
    };
    for by in [By::Tag, By::Plan] {
        let all = |text| ask(text, by, "2025-03-01", "2025-04-01");
        assert_eq!(all("pro:requests=7/hour"), (30, 21, 9));
        assert_eq!(all("pro:requests=7/day"), (30, 14, 16));
        assert_eq!(all("pro:requests=25/month"), (30, 25, 5));
        // Two and a half an hour: what is left of one hour's counts in the next.
        assert_eq!(all("pro:tokens=2500/hour"), (30, 7, 23));
    }
    let within = ask(
        "pro:requests=7/hour",
        By::Plan,
        "2025-03-01T09:05:00Z",
        "2025-03-01T09:55:00Z",
    );
    assert_eq!(within, (10, 7, 3));
}

#[test]
fn who_asks_while_the_ledger_is_read_is_not_touched_by_a_limit() {
    let (store, books) = world();
    let moment = at("2025-03-05T12:00:00Z");
    let late = entry(
        &prices(),
        "light",
        "pro",
        "gpt-4o",
        moment,
        tokens(1_000, 10),
    );
    let booked = std::sync::Once::new();
    // Of two readings the first is done.
    let between = |done: u64, all: u64| {
        if done * 2 >= all {
            booked.call_once(|| store.append(std::slice::from_ref(&late)).map(drop).unwrap());
        }
    };
    let answer = what_if(
        &*store,
        &books,
        &prices(),
        &limit("pro:cost=150/period"),
        By::Account,
        range("2025-03-01", "2025-04-01"),
        at("2025-04-10"),
        &between,
    )
    .unwrap();
    assert!(booked.is_completed());
    assert_eq!(answer.touched_accounts, 1);
    assert_eq!(row(&answer.actual, "light"), row(&answer.whatif, "light"));
}

#[test]
fn limits_hold_in_each_of_their_windows() {
    let cost_of_heavy = |text: &str| {
        let answer = ask(&limit(text), By::Account);
        row(&answer.whatif, "heavy").cost_usd
    };
    assert_eq!(cost_of_heavy("pro:cost=5/day"), usd("150"));
    assert_eq!(cost_of_heavy("pro:cost=5/hour"), usd("150"));
    // Weeks begin on Mondays: 1-2, 3-9, 10-16, 17-23, 24-30 March.
    assert_eq!(cost_of_heavy("pro:cost=60/week"), usd("280"));
    assert_eq!(cost_of_heavy("pro:tokens=1000000/day"), usd("300"));
    assert_eq!(cost_of_heavy("pro:requests=3/month"), usd("60"));
    // Any 48 hours hold at most 20 dollars: every other day.
    assert_eq!(cost_of_heavy("pro:cost=20/2d"), usd("300"));
    assert_eq!(cost_of_heavy("team:cost=0/month"), usd("600"));
}

#[test]
fn a_parent_s_limit_counts_what_its_children_use() {
    let prices = prices();
    let moment = |day: u32| at(&format!("2025-03-{day:02}T09:15:00Z"));
    let entries = (1..=10)
        .map(|day| {
            let mut entry = entry(
                &prices,
                "child",
                "free",
                "gpt-4o",
                moment(day),
                tokens(0, 1_000_000),
            );
            entry.lineage = vec!["parent".into(), "child".into()].into();
            entry
        })
        .collect();
    let books = Books::new(
        [plan("free", "0"), plan("team", "0")],
        [
            account("parent", "team", "2025-01-01"),
            account("child", "free", "2025-01-01"),
        ],
        &[],
        &[],
    )
    .unwrap();
    let store = Ledger::new(entries, &[]);
    let changes = limit("team:cost=35/month");
    let range = range("2025-03-01", "2025-04-01");
    let now = at("2025-04-01");
    let answer = what_if(
        &*store,
        &books,
        &prices,
        &changes,
        By::Account,
        range,
        now,
        &|_, _| {},
    )
    .unwrap();
    assert_eq!(answer.whatif.total.cost_usd, usd("35"));
}

#[test]
fn a_window_that_was_open_when_the_range_begins_is_already_filled() {
    let (store, books) = world();
    let changes = limit("pro:cost=150/month");
    let range = range("2025-03-05", "2025-04-01");
    let now = at("2025-04-10");
    let answer = what_if(
        &*store,
        &books,
        &prices(),
        &changes,
        By::Account,
        range,
        now,
        &|_, _| {},
    )
    .unwrap();
    // 80 dollars were gone before the 5th.
    assert_eq!(row(&answer.whatif, "heavy").cost_usd, usd("70"));
}

#[test]
fn more_cache_hits_are_priced_as_cache_reads() {
    let usage = Usage {
        input_tokens: 1_000_000,
        cache_write_input_tokens: 300_000,
        ..Usage::default()
    };
    let moment = at("2025-03-03T10:00:00Z");
    let entries = vec![entry(&prices(), "heavy", "pro", "gpt-4o", moment, usage)];
    let (_, books) = world();
    let store = Ledger::new(entries, &[]);
    let cost = |ppm| {
        let changes = Changes {
            cache_hit_ppm: Some(ppm),
            ..Changes::default()
        };
        let range = range("2025-03-01", "2025-04-01");
        let now = at("2025-04-10");
        what_if(
            &*store,
            &books,
            &prices(),
            &changes,
            By::Plan,
            range,
            now,
            &|_, _| {},
        )
        .unwrap()
        .whatif
        .total
        .cost_usd
    };
    assert_eq!(cost(0), usd("2.50"));
    assert_eq!(cost(600_000), usd("1.75"));
    // Writes stay: no more than the other 70 % can be read.
    assert_eq!(cost(900_000), usd("1.625"));
}

#[test]
fn unpriced_traffic_gets_a_price_by_a_map_and_an_unknown_target_is_refused() {
    let changes = Changes {
        maps: vec!["mystery=gpt-4o".parse().unwrap()],
        ..Changes::default()
    };
    let answer = ask(&changes, By::Plan);
    assert_eq!(answer.actual.total.unpriced_requests, 3);
    assert_eq!(answer.whatif.total.unpriced_requests, 0);
    assert_eq!(row(&answer.whatif, "team").cost_usd, usd("0.0078"));
    let (store, books) = world();
    let unknown = Changes {
        maps: vec!["gpt-4o=gpt-99".parse().unwrap()],
        ..Changes::default()
    };
    let range = range("2025-03-01", "2025-04-01");
    let refused = what_if(
        &*store,
        &books,
        &prices(),
        &unknown,
        By::Plan,
        range,
        at("2025-04-10"),
        &|_, _| {},
    );
    assert!(refused.unwrap_err().to_string().contains("gpt-99"));
}

#[test]
fn another_upstream_s_prices_hold_for_the_models_that_they_name() {
    let other = price_table(
        "offer.toml",
        "[[models]]\nmodel = \"gpt-4o\"\n\
         [[models.prices]]\nfrom = 2024-01-01\ninput = \"2.00\"\noutput = \"8.00\"\nsource = \"an offer\"\n\
         [[models.prices]]\nfrom = 2025-03-21\ninput = \"1.00\"\noutput = \"4.00\"\nsource = \"an offer\"\n\
         [[models]]\nmodel = \"house\"\n\
         [[models.prices]]\nfrom = 2024-01-01\ninput = \"1.00\"\noutput = \"1.00\"\nsource = \"an offer\"\n",
    )
    .unwrap();
    let mut changes = Changes {
        price_table: Some(other),
        ..Changes::default()
    };
    let answer = ask(&changes, By::Account);
    // 20 days of 2,000,000 tokens at 8 dollars and 10 at 4; the 30 days were 600 dollars.
    assert_eq!(row(&answer.actual, "heavy").cost_usd, usd("600"));
    assert_eq!(row(&answer.whatif, "heavy").cost_usd, usd("400"));
    // 400,000 tokens on the 10th, the 20th and the 30th.
    assert_eq!(row(&answer.whatif, "light").cost_usd, usd("2"));
    // What it does not name stays as it is, unpriced as it was.
    assert_eq!(answer.whatif.total.unpriced_requests, 3);
    assert_eq!(answer.touched_accounts, 2);
    assert!(answer.notes.is_empty(), "{:?}", answer.notes);
    // A map leads to its prices too.
    changes.maps = vec!["mystery=house".parse().unwrap()];
    let answer = ask(&changes, By::Account);
    assert_eq!(row(&answer.whatif, "lab").cost_usd, usd("0.00303"));
}

#[test]
fn a_price_table_that_names_no_recorded_model_says_so() {
    let other = price_table(
        "offer.toml",
        "[[models]]\nmodel = \"elsewhere\"\n\
         [[models.prices]]\nfrom = 2024-01-01\ninput = \"2.00\"\nsource = \"an offer\"\n",
    )
    .unwrap();
    let changes = Changes {
        price_table: Some(other),
        ..Changes::default()
    };
    let answer = ask(&changes, By::Plan);
    assert_eq!(answer.actual, answer.whatif);
    assert!(
        answer.notes[0].contains("prices no model"),
        "{:?}",
        answer.notes
    );
    let wrong = price_table("offer.toml", "[[models]]\nmodel = 7\n").unwrap_err();
    assert!(wrong.to_string().contains("offer.toml:2:9"), "{wrong}");
}

#[test]
fn a_threshold_within_a_band_of_the_ledger_s_sums_is_held_against_the_average_request() {
    let mut target = model("tiered", &[("2024-01-01", "1", "1", "1")]);
    target.rows[0].above = vec![Above {
        input_tokens: 32_000,
        rates: Rates {
            input: Some(Money::parse_per_million("10").unwrap()),
            ..Rates::default()
        },
    }];
    let own = model("gpt-4o", &[("2024-01-01", "2", "2", "2")]);
    let prices = PriceTable::new([own, target]);
    let (_, books) = world();
    let changes = Changes {
        maps: vec!["gpt-4o=tiered".parse().unwrap()],
        ..Changes::default()
    };
    let cost = |each: &[u64]| {
        let entries = each.iter().map(|input| {
            let moment = at("2025-03-03T10:00:00Z");
            entry(&prices, "heavy", "pro", "gpt-4o", moment, tokens(*input, 0))
        });
        let store = Ledger::new(entries.collect(), &[]);
        let range = range("2025-03-01", "2025-04-01");
        let now = at("2025-04-10");
        let answer = what_if(
            &*store,
            &books,
            &prices,
            &changes,
            By::Plan,
            range,
            now,
            &|_, _| {},
        );
        let answer = answer.unwrap();
        (answer.whatif.total.cost_usd, answer.notes)
    };
    let (small, notes) = cost(&[1_000, 3_000]);
    assert_eq!(small, usd("0.004"));
    assert!(
        notes.len() == 1 && notes[0].contains("above 32000 input tokens"),
        "{notes:?}"
    );
    assert_eq!(cost(&[60_000, 20_000]).0, usd("0.8"));
    // Half a token above the threshold, on average.
    assert_eq!(cost(&[32_000, 32_001]).0, usd("0.64001"));
    // In another band there is nothing to guess.
    assert_eq!(cost(&[150_000]), (usd("1.5"), Vec::new()));
}

#[test]
fn a_map_that_maps_nothing_says_so() {
    let changes = |maps: &[&str]| Changes {
        maps: maps.iter().map(|map| map.parse().unwrap()).collect(),
        ..Changes::default()
    };
    let notes = |maps: &[&str]| ask(&changes(maps), By::Plan).notes;
    assert_eq!(notes(&["gpt-4o=o3-mini"]), Vec::<String>::new());
    assert_eq!(
        notes(&["nope=gpt-4o"]),
        ["the map nope=gpt-4o changes nothing: the recorded traffic has no model nope"]
    );
    assert_eq!(
        notes(&["gpt-4o=o3-mini", "gpt-4o=gpt-3.5-turbo"]),
        ["the map gpt-4o=gpt-3.5-turbo changes nothing: an earlier map takes the same traffic"]
    );
    // What a limit looks back at is not in the range.
    let (store, books) = world();
    let mut before = changes(&["gpt-4o=o3-mini"]);
    before.limits = vec!["pro:cost=1000000/month".parse().unwrap()];
    let answer = what_if(
        &*store,
        &books,
        &prices(),
        &before,
        By::Plan,
        range("2025-03-31", "2025-04-01"),
        at("2025-04-10"),
        &|_, _| {},
    );
    assert_eq!(answer.unwrap().notes.len(), 1);
}
