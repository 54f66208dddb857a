use std::collections::BTreeMap;

use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::price::TierRates;

fn usd(text: &str) -> Money {
    Money::parse(text).unwrap()
}

fn per_million(text: &str) -> Option<Money> {
    Some(Money::parse_per_million(text).unwrap())
}

/// Claude Sonnet 4.5 as of its launch: every kind of tier at once.
fn sonnet() -> PriceRow {
    let rates = |input: &str, read: &str, write: &str, write_1h: &str, output: &str| Rates {
        input: per_million(input),
        cache_read_input: per_million(read),
        cache_write_input: per_million(write),
        cache_write_1h_input: per_million(write_1h),
        output: per_million(output),
        ..Rates::default()
    };
    let above = |rates| {
        vec![Above {
            input_tokens: 200_000,
            rates,
        }]
    };
    PriceRow {
        from: date(2025, 9, 29),
        rates: Rates {
            web_search: Some(usd("0.01")),
            ..rates("3", "0.30", "3.75", "6", "15")
        },
        above: above(rates("6", "0.60", "7.50", "12", "22.50")),
        tiers: BTreeMap::from([(
            "batch".into(),
            TierRates {
                rates: rates("1.50", "0.15", "1.875", "3", "7.50"),
                above: above(rates("3", "0.30", "3.75", "6", "11.25")),
            },
        )]),
        source: "a test".into(),
    }
}

fn plain(input: &str, output: &str) -> PriceRow {
    PriceRow {
        from: date(2024, 1, 1),
        rates: Rates {
            input: per_million(input),
            output: per_million(output),
            ..Rates::default()
        },
        above: Vec::new(),
        tiers: BTreeMap::new(),
        source: "a test".into(),
    }
}

fn tokens(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        ..Usage::default()
    }
}

fn total(row: &PriceRow, usage: &Usage, tier: Option<&str>) -> Money {
    row.cost(usage, tier).unwrap().by_class.total()
}

#[test]
fn the_cost_is_exact_to_the_last_digit() {
    // gpt-4o: 165 tokens at 2.50 and 7 at 10 dollars per million.
    let cost = total(&plain("2.50", "10"), &tokens(165, 7), None);
    assert_eq!(cost.to_string(), "0.0004825");
}

#[test]
fn each_class_of_cache_has_its_price() {
    let usage = Usage {
        input_tokens: 10_000,
        cache_read_input_tokens: 4000,
        cache_write_input_tokens: 3000,
        cache_write_1h_input_tokens: 1000,
        output_tokens: 100,
        ..Usage::default()
    };
    let cost = sonnet().cost(&usage, None).unwrap();
    assert_eq!(cost.by_class.input, usd("0.009"));
    assert_eq!(cost.by_class.cache_read_input, usd("0.0012"));
    assert_eq!(cost.by_class.cache_write_input, usd("0.0135"));
    assert_eq!(cost.by_class.output, usd("0.0015"));
    assert_eq!(cost.undiscounted, usd("0.0315"), "without any cache");
}

#[test]
fn a_class_without_a_price_costs_what_its_container_costs() {
    let usage = Usage {
        cache_read_input_tokens: 10,
        cache_write_input_tokens: 20,
        cache_write_1h_input_tokens: 5,
        audio_input_tokens: 30,
        image_input_tokens: 7,
        reasoning_output_tokens: 40,
        audio_output_tokens: 5,
        image_output_tokens: 1,
        ..tokens(100, 90)
    };
    let row = plain("2", "8");
    assert_eq!(
        total(&row, &usage, None),
        total(&row, &tokens(100, 90), None)
    );
}

#[test]
fn an_hour_long_write_without_a_price_costs_what_a_write_costs() {
    let mut row = sonnet();
    row.rates.cache_write_1h_input = None;
    let usage = Usage {
        cache_write_input_tokens: 100,
        cache_write_1h_input_tokens: 100,
        ..tokens(100, 0)
    };
    assert_eq!(total(&row, &usage, None), usd("0.000375"));
}

#[test]
fn reasoning_is_billed_as_output_unless_it_has_its_own_price() {
    let usage = Usage {
        reasoning_output_tokens: 900,
        ..tokens(0, 1000)
    };
    let mut row = plain("2", "8");
    let cost = row.cost(&usage, None).unwrap().by_class;
    assert_eq!(cost.total(), usd("0.008"));
    assert_eq!(cost.reasoning_output, usd("0.0072"));
    row.rates.reasoning_output = per_million("3");
    assert_eq!(total(&row, &usage, None), usd("0.0035"));
}

#[test]
fn reasoning_beyond_the_output_adds_nothing() {
    let usage = Usage {
        reasoning_output_tokens: 11,
        ..tokens(0, 10)
    };
    assert_eq!(total(&plain("2", "8"), &usage, None), usd("0.00008"));
}

#[test]
fn the_long_context_tier_begins_above_the_threshold_not_at_it() {
    let row = sonnet();
    assert_eq!(total(&row, &tokens(200_000, 1000), None), usd("0.615"));
    assert_eq!(total(&row, &tokens(200_001, 1000), None), usd("1.222506"));
}

#[test]
fn the_threshold_counts_cached_input_too() {
    let usage = Usage {
        cache_read_input_tokens: 200_000,
        ..tokens(200_001, 0)
    };
    assert_eq!(total(&sonnet(), &usage, None), usd("0.120006"));
}

#[test]
fn what_is_billed_by_the_piece_costs_its_price_or_is_told_to_have_none() {
    let pieces = Usage {
        file_search_requests: 2,
        images: 3,
        audio_seconds: 61,
        ..Usage::default()
    };
    let row = row_of(Rates {
        file_search: Some(usd("0.0025")),
        image: Some(usd("0.04")),
        second: Some(usd("0.0001")),
        ..Rates::default()
    });
    let cost = row.cost(&pieces, None).unwrap();
    assert_eq!(cost.by_class.other, usd("0.1311"));
    assert!(!cost.incomplete);
    assert!(plain("1", "2").cost(&pieces, None).unwrap().incomplete);
}

#[test]
fn what_is_billed_by_the_token_is_not_billed_by_the_piece_as_well() {
    let usage = Usage {
        input_tokens: 500_000,
        output_tokens: 250_000,
        audio_seconds: 60,
        images: 1,
        ..Usage::default()
    };
    let by_both = row_of(Rates {
        second: Some(usd("0.0001")),
        image: Some(usd("0.04")),
        ..plain("1", "2").rates
    });
    let cost = |row: &PriceRow, usage: &Usage| row.cost(usage, None).unwrap();
    assert_eq!(cost(&by_both, &usage).by_class.total(), usd("1"));
    assert!(!cost(&plain("1", "2"), &usage).incomplete);
    let by_the_second = row_of(Rates {
        second: Some(usd("0.0001")),
        ..Rates::default()
    });
    let heard = Usage { images: 0, ..usage };
    let cost_by_the_second = cost(&by_the_second, &heard);
    assert_eq!(cost_by_the_second.by_class.total(), usd("0.006"));
    assert!(!cost_by_the_second.incomplete);
    let tokens_alone = Usage {
        audio_seconds: 0,
        images: 0,
        ..usage
    };
    assert!(cost(&by_the_second, &tokens_alone).incomplete);
    // The prompt by the token, what is made of it by the piece.
    let prompt_and_image = row_of(Rates {
        input: plain("1", "2").rates.input,
        image: Some(usd("0.04")),
        ..Rates::default()
    });
    let prompt_and_image = cost(&prompt_and_image, &usage);
    assert_eq!(prompt_and_image.by_class.total(), usd("0.54"));
}

#[test]
fn a_code_interpreter_without_a_price_is_billed_beside_the_cost() {
    let usage = Usage {
        input_tokens: 1_000_000,
        code_interpreter_requests: 2,
        ..Usage::default()
    };
    let mut row = plain("1", "2");
    let cost = row.cost(&usage, None).unwrap();
    assert!(cost.billed_beside && !cost.incomplete);
    row.rates.code_interpreter = Some(usd("0.005"));
    let cost = row.cost(&usage, None).unwrap();
    assert!(!cost.billed_beside);
    assert_eq!(cost.by_class.total(), usd("1.01"));
}

#[test]
fn nothing_reported_has_a_cost_where_it_is_asked_by_the_request_or_is_free() {
    assert!(!plain("1", "2").costs_without_usage());
    assert!(plain("0", "0").costs_without_usage());
    let mut by_the_request = plain("1", "2");
    by_the_request.rates.request = Some(usd("0.002"));
    assert!(by_the_request.costs_without_usage());
}

#[test]
fn of_several_thresholds_the_highest_that_is_exceeded_counts() {
    let mut row = plain("1.20", "6");
    let tier = |input_tokens, input: &str| Above {
        input_tokens,
        rates: Rates {
            input: per_million(input),
            ..Rates::default()
        },
    };
    row.above = vec![tier(128_000, "3"), tier(32_000, "2.40")];
    assert_eq!(total(&row, &tokens(32_000, 0), None), usd("0.0384"));
    assert_eq!(total(&row, &tokens(100_000, 0), None), usd("0.24"));
    assert_eq!(total(&row, &tokens(200_000, 0), None), usd("0.60"));
    assert_eq!(
        total(&row, &tokens(200_000, 1000), None),
        usd("0.606"),
        "what the tier does not name costs what it costs below the threshold"
    );
}

#[test]
fn the_served_tier_sets_the_price() {
    let row = sonnet();
    let usage = tokens(1000, 1000);
    for tier in [
        None,
        Some("standard"),
        Some("default"),
        Some("never heard of"),
    ] {
        assert_eq!(total(&row, &usage, tier), usd("0.018"), "{tier:?}");
    }
    assert_eq!(total(&row, &usage, Some("batch")), usd("0.009"));
}

#[test]
fn a_service_tier_has_its_own_long_context_tier() {
    let usage = tokens(300_000, 1000);
    assert_eq!(total(&sonnet(), &usage, Some("batch")), usd("0.91125"));
}

#[test]
fn a_class_that_a_tier_does_not_name_costs_what_the_standard_asks() {
    let mut row = plain("2", "8");
    row.rates.cache_read_input = per_million("0.50");
    row.tiers.insert(
        "batch".into(),
        TierRates {
            rates: Rates {
                input: per_million("1"),
                ..Rates::default()
            },
            above: Vec::new(),
        },
    );
    let usage = Usage {
        cache_read_input_tokens: 1000,
        ..tokens(2000, 1000)
    };
    assert_eq!(total(&row, &usage, Some("batch")), usd("0.0095"));
}

#[test]
fn a_discount_shows_against_the_standard_price() {
    let cost = sonnet().cost(&tokens(1000, 1000), Some("batch")).unwrap();
    assert_eq!(cost.undiscounted, usd("0.018"));
}

#[test]
fn searches_and_requests_are_billed_by_the_piece() {
    let mut row = sonnet();
    row.rates.request = Some(usd("0.005"));
    let usage = Usage {
        web_search_requests: 3,
        ..tokens(0, 0)
    };
    assert_eq!(row.cost(&usage, None).unwrap().by_class.other, usd("0.035"));
}

#[test]
fn what_a_row_has_no_price_for_is_told() {
    let search = Usage {
        web_search_requests: 1,
        ..tokens(1, 1)
    };
    assert!(plain("2", "8").cost(&search, None).unwrap().incomplete);
    assert!(!sonnet().cost(&search, None).unwrap().incomplete);

    let mut by_request = plain("0", "0");
    by_request.rates = Rates::default();
    assert!(by_request.cost(&tokens(1, 0), None).unwrap().incomplete);
    by_request.rates.request = Some(usd("0.002"));
    assert!(!by_request.cost(&tokens(1, 0), None).unwrap().incomplete);
}

#[test]
fn a_product_that_leaves_the_range_is_an_error() {
    let mut row = plain("1", "1");
    row.rates.input = Some(Money::MAX);
    assert_eq!(
        row.cost(&tokens(u64::MAX, 0), None),
        Err(CostError::Overflow)
    );
    let absurd = tokens(crate::tokens::ABSURD_TOKENS, 0);
    assert!(row.cost(&absurd, None).is_ok(), "no real usage gets there");
}

/// Prices with up to six decimals, as tables have them.
fn price() -> impl Strategy<Value = Option<Money>> {
    proptest::option::of((0_i128..1_000_000_000).prop_map(Money::from_picos))
}

fn any_rates() -> impl Strategy<Value = Rates> {
    proptest::collection::vec(price(), 16).prop_map(|prices| Rates {
        input: prices[0],
        cache_read_input: prices[1],
        cache_write_input: prices[2],
        cache_write_1h_input: prices[3],
        audio_input: prices[4],
        image_input: prices[5],
        output: prices[6],
        reasoning_output: prices[7],
        audio_output: prices[8],
        image_output: prices[9],
        request: prices[10],
        web_search: prices[11],
        file_search: prices[12],
        code_interpreter: prices[13],
        image: prices[14],
        second: prices[15],
    })
}

fn row_of(rates: Rates) -> PriceRow {
    PriceRow {
        rates,
        ..plain("1", "1")
    }
}

/// Usages whose parts fit into their totals.
fn any_usage() -> impl Strategy<Value = Usage> {
    proptest::array::uniform15(0_u64..1_000_000).prop_map(|counts| Usage {
        cache_read_input_tokens: counts[0],
        cache_write_1h_input_tokens: counts[1],
        cache_write_input_tokens: counts[1] + counts[2],
        audio_input_tokens: counts[3],
        image_input_tokens: counts[4],
        input_tokens: counts[..6].iter().sum(),
        reasoning_output_tokens: counts[6],
        audio_output_tokens: counts[7],
        image_output_tokens: counts[8],
        output_tokens: counts[6..10].iter().sum(),
        web_search_requests: counts[10] % 100,
        file_search_requests: counts[11] % 100,
        code_interpreter_requests: counts[12] % 100,
        images: counts[13] % 100,
        audio_seconds: counts[14] % 10_000,
    })
}

/// The same bill written another way: every token at the price of its total, then the differences of its parts.
fn bill_in_picos(rates: &Rates, usage: &Usage) -> i128 {
    let picos = |rate: Option<Money>| rate.map_or(0, Money::picos);
    let difference = |own: Option<Money>, container: i128, count: u64| match own {
        Some(own) => (own.picos() - container) * i128::from(count),
        None => 0,
    };
    let (input, output) = (picos(rates.input), picos(rates.output));
    let output_is_priced = [rates.output, rates.image_output, rates.audio_output]
        .iter()
        .any(Option::is_some);
    let images = match output_is_priced && usage.output_tokens > 0 {
        true => 0,
        false => usage.images,
    };
    let seconds = match output_is_priced && usage.input_tokens + usage.output_tokens > 0 {
        true => 0,
        false => usage.audio_seconds,
    };
    let by_the_piece =
        picos(rates.image) * i128::from(images) + picos(rates.second) * i128::from(seconds);
    let written = rates.cache_write_input.map_or(input, Money::picos);
    i128::from(usage.input_tokens) * input
        + difference(rates.cache_read_input, input, usage.cache_read_input_tokens)
        + difference(
            rates.cache_write_input,
            input,
            usage.cache_write_input_tokens,
        )
        + difference(
            rates.cache_write_1h_input,
            written,
            usage.cache_write_1h_input_tokens,
        )
        + difference(rates.audio_input, input, usage.audio_input_tokens)
        + difference(rates.image_input, input, usage.image_input_tokens)
        + i128::from(usage.output_tokens) * output
        + difference(
            rates.reasoning_output,
            output,
            usage.reasoning_output_tokens,
        )
        + difference(rates.audio_output, output, usage.audio_output_tokens)
        + difference(rates.image_output, output, usage.image_output_tokens)
        + picos(rates.request)
        + picos(rates.web_search) * i128::from(usage.web_search_requests)
        + picos(rates.file_search) * i128::from(usage.file_search_requests)
        + picos(rates.code_interpreter) * i128::from(usage.code_interpreter_requests)
        + by_the_piece
}

proptest! {
    #[test]
    fn the_cost_equals_an_independent_computation(rates in any_rates(), usage in any_usage()) {
        let cost = total(&row_of(rates.clone()), &usage, None);
        prop_assert_eq!(cost.picos(), bill_in_picos(&rates, &usage));
    }

    #[test]
    fn the_cost_of_n_requests_is_n_times_the_cost(rates in any_rates(), usage in any_usage(), n in 1_u64..50) {
        let row = row_of(Rates { request: None, ..rates });
        let times_n = usage.zip(&usage, |count, _| count * n);
        prop_assert_eq!(
            total(&row, &times_n, None),
            total(&row, &usage, None).checked_mul(n).unwrap()
        );
    }

    #[test]
    fn one_more_token_never_costs_less(rates in any_rates(), usage in any_usage()) {
        let row = row_of(rates);
        let more_input = Usage { input_tokens: usage.input_tokens + 1, ..usage };
        let more_output = Usage { output_tokens: usage.output_tokens + 1, ..usage };
        let cost = total(&row, &usage, None);
        prop_assert!(total(&row, &more_input, None) >= cost);
        prop_assert!(total(&row, &more_output, None) >= cost);
    }

    #[test]
    fn no_usage_makes_it_panic(counts in proptest::array::uniform15(any::<u64>()), rates in any_rates()) {
        let usage = Usage::from_counts(counts);
        prop_assert!(row_of(rates).cost(&usage, Some("batch")).is_ok());
    }
}
