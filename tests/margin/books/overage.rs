//! What is used beyond the quota is charged.

use weir::ledger::Entry;
use weir::plan::{Amount, Overage, OverageCharge};

use super::terms::{from, with_history};
use super::*;

/// Use worth 25 dollars on a day of March.
fn used(day: &str) -> Entry {
    used_at(&format!("2025-03-{day}T10:00:00Z"))
}

fn used_at(moment: &str) -> Entry {
    let (moment, usage) = (at(moment), tokens(10_000_000, 0));
    entry(&prices(), "a", "pro", "gpt-4o", moment, usage)
}

#[test]
fn what_is_used_beyond_the_quota_is_charged() {
    // The first before the report begins.
    let store = Ledger::new(vec![used("02"), used("12"), used("22")], &[]);
    let earned = |above, charge, since, until| {
        let mut plan = plan("pro", "0");
        plan.overage = Some(Overage { above, charge });
        let books = books(vec![plan], vec![account("a", "pro", "2025-03-01")], &[]);
        report(&store, &books, By::Plan, range(since, until), "2026-01-01")
            .total
            .revenue_usd
    };
    let markup = OverageCharge::MarkupPpm(1_200_000);
    let above = Amount::Money(usd("30"));
    assert_eq!(earned(above, markup, "2025-03-01", "2025-04-01"), usd("54"));
    assert_eq!(earned(above, markup, "2025-03-10", "2025-03-20"), usd("24"));
    assert_eq!(earned(above, markup, "2025-03-20", "2025-04-01"), usd("30"));
    assert_eq!(
        earned(above, markup, "2025-04-01", "2025-05-01"),
        Money::ZERO
    );
    let token = OverageCharge::PerToken(usd("0.000001"));
    let above = Amount::Count(25_000_000);
    assert_eq!(earned(above, token, "2025-03-01", "2025-04-01"), usd("5"));
}

#[test]
fn other_terms_of_overage_charge_what_is_used_from_then_on() {
    // Overage begins on the 15th, above 30 dollars of the whole period.
    let store = Ledger::new(vec![used("02"), used("12"), used("22")], &[]);
    let charging = Plan {
        overage: Some(Overage {
            above: Amount::Money(usd("30")),
            charge: OverageCharge::MarkupPpm(1_200_000),
        }),
        ..plan("pro", "0")
    };
    let terms = [
        from("2025-02-10", plan("pro", "0")),
        from("2025-03-15", charging.clone()),
    ];
    let books = with_history(charging, &terms);
    let earned = |since, until| {
        report(&store, &books, By::Plan, range(since, until), "2026-01-01")
            .total
            .revenue_usd
    };
    assert_eq!(earned("2025-03-01", "2025-04-01"), usd("30"));
    assert_eq!(earned("2025-03-14", "2025-04-01"), usd("30"));
    assert_eq!(earned("2025-03-01", "2025-03-15"), Money::ZERO);
}

#[test]
fn overage_of_a_period_with_two_spells_on_the_plan_is_charged_once() {
    let store = Ledger::new(vec![used("02"), used("22")], &[]);
    let charging = Plan {
        overage: Some(Overage {
            above: Amount::Money(usd("30")),
            charge: OverageCharge::MarkupPpm(1_000_000),
        }),
        ..plan("pro", "0")
    };
    let books = books(
        vec![charging, plan("free", "0")],
        vec![account("a", "pro", "2025-03-01")],
        &[
            event("a", "2025-03-01", on_plan("pro", "2025-03-01")),
            event("a", "2025-03-10", on_plan("free", "2025-03-01")),
            event("a", "2025-03-20", on_plan("pro", "2025-03-01")),
        ],
    );
    let report = report(
        &store,
        &books,
        By::Plan,
        range("2025-03-01", "2025-04-01"),
        "2026-01-01",
    );
    assert_eq!(report.total.revenue_usd, usd("20"));
}

#[test]
fn overage_counts_what_is_used_on_the_day_on_which_a_plan_begins() {
    let used = vec![
        used_at("2025-03-10T12:00:00Z"),
        used_at("2025-03-10T13:00:00Z"),
    ];
    let store = Ledger::new(used, &[]);
    let charging = Plan {
        overage: Some(Overage {
            above: Amount::Money(usd("30")),
            charge: OverageCharge::MarkupPpm(1_000_000),
        }),
        ..plan("pro", "0")
    };
    let mut change = event("a", "2025-03-10", on_plan("pro", "2025-03-01"));
    change.at = at("2025-03-10T10:00:00Z");
    let books = books(
        vec![charging, plan("free", "0")],
        vec![account("a", "pro", "2025-03-01")],
        &[
            event("a", "2025-03-01", on_plan("free", "2025-03-01")),
            change,
        ],
    );
    for range in [
        range("2025-03-01", "2025-04-01"),
        range("2025-03-10", "2025-03-11"),
        range("2025-03-01", "2025-03-11"),
    ] {
        let report = report(&store, &books, By::Plan, range, "2026-01-01");
        assert_eq!(report.total.revenue_usd, usd("20"));
    }
}
