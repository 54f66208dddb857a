//! The cases that made headlines, by name.

use weir::margin::whatif::{Changes, WhatIf};
use weir::margin::{Books, By};
use weir::money::Money;
use weir::plan::Plan;
use weir::tokens::Usage;

use crate::ledger::Ledger;
use crate::world::*;

fn march(plan: Plan, entries: Vec<weir::ledger::Entry>) -> (Ledger, Books) {
    let account = account("subscriber", plan.id.as_str(), "2025-03-01");
    let books = Books::new([plan], [account], &[], &[]).unwrap();
    (Ledger::new(entries, &[]), books)
}

/// Thirty dollars of GPT-4o output on each of the first so many days of March 2025.
fn days_at_thirty_dollars(plan: &str, days: u32) -> Vec<weir::ledger::Entry> {
    let prices = prices();
    (1..=days)
        .map(|day| {
            let moment = at(&format!("2025-03-{day:02}T12:00:00Z"));
            entry(
                &prices,
                "subscriber",
                plan,
                "gpt-4o",
                moment,
                tokens(0, 3_000_000),
            )
        })
        .collect()
}

#[test]
fn an_openai_pro_subscriber_at_200_dollars_who_costs_900_loses_exactly_700() {
    let (store, books) = march(plan("pro", "200.00"), days_at_thirty_dollars("pro", 30));
    let range = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Account, range, "2025-04-01");
    let pro = row(&report, "subscriber");
    assert_eq!(pro.revenue_usd.to_string(), "200.00");
    assert_eq!(pro.cost_usd.to_string(), "900.00");
    assert_eq!(pro.margin_usd.to_string(), "-700.00");
    assert_eq!(pro.margin_ratio.as_deref(), Some("-3.5000"));
    assert_eq!(pro.projected.margin_usd.to_string(), "-700.00");
    // 200 dollars are gone on the seventh day, at 30 a day; they pay for 20 million of the 90 million tokens.
    assert_eq!(pro.break_even.date, Some(day("2025-03-07")));
    assert!(pro.break_even.reached);
    assert_eq!(pro.break_even.tokens, Some(20_000_000));
    assert_eq!(pro.break_even.requests, Some(6));
}

#[test]
fn the_day_on_which_a_subscriber_will_turn_is_foreseen() {
    let (store, books) = march(plan("pro", "200.00"), days_at_thirty_dollars("pro", 4));
    let range = range("2025-03-01", "2025-03-05");
    let report = report(&store, &books, By::Account, range, "2025-03-05");
    let pro = row(&report, "subscriber");
    assert_eq!(pro.break_even.date, Some(day("2025-03-07")));
    assert!(!pro.break_even.reached);
    // 27 more days like the first four, which were all the same: no spread.
    assert_eq!(pro.projected.cost_usd.to_string(), "930.00");
    assert_eq!(pro.projected.margin_usd.to_string(), "-730.00");
    assert_eq!(pro.projected.low_usd, pro.projected.margin_usd);
}

#[test]
fn chatgpt_plus_at_20_dollars_carries_two_million_tokens_of_gpt_4o_output() {
    let (store, books) = march(plan("plus", "20.00"), days_at_thirty_dollars("plus", 1));
    let range = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, range, "2025-04-01");
    let plus = row(&report, "plus");
    assert_eq!(plus.margin_usd.to_string(), "-10.00");
    assert_eq!(plus.break_even.tokens, Some(2_000_000));
    assert_eq!((plus.accounts, plus.loss_making_accounts), (1, 1));
}

#[test]
fn a_copilot_seat_at_10_dollars_that_costs_30_loses_20() {
    let (store, books) = march(
        plan("copilot", "10.00"),
        days_at_thirty_dollars("copilot", 1),
    );
    let range = range("2025-03-01", "2025-04-01");
    let report = report(&store, &books, By::Plan, range, "2025-04-01");
    assert_eq!(row(&report, "copilot").margin_usd.to_string(), "-20.00");
}

#[test]
fn an_anthropic_plan_through_messages_counts_cache_reads_at_their_own_price() {
    let usage = Usage {
        input_tokens: 10_000_000,
        cache_read_input_tokens: 9_000_000,
        output_tokens: 1_000_000,
        ..Usage::default()
    };
    let moment = at("2025-06-10T10:00:00Z");
    let mut messages = entry(
        &prices(),
        "subscriber",
        "max",
        "claude-opus-4",
        moment,
        usage,
    );
    messages.endpoint = "messages".into();
    let (store, books) = march(plan("max", "100.00"), vec![messages]);
    let range = range("2025-06-01", "2025-07-01");
    let report = report(&store, &books, By::Plan, range, "2025-07-01");
    let max = row(&report, "max");
    // 1 M at 15, 9 M at 1.50, 1 M at 75.
    assert_eq!(max.cost_usd.to_string(), "103.50");
    assert_eq!(max.margin_usd.to_string(), "-3.50");
    assert_eq!(max.savings_usd.to_string(), "121.50");
}

fn mapped(store: &Ledger, books: &Books, map: &str, month: (&str, &str)) -> WhatIf {
    let changes = Changes {
        maps: vec![map.parse().unwrap()],
        ..Changes::default()
    };
    let range = range(month.0, month.1);
    what_if(store, books, &prices(), &changes, By::Model, range, month.1)
}

#[test]
fn gpt_4_5_costs_exactly_30_times_gpt_4o_on_input_and_15_times_on_output() {
    let prices = prices();
    let usage = Usage {
        input_tokens: 1_234_567,
        cache_read_input_tokens: 234_567,
        output_tokens: 76_543,
        ..Usage::default()
    };
    let moment = at("2025-03-10T10:00:00Z");
    let entries = vec![
        entry(&prices, "subscriber", "pro", "gpt-4o", moment, usage),
        entry(
            &prices,
            "subscriber",
            "pro",
            "o3-mini",
            moment,
            tokens(1_000, 1_000),
        ),
    ];
    let (store, books) = march(plan("pro", "200.00"), entries);
    let answer = mapped(
        &store,
        &books,
        "gpt-4o=gpt-4.5-preview",
        ("2025-03-01", "2025-04-01"),
    );
    let was = row(&answer.actual, "gpt-4o").cost.use_by_class;
    let would_be = row(&answer.whatif, "gpt-4.5-preview").cost.use_by_class;
    let times = |money: Money, factor: u64| money.checked_mul(factor).unwrap();
    assert_eq!(would_be.input, times(was.input, 30));
    assert_eq!(would_be.cache_read_input, times(was.cache_read_input, 30));
    assert_eq!(would_be.output, times(was.output, 15));
    assert_eq!(
        row(&answer.whatif, "o3-mini").cost_usd,
        row(&answer.actual, "o3-mini").cost_usd
    );
    let more = times(was.input + was.cache_read_input, 29) + times(was.output, 14);
    assert_eq!(answer.difference.cost_usd, more);
    assert_eq!(answer.difference_usd, -more);
    assert_eq!(
        (answer.touched_accounts, answer.touched_paying_accounts),
        (1, 1)
    );
}

#[test]
fn gpt_4_at_its_launch_cost_30_and_60_dollars_and_twice_that_with_32k() {
    let moment = at("2023-03-20T10:00:00Z");
    let prices = prices();
    let cost = |model| {
        entry(
            &prices,
            "a",
            "p",
            model,
            moment,
            tokens(1_000_000, 1_000_000),
        )
        .cost
    };
    assert_eq!(cost("gpt-4-0314").input.to_string(), "30.00");
    assert_eq!(cost("gpt-4-0314").output.to_string(), "60.00");
    assert_eq!(cost("gpt-4-32k-0314").input.to_string(), "60.00");
    assert_eq!(cost("gpt-4-32k-0314").output.to_string(), "120.00");
    assert_eq!(cost("gpt-3.5-turbo").total().to_string(), "4.00");
}

#[test]
fn reasoning_of_o3_and_o3_mini_is_billed_as_output_and_shown_as_what_nobody_sees() {
    let prices = prices();
    let usage = Usage {
        input_tokens: 1_000,
        output_tokens: 1_000_000,
        reasoning_output_tokens: 900_000,
        ..Usage::default()
    };
    let entries = vec![
        entry(
            &prices,
            "subscriber",
            "pro",
            "o3",
            at("2025-05-10T10:00:00Z"),
            usage,
        ),
        entry(
            &prices,
            "subscriber",
            "pro",
            "o3",
            at("2025-06-10T10:00:00Z"),
            usage,
        ),
        entry(
            &prices,
            "subscriber",
            "pro",
            "o3-mini",
            at("2025-06-11T10:00:00Z"),
            usage,
        ),
    ];
    let (store, books) = march(plan("pro", "200.00"), entries);
    let hidden = |since, until| {
        let report = report(&store, &books, By::Plan, range(since, until), "2025-07-01");
        (
            report.total.cost_usd.to_string(),
            report.total.hidden.reasoning_usd.to_string(),
        )
    };
    assert_eq!(
        hidden("2025-05-01", "2025-06-01"),
        ("40.01".to_owned(), "36.00".to_owned())
    );
    // After its price fell to a fifth, and o3-mini beside it.
    assert_eq!(
        hidden("2025-06-01", "2025-07-01"),
        ("12.4031".to_owned(), "11.16".to_owned())
    );
}
