//! What must be true of every row, whoever wrote it.

use super::*;

#[test]
fn the_table_has_hundreds_of_entries_of_many_vendors() {
    let table = shipped();
    assert!(table.models().count() >= 200, "{}", table.models().count());
    for model in [
        "gpt-5.6-sol",
        "claude-sonnet-4-5",
        "gemini-2.5-flash",
        "deepseek-chat",
        "mistral-large-latest",
        "grok-4",
        "llama-3.3-70b-versatile",
        "command-a-03-2025",
        "sonar-pro",
        "kimi-k2.5",
        "qwen3-max",
        "amazon.nova-pro-v1:0",
        "jamba-large-1.7",
        "voyage-3.5",
        "text-embedding-3-small",
    ] {
        assert!(table.model(model).is_some(), "{model}");
    }
}

#[test]
fn every_row_says_where_it_comes_from_and_begins_on_a_plausible_day() {
    for entry in shipped().models() {
        assert!(!entry.rows.is_empty(), "{}", entry.model);
        for row in &entry.rows {
            let place = format!("{} from {}", entry.model, row.from);
            assert!(row.source.len() >= 10, "{place}: {:?}", row.source);
            assert!(row.from >= day("2022-01-01"), "{place}");
            // Announced prices may lie ahead.
            assert!(row.from <= day("2027-01-01"), "{place}");
        }
    }
}

/// Free of charge, as their vendors say.
const FREE: [&str; 1] = ["omni-moderation-latest"];

#[test]
fn no_price_is_zero_unless_it_is_free() {
    for entry in shipped().models() {
        for (place, rates) in every_rates(entry) {
            for (class, price) in rates.classes() {
                let free = FREE.contains(&&*entry.model);
                assert!(
                    free || price != Some(Money::ZERO),
                    "{place}: {}",
                    class.name()
                );
            }
        }
    }
}

#[test]
fn a_cache_read_costs_at_most_the_input_and_a_write_at_most_twice_of_it() {
    for entry in shipped().models() {
        for (place, rates) in every_rates(entry) {
            let Some(input) = rates.input else { continue };
            let twice = input.checked_mul(2).unwrap();
            assert!(
                rates.cache_read_input.is_none_or(|read| read <= input),
                "{place}"
            );
            for write in [rates.cache_write_input, rates.cache_write_1h_input] {
                assert!(
                    write.is_none_or(|write| input <= write && write <= twice),
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn batch_and_flex_cost_less_priority_more_and_long_context_more() {
    for entry in shipped().models() {
        for row in &entry.rows {
            for (tier, prices) in &row.tiers {
                for (class, price) in prices.rates.classes() {
                    let standard = effective(&row.rates, class);
                    let (Some(price), Some(standard)) = (price, standard) else {
                        continue;
                    };
                    let place = format!("{} {tier} {}", entry.model, class.name());
                    // `batch-us`: that tier, kept in a region.
                    match tier.split('-').next() {
                        Some("batch" | "flex") => assert!(price <= standard, "{place}"),
                        _ => assert!(price >= standard, "{place}"),
                    }
                }
            }
            for above in &row.above {
                for (class, price) in above.rates.classes() {
                    let (Some(price), Some(standard)) = (price, effective(&row.rates, class))
                    else {
                        continue;
                    };
                    assert!(price >= standard, "{} {}", entry.model, class.name());
                }
            }
        }
    }
}

/// Tiers that know no long context: a request above the threshold is served at the standard tier, and its answer says so.
const SHORT_CONTEXT_TIERS: [(&str, &str); 2] = [("gpt-5.4", "priority"), ("gpt-5.5", "priority")];

#[test]
fn a_tier_of_a_model_with_long_context_prices_has_them_too() {
    for entry in shipped().models() {
        for row in &entry.rows {
            let thresholds: Vec<u64> = row.above.iter().map(|above| above.input_tokens).collect();
            for (name, tier) in &row.tiers {
                let own: Vec<u64> = tier.above.iter().map(|above| above.input_tokens).collect();
                let known = SHORT_CONTEXT_TIERS.contains(&(&*entry.model, &**name));
                assert!(
                    known || own == thresholds,
                    "{} {name}: {own:?}",
                    entry.model
                );
            }
        }
    }
}

#[test]
fn output_limits_are_plausible() {
    for entry in shipped().models() {
        if let Some(max) = entry.max_output_tokens {
            assert!((1024..=2_000_000).contains(&max), "{}: {max}", entry.model);
        }
    }
}

/// Every set of rates of an entry, with its place for messages.
fn every_rates(entry: &PricedModel) -> Vec<(String, &Rates)> {
    let mut found = Vec::new();
    for row in &entry.rows {
        let place = format!("{} from {}", entry.model, row.from);
        found.push((place.clone(), &row.rates));
        for above in &row.above {
            found.push((
                format!("{place} above {}", above.input_tokens),
                &above.rates,
            ));
        }
        for (name, tier) in &row.tiers {
            found.push((format!("{place} {name}"), &tier.rates));
            for above in &tier.above {
                let place = format!("{place} {name} above {}", above.input_tokens);
                found.push((place, &above.rates));
            }
        }
    }
    found
}
