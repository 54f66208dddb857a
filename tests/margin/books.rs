//! Revenue: by the second, through plan changes, refunds, trials, fees, currencies and overage.

mod overage;
mod terms;

use weir::config::{Currency, ExchangeRate};
use weir::ledger::store::AccountChange;
use weir::margin::{Books, By, MarginError};
use weir::money::Money;
use weir::plan::{PaymentFee, Period, Plan};

use crate::ledger::Ledger;
use crate::world::*;

fn books(
    plans: Vec<Plan>,
    accounts: Vec<weir::plan::Account>,
    events: &[weir::ledger::store::AccountEvent],
) -> Books {
    Books::new(plans, accounts, events, &[]).unwrap()
}

fn revenue(books: &Books, since: &str, until: &str) -> Money {
    let store = Ledger::default();
    report(&store, books, By::Plan, range(since, until), "2026-01-01")
        .total
        .revenue_usd
}

#[test]
fn a_price_is_earned_by_the_second_and_adds_up_to_the_price() {
    let books = books(
        vec![plan("pro", "200.00")],
        vec![account("a", "pro", "2025-01-31")],
        &[],
    );
    // The period from 28 February to 31 March has 31 days.
    assert_eq!(revenue(&books, "2025-02-28", "2025-03-31"), usd("200"));
    let one_second = revenue(&books, "2025-03-01T00:00:00Z", "2025-03-01T00:00:01Z");
    assert!(
        (one_second - usd("0.000074671445")).picos().abs() <= 1,
        "{one_second}"
    );
    let cuts = [
        "2025-02-28",
        "2025-03-03T04:05:06.789Z",
        "2025-03-11T11:11:11Z",
        "2025-03-30T23:59:59.999Z",
        "2025-03-31",
    ];
    let parts: Money = cuts
        .windows(2)
        .map(|cut| revenue(&books, cut[0], cut[1]))
        .sum();
    assert_eq!(parts, usd("200"));
}

#[test]
fn revenue_is_recognised_up_to_now_and_what_lies_ahead_is_projected() {
    let books = books(
        vec![plan("pro", "310.00")],
        vec![account("a", "pro", "2025-03-01")],
        &[],
    );
    let store = Ledger::default();
    let whole = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, whole, "2025-03-11");
    assert_eq!(report.total.revenue_usd, usd("100"));
    assert_eq!(report.total.projected.revenue_usd, usd("310"));
    assert_eq!(report.total.projected.until, at("2025-04-01"));
}

#[test]
fn a_change_of_plan_splits_the_period_by_time() {
    let books = books(
        vec![plan("plus", "31.00"), plan("pro", "310.00")],
        vec![account("a", "pro", "2025-03-01")],
        &[
            event("a", "2025-03-01", on_plan("plus", "2025-03-01")),
            event("a", "2025-03-11T12:00:00Z", on_plan("pro", "2025-03-01")),
            // Recorded again when the gateway starts: says nothing new.
            event("a", "2025-03-20", on_plan("pro", "2025-03-01")),
        ],
    );
    let store = Ledger::default();
    let march = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, march, "2025-05-01");
    assert_eq!(row(&report, "plus").revenue_usd, usd("10.50"));
    assert_eq!(row(&report, "pro").revenue_usd, usd("205.00"));
    assert_eq!(report.total.revenue_usd, usd("215.50"));
    assert_eq!(report.total.accounts, 1);
}

#[test]
fn refunds_count_when_they_are_made_and_a_closed_account_earns_nothing() {
    let books = books(
        vec![plan("pro", "310.00")],
        vec![account("a", "pro", "2025-03-01")],
        &[
            event("a", "2025-03-01", on_plan("pro", "2025-03-01")),
            event("a", "2025-03-05", AccountChange::Refund(usd("50"))),
            event("a", "2025-03-21", AccountChange::Closed),
        ],
    );
    assert_eq!(revenue(&books, "2025-03-01", "2025-03-05"), usd("40"));
    assert_eq!(revenue(&books, "2025-03-05", "2025-03-06"), usd("-40"));
    assert_eq!(revenue(&books, "2025-03-01", "2025-04-01"), usd("150"));
    assert_eq!(revenue(&books, "2025-04-01", "2025-06-01"), Money::ZERO);
}

#[test]
fn an_account_that_left_its_file_keeps_what_it_paid_until_then() {
    let books = books(
        vec![plan("pro", "310.00")],
        vec![account("stays", "pro", "2025-03-01")],
        &[
            event("left", "2025-03-01", on_plan("pro", "2025-03-01")),
            event("left", "2025-03-05", AccountChange::Refund(usd("5"))),
            event("left", "2025-03-21", AccountChange::Closed),
            event("lost", "2025-03-01", on_plan("pro", "2025-03-01")),
        ],
    );
    let store = Ledger::default();
    let march = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Account, march, "2025-05-01");
    assert_eq!(row(&report, "stays").revenue_usd, usd("310"));
    assert_eq!(row(&report, "left").revenue_usd, usd("195"));
    assert_eq!(report.total.revenue_usd, usd("505"));
    // Nobody saw when this one ended: the reader is told.
    let [note] = &report.notes[..] else {
        panic!("{:?}", report.notes)
    };
    assert!(
        note.starts_with("account lost is no longer configured"),
        "{note}"
    );
}

#[test]
fn a_refund_counts_whatever_became_of_the_account_s_plan() {
    // Made, paid back and closed on one day: no time was earned, and the money has gone all the same.
    let mut left = account("left", "pro", "2025-03-05");
    left.until = Some(day("2025-03-05"));
    let books = books(
        vec![plan("pro", "310.00")],
        vec![left, account("old", "gone", "2025-03-01")],
        &[
            event("left", "2025-03-05", on_plan("pro", "2025-03-05")),
            event(
                "left",
                "2025-03-05T09:00:00Z",
                AccountChange::Refund(usd("20")),
            ),
            event("left", "2025-03-05T09:01:00Z", AccountChange::Closed),
            // Its plan no longer exists.
            event("old", "2025-03-05", AccountChange::Refund(usd("3"))),
        ],
    );
    let store = Ledger::default();
    let march = range("2025-03-01", "2025-04-01");
    for (by, left, old) in [
        (By::Account, "left", "old"),
        (By::Plan, "pro", "gone"),
        (By::Day, "2025-03-05", "2025-03-05"),
    ] {
        let report = report(&store, &books, by, march, "2025-05-01");
        assert_eq!(report.total.revenue_usd, usd("-23"), "{by:?}");
        if by != By::Day {
            assert_eq!(row(&report, left).revenue_usd, usd("-20"));
            assert_eq!(row(&report, old).revenue_usd, usd("-3"));
        } else {
            assert_eq!(row(&report, left).revenue_usd, usd("-23"));
        }
    }
    let by_model = report(&store, &books, By::Model, march, "2025-05-01");
    assert_eq!(by_model.unallocated.unwrap().revenue_usd, usd("-23"));
}

#[test]
fn trial_days_earn_nothing_and_the_payment_after_them_is_for_the_rest() {
    let mut pro = plan("pro", "310.00");
    pro.trial_days = 10;
    pro.payment_fee = PaymentFee {
        ppm: 29_000,
        fixed: usd("0.30"),
    };
    pro.fixed_cost = usd("31.00");
    let books = books(vec![pro], vec![account("a", "pro", "2025-03-01")], &[]);
    let store = Ledger::default();
    let figures = |since, until| {
        let report = report(&store, &books, By::Plan, range(since, until), "2026-01-01");
        let row = report.total;
        (row.revenue_usd, row.cost.fixed, row.cost.payment_fee)
    };
    assert_eq!(
        figures("2025-03-01", "2025-03-11"),
        (Money::ZERO, usd("10"), Money::ZERO)
    );
    // 210 dollars are paid on the 11th; 2.9 % of it and 30 cents stay with the payment provider.
    assert_eq!(
        figures("2025-03-11", "2025-04-01"),
        (usd("210"), usd("21"), usd("6.39"))
    );
    assert_eq!(
        figures("2025-04-01", "2025-05-01"),
        (usd("310"), usd("31"), usd("9.29"))
    );
}

#[test]
fn prices_in_another_currency_are_worth_what_they_were_when_the_period_began() {
    let mut plan = plan("euro", "100.00");
    plan.currency = "EUR".into();
    let rate = |from: &str, rate: &str| ExchangeRate {
        from: day(from),
        usd: usd(rate),
    };
    let euro = Currency {
        code: "EUR".into(),
        rates: vec![rate("2025-01-01", "1.04"), rate("2025-03-15", "1.09")],
    };
    let accounts = || vec![account("a", "euro", "2025-03-01")];
    let books = Books::new(vec![plan.clone()], accounts(), &[], &[euro]).unwrap();
    assert_eq!(revenue(&books, "2025-03-01", "2025-04-01"), usd("104"));
    assert_eq!(revenue(&books, "2025-04-01", "2025-05-01"), usd("109"));
    let unknown = Books::new(vec![plan], accounts(), &[], &[]);
    assert!(matches!(unknown, Err(MarginError::NoRate { .. })));
}

#[test]
fn weeks_days_and_years_are_periods_too() {
    for (period, price, since, until, earned) in [
        (Period::Day, "1.00", "2025-03-01", "2025-03-31", "30"),
        (Period::Week, "7.00", "2025-03-01", "2025-03-31", "30"),
        (Period::Year, "365.00", "2025-03-01", "2025-03-31", "30"),
    ] {
        let mut plan = plan("p", price);
        plan.period = period;
        let books = books(vec![plan], vec![account("a", "p", "2025-03-01")], &[]);
        assert_eq!(revenue(&books, since, until), usd(earned), "{period:?}");
    }
}

#[test]
fn the_table_sets_the_cost_of_use_beside_what_use_may_cost() {
    let prices = prices();
    let mut pro = plan("pro", "310.00");
    pro.fixed_cost = usd("62.00");
    let books = books(vec![pro], vec![account("a", "pro", "2025-03-01")], &[]);
    // 250 dollars of use and 62 of fixed cost are more than 248, and use alone is not yet, on the 20th.
    let moment = at("2025-03-19T12:00:00Z");
    let used = entry(&prices, "a", "pro", "gpt-4o", moment, tokens(80_000_000, 0));
    let store = Ledger::new(vec![used], &[]);
    let march = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, march, "2025-03-20");
    let table = weir::margin::table(&report);
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let line = |start: &str| {
        let found = table
            .lines()
            .find(|line| line.trim_start().starts_with(start));
        cells(found.unwrap())
    };
    let (head, figures) = (line("plan"), line("pro"));
    let figure = |column: &str| {
        let place = head.iter().position(|name| name == column);
        figures[place.unwrap()].clone()
    };
    assert_eq!(figure("cost $"), "238.00");
    assert_eq!(figure("of it use $"), "200.00");
    assert_eq!(figure("use may cost $"), "248.00");
}
