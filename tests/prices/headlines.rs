//! The prices that made headlines, on their days.

use super::*;
use jiff::Timestamp;
use weir::price::{Part, price_parts};
use weir::tokens::Usage;

/// Model, day, input and output in dollars per million.
const HISTORY: [(&str, &str, &str, &str); 44] = [
    ("gpt-4", "2023-03-14", "30", "60"),
    ("gpt-4-0314", "2023-03-14", "30", "60"),
    ("gpt-4-32k", "2023-03-14", "60", "120"),
    ("gpt-4-32k-0314", "2023-03-14", "60", "120"),
    ("gpt-4-turbo", "2024-04-09", "10", "30"),
    ("gpt-3.5-turbo", "2023-03-01", "2", "2"),
    ("gpt-3.5-turbo", "2023-06-12", "2", "2"),
    ("gpt-3.5-turbo", "2023-06-13", "1.50", "2"),
    ("gpt-3.5-turbo", "2023-11-06", "1", "2"),
    ("gpt-3.5-turbo", "2024-03-01", "0.50", "1.50"),
    ("gpt-3.5-turbo-0613", "2026-01-01", "1.50", "2"),
    ("gpt-3.5-turbo-1106", "2026-01-01", "1", "2"),
    ("gpt-3.5-turbo-0125", "2026-01-01", "0.50", "1.50"),
    ("gpt-4o", "2024-05-13", "5", "15"),
    ("gpt-4o", "2024-06-01", "5", "15"),
    ("gpt-4o", "2024-10-01", "5", "15"),
    ("gpt-4o", "2024-10-02", "2.50", "10"),
    ("gpt-4o-2024-05-13", "2026-11-24", "5", "15"),
    ("gpt-4o-2024-08-06", "2024-08-06", "2.50", "10"),
    ("gpt-4o-2024-11-20", "2026-11-24", "2.50", "10"),
    ("gpt-4.5-preview", "2025-02-27", "75", "150"),
    ("o1-preview", "2024-09-12", "15", "60"),
    ("o1-mini", "2024-09-12", "3", "12"),
    ("o1-mini", "2025-01-31", "1.10", "4.40"),
    ("o1", "2024-12-17", "15", "60"),
    ("o1-pro", "2025-03-19", "150", "600"),
    ("o3-mini", "2025-01-31", "1.10", "4.40"),
    ("o3", "2025-06-09", "10", "40"),
    ("o3", "2025-06-10", "2", "8"),
    ("o3-pro", "2025-06-10", "20", "80"),
    ("gpt-4.1", "2025-04-14", "2", "8"),
    ("gpt-4.1-mini", "2025-04-14", "0.40", "1.60"),
    ("gpt-4.1-nano", "2025-04-14", "0.10", "0.40"),
    ("gpt-5", "2025-08-07", "1.25", "10"),
    ("gpt-5.6-luna", "2026-07-29", "1", "6"),
    ("gpt-5.6-luna", "2026-07-30", "0.20", "1.20"),
    ("claude-3-opus-20240229", "2024-03-04", "15", "75"),
    ("claude-3-5-haiku-20241022", "2024-11-04", "1", "5"),
    ("claude-3-5-haiku-20241022", "2024-12-03", "0.80", "4"),
    ("claude-opus-4-5", "2025-11-24", "5", "25"),
    ("claude-sonnet-5", "2026-09-01", "2", "10"),
    ("deepseek-chat", "2025-02-08", "0.14", "0.28"),
    ("deepseek-chat", "2025-02-09", "0.27", "1.10"),
    ("deepseek-chat", "2025-09-29", "0.28", "0.42"),
];

#[test]
fn the_history_that_made_headlines_is_in_the_table() {
    let table = shipped();
    for (model, on, input, output) in HISTORY {
        let entry = table.model(model).unwrap_or_else(|| panic!("{model}"));
        let row = entry
            .row_on(day(on))
            .unwrap_or_else(|| panic!("{model} on {on}"));
        let per_million = |text| Some(Money::parse_per_million(text).unwrap());
        assert_eq!(row.rates.input, per_million(input), "{model} on {on}");
        assert_eq!(row.rates.output, per_million(output), "{model} on {on}");
    }
}

#[test]
fn before_its_launch_a_model_has_no_price() {
    let table = shipped();
    for (model, on) in [
        ("gpt-4o", "2024-05-12"),
        ("gpt-4", "2023-03-13"),
        ("gpt-4o", "2023-01-01"),
    ] {
        assert_eq!(table.model(model).unwrap().row_on(day(on)), None, "{model}");
    }
}

#[test]
fn cached_input_has_its_price() {
    let table = shipped();
    for (model, on, cached) in [
        ("gpt-4o", "2024-10-02", "1.25"),
        ("gpt-4o", "2024-06-01", "5"),
        ("gpt-4.5-preview", "2025-03-01", "37.50"),
        ("gpt-4o-mini", "2024-10-01", "0.075"),
        ("o3", "2025-04-16", "2.50"),
        ("o3", "2025-06-10", "0.50"),
        ("claude-opus-4-1", "2025-08-05", "1.50"),
        ("grok-4", "2025-07-09", "0.75"),
        ("deepseek-chat", "2025-02-09", "0.07"),
    ] {
        let row = table.model(model).unwrap().row_on(day(on)).unwrap();
        let expected = Money::parse_per_million(cached).unwrap();
        assert_eq!(
            effective(&row.rates, Class::CacheReadInput),
            Some(expected),
            "{model} on {on}"
        );
    }
}

fn cost(table: &PriceTable, model: &str, usage: Usage, at: &str) -> Money {
    let at: Timestamp = at.parse().unwrap();
    let priced = price_parts(
        table,
        &[Part {
            model,
            asked: None,
            usage,
        }],
        None,
        at,
    )
    .unwrap();
    assert!(!priced.unpriced, "{model}");
    priced.cost.by_class.total()
}

#[test]
fn the_same_traffic_costs_thirty_times_the_input_and_fifteen_times_the_output_on_gpt_4_5() {
    let table = shipped();
    let input = Usage {
        input_tokens: 1_234_567,
        ..Usage::default()
    };
    let output = Usage {
        output_tokens: 765_431,
        reasoning_output_tokens: 1000,
        ..Usage::default()
    };
    let at = "2025-03-01T00:00:00Z";
    for (usage, times) in [(input, 30), (output, 15)] {
        let old = cost(&table, "gpt-4.5-preview", usage, at);
        let new = cost(&table, "gpt-4o", usage, at);
        assert_eq!(Some(old), new.checked_mul(times));
    }
}

#[test]
fn reasoning_tokens_cost_what_output_tokens_cost() {
    let table = shipped();
    let visible = Usage {
        output_tokens: 10_000,
        ..Usage::default()
    };
    let hidden = Usage {
        reasoning_output_tokens: 9_999,
        ..visible
    };
    for model in [
        "o1",
        "o3",
        "gpt-5",
        "claude-opus-4-1",
        "gemini-2.5-pro",
        "deepseek-reasoner",
    ] {
        let at = "2025-10-01T00:00:00Z";
        assert_eq!(
            cost(&table, model, hidden, at),
            cost(&table, model, visible, at),
            "{model}"
        );
    }
}
