//! Limits that plans would have had.

use weir::ledger::store::Store as _;
use weir::margin::whatif::limits::Cap;

use super::*;

fn limit(text: &str) -> Changes {
    Changes {
        limits: vec![text.parse::<Cap>().unwrap()],
        ..Changes::default()
    }
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
        let (range, changes) = (range(since, until), limit(text));
        let answer = what_if(&store, &books, &prices, &changes, by, range, "2025-04-10");
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
    let answer = weir::margin::what_if(
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
    let answer = asked(&store, &books, &changes, By::Account);
    assert_eq!(answer.whatif.total.cost_usd, usd("35"));
}

#[test]
fn a_window_that_was_open_when_the_range_begins_is_already_filled() {
    let (store, books) = world();
    let changes = limit("pro:cost=150/month");
    let range = range("2025-03-05", "2025-04-01");
    let by = By::Account;
    let answer = what_if(&store, &books, &prices(), &changes, by, range, "2025-04-10");
    // 80 dollars were gone before the 5th.
    assert_eq!(row(&answer.whatif, "heavy").cost_usd, usd("70"));
}
