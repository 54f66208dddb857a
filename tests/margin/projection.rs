//! Projections: from each account's own rate and spread.

use weir::margin::{Books, By};
use weir::money::Money;

use crate::ledger::Ledger;
use crate::world::*;

/// Costs of so many dollars at noon on each day of March 2025.
fn world(costs: &[(&str, &[u64])]) -> (Ledger, Books) {
    let prices = prices();
    let mut entries = Vec::new();
    for (id, dollars) in costs {
        for (day, dollars) in (1..).zip(*dollars) {
            let moment = at(&format!("2025-03-{day:02}T12:00:00Z"));
            let output = dollars * 100_000;
            entries.push(entry(
                &prices,
                id,
                "pro",
                "gpt-4o",
                moment,
                tokens(0, output),
            ));
        }
    }
    let accounts: Vec<_> = costs
        .iter()
        .map(|(id, _)| account(id, "pro", "2025-03-01"))
        .collect();
    let books = Books::new([plan("pro", "310.00")], accounts, &[], &[]).unwrap();
    (Ledger::new(entries, &[]), books)
}

fn assert_close(actual: Money, expected: f64) {
    let difference = actual.to_f64() - expected;
    assert!(difference.abs() < 0.01, "{actual} is not {expected}");
}

#[test]
fn the_range_comes_from_each_account_s_own_days() {
    let uneven: Vec<u64> = (0..14).map(|day| 10 + 10 * (day % 2)).collect();
    let even = [5; 14];
    let (store, books) = world(&[("uneven", &uneven), ("even", &even)]);
    let range = range("2025-03-01", "2025-03-15");
    let of = |by| report(&store, &books, by, range, "2025-03-15");
    let accounts = of(By::Account);
    let days = 17.0;
    let even = &row(&accounts, "even").projected;
    assert_close(even.cost_usd, 5.0 * 31.0);
    assert_eq!(even.low_usd, even.high_usd, "no spread");
    let uneven = &row(&accounts, "uneven").projected;
    assert_close(uneven.cost_usd, 15.0 * 31.0);
    assert_close(uneven.margin_usd, 310.0 - 15.0 * 31.0);
    // Seven days lie 5 above the mean and seven 5 below.
    let variance = 14.0 * 25.0 / 13.0;
    let spread = 1.645 * f64::sqrt(variance * (days + days * days / 14.0));
    assert_close(uneven.high_usd - uneven.margin_usd, spread);
    assert_close(uneven.margin_usd - uneven.low_usd, spread);
    // The plan's range is the accounts' together: one of them does not stray at all.
    let plan = &of(By::Plan).total.projected;
    assert_close(plan.margin_usd - plan.low_usd, spread);
    assert_close(plan.cost_usd, 20.0 * 31.0);
    assert_close(of(By::Model).rows[0].projected.cost_usd, 20.0 * 31.0);
}

#[test]
fn only_the_last_fourteen_days_make_the_rate() {
    let grown: Vec<u64> = std::iter::repeat_n(1, 6)
        .chain(std::iter::repeat_n(30, 14))
        .collect();
    let (store, books) = world(&[("grown", &grown)]);
    let range = range("2025-03-01", "2025-03-21");
    let report = report(&store, &books, By::Account, range, "2025-03-21");
    let expected = 6.0 + 30.0 * 14.0 + 30.0 * 11.0;
    assert_close(row(&report, "grown").projected.cost_usd, expected);
}

#[test]
fn an_account_of_one_day_has_a_wide_range_and_costs_no_less_than_it_has() {
    let (store, books) = world(&[("new", &[8])]);
    let range = range("2025-03-01", "2025-03-02");
    let report = report(&store, &books, By::Account, range, "2025-03-02");
    let new = row(&report, "new");
    assert_close(new.projected.cost_usd, 8.0 * 31.0);
    assert!(new.projected.low_usd < new.projected.margin_usd);
    // At best nothing more is used.
    assert_eq!(new.projected.high_usd, usd("302"));
}

#[test]
fn a_range_that_ends_with_its_month_is_projected_as_it_was() {
    let (store, books) = world(&[("a", &[8; 31])]);
    let range = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, range, "2025-06-01");
    let total = report.total;
    assert_eq!(total.projected.margin_usd, total.margin_usd);
    assert_eq!(total.projected.low_usd, total.projected.high_usd);
    assert!(total.projected.method.contains("as it was"));
}

#[test]
fn a_closed_account_costs_no_more() {
    let (store, _) = world(&[("gone", &[8; 10])]);
    let mut gone = account("gone", "pro", "2025-03-01");
    gone.until = Some(day("2025-03-11"));
    let books = Books::new([plan("pro", "310.00")], [gone], &[], &[]).unwrap();
    let range = range("2025-03-01", "2025-03-21");
    let report = report(&store, &books, By::Account, range, "2025-03-21");
    let gone = row(&report, "gone");
    assert_eq!(gone.revenue_usd, usd("100"));
    assert_eq!(gone.projected.cost_usd, usd("80"));
    assert_eq!(gone.projected.revenue_usd, usd("100"));
}

#[test]
fn use_is_concentrated_where_one_account_has_most_of_it() {
    let mut costs: Vec<(String, Vec<u64>)> =
        (0..20).map(|n| (format!("a{n:02}"), vec![1])).collect();
    costs[0].1 = vec![81];
    let borrowed: Vec<(&str, &[u64])> = costs
        .iter()
        .map(|(id, days)| (id.as_str(), days.as_slice()))
        .collect();
    let (store, books) = world(&borrowed);
    let range = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, range, "2025-04-01");
    let total = report.total;
    let shares = total.concentration.unwrap();
    assert_eq!(shares.top_5_percent.as_deref(), Some("0.8100"));
    assert_eq!(shares.top_10_percent.as_deref(), Some("0.8200"));
    // Nineteen accounts of 1 and one of 81: (81 x 19 - 1 x 19) / (20 x 100).
    assert_eq!(shares.gini.as_deref(), Some("0.7600"));
    // 20 x 310 of revenue: what is left over is breakage, nobody loses.
    assert_eq!(total.breakage_usd, usd("6100"));
    assert_eq!(total.losses_usd, Money::ZERO);
}
