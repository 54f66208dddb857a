//! What-if: identity, maps, plan prices, limits, cache hits.

mod limits;

use weir::ledger::Entry;
use weir::margin::whatif::spoken::price_table;
use weir::margin::whatif::{Changes, WhatIf};
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
    asked(&store, &books, changes, by)
}

/// Of March.
fn asked(store: &Ledger, books: &Books, changes: &Changes, by: By) -> WhatIf {
    let march = range("2025-03-01", "2025-04-01");
    what_if(store, books, &prices(), changes, by, march, "2025-04-10")
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
        asked(&store, &books, &changes, By::Plan)
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
    let refused = weir::margin::what_if(
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
        let by = By::Plan;
        let answer = what_if(&store, &books, &prices, &changes, by, range, "2025-04-10");
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
    let range = range("2025-03-31", "2025-04-01");
    let by = By::Plan;
    let answer = what_if(&store, &books, &prices(), &before, by, range, "2025-04-10");
    assert_eq!(answer.notes.len(), 1);
}
