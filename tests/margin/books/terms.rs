//! Plans whose terms change: a new price holds from its moment on, and past figures stay.

use weir::ledger::store::PlanEvent;
use weir::margin::PlanHistory;

use super::*;

/// Terms that hold from a moment on.
pub(super) fn from(moment: &str, terms: Plan) -> PlanEvent {
    PlanEvent {
        at: at(moment),
        terms,
    }
}

pub(super) fn with_history(plan: Plan, terms: &[PlanEvent]) -> Books {
    Books::new(
        PlanHistory::of([plan], terms.iter().cloned().collect()),
        [account("a", "pro", "2025-03-01")],
        &[],
        &[],
    )
    .unwrap()
}

#[test]
fn a_new_price_holds_from_its_moment_on_and_past_figures_stay() {
    let terms = [
        from("2025-02-10", plan("pro", "310.00")),
        from("2025-03-11T12:00:00Z", plan("pro", "620.00")),
        // Recorded again by another gateway: says nothing new.
        from("2025-03-12", plan("pro", "620.00")),
    ];
    let old = with_history(plan("pro", "310.00"), &terms[..1]);
    let new = with_history(plan("pro", "620.00"), &terms);
    // What was reported before the change is reported after it.
    let before = ("2025-03-01", "2025-03-11T12:00:00Z");
    assert_eq!(revenue(&old, before.0, before.1), usd("105"));
    assert_eq!(revenue(&new, before.0, before.1), usd("105"));
    // By the second from then on: 20.5 days at 20 dollars.
    assert_eq!(
        revenue(&new, "2025-03-11T12:00:00Z", "2025-04-01"),
        usd("410")
    );
    assert_eq!(revenue(&new, "2025-03-01", "2025-04-01"), usd("515"));
    let second = revenue(&new, "2025-03-11T11:59:59Z", "2025-03-11T12:00:01Z");
    // Half a day is 5 or 10 dollars: a second is a 43,200th part of them.
    assert!(
        (second - usd("0.000347222222")).picos().abs() <= 2,
        "{second}"
    );
    // A month that was over stays as it was, one to come is wholly at the new price.
    assert_eq!(revenue(&new, "2025-04-01", "2025-05-01"), usd("620"));
}

#[test]
fn terms_that_nobody_recorded_have_always_held_and_others_do_not_hold_yet() {
    let never_recorded = with_history(plan("pro", "310.00"), &[]);
    assert_eq!(
        revenue(&never_recorded, "2025-03-01", "2025-03-02"),
        usd("10")
    );
    // The file says 620 dollars, and no gateway has taken that into force.
    let terms = [from("2025-03-10", plan("pro", "310.00"))];
    let not_yet = with_history(plan("pro", "620.00"), &terms);
    assert_eq!(revenue(&not_yet, "2025-03-01", "2025-04-01"), usd("310"));
}

#[test]
fn a_plan_that_is_no_more_keeps_what_it_earned() {
    let terms = [from("2025-02-10", plan("pro", "310.00"))];
    let books = with_history(plan("other", "1.00"), &terms);
    assert_eq!(revenue(&books, "2025-03-01", "2025-03-11"), usd("100"));
    assert!(books.notes().is_empty(), "{:?}", books.notes());
}

#[test]
fn a_new_price_is_not_paid_for_twice_in_one_period() {
    let fee = |price: &str| Plan {
        payment_fee: PaymentFee {
            ppm: 100_000,
            fixed: usd("1"),
        },
        ..plan("pro", price)
    };
    let terms = [
        from("2025-02-10", fee("310.00")),
        from("2025-03-11", fee("620.00")),
    ];
    let books = with_history(fee("620.00"), &terms);
    let store = Ledger::default();
    let fees = |since, until| {
        let report = report(&store, &books, By::Plan, range(since, until), "2026-01-01");
        report.total.cost.payment_fee
    };
    assert_eq!(fees("2025-03-01", "2025-04-01"), usd("32"));
    assert_eq!(fees("2025-04-01", "2025-05-01"), usd("63"));
}
