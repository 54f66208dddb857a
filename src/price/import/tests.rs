use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn imported(map: &str) -> Imported {
    import(map, date(2026, 11, 24), date(2026, 11, 24), &[])
}

/// The table of an import, read back as TOML.
fn table(imported: &Imported) -> toml::Table {
    imported.toml.parse().unwrap()
}

fn only_model(imported: &Imported) -> toml::Table {
    let models = table(imported)["models"].as_array().unwrap().clone();
    assert_eq!(models.len(), 1, "{}", imported.toml);
    models[0].as_table().unwrap().clone()
}

fn row(imported: &Imported) -> toml::Table {
    only_model(imported)["prices"][0]
        .as_table()
        .unwrap()
        .clone()
}

const SONNET: &str = r#"{ "claude-sonnet-4-5": {
    "litellm_provider": "anthropic", "mode": "chat", "max_output_tokens": 64000,
    "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "cache_read_input_token_cost": 3e-07, "cache_creation_input_token_cost": 3.75e-06,
    "cache_creation_input_token_cost_above_1hr": 6e-06,
    "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
    "input_cost_per_token_batches": 1.5e-06, "output_cost_per_token_batches": 7.5e-06,
    "input_cost_per_token_above_200k_tokens_batches": 3e-06,
    "search_context_cost_per_query": { "search_context_size_low": 0.01, "search_context_size_medium": 0.01 },
    "source": "https://vendor.example/prices", "supports_vision": true } }"#;

#[test]
fn factors_for_a_faster_mode_and_a_region_become_tiers() {
    let map = SONNET.replace(
        "\"supports_vision\": true",
        "\"provider_specific_entry\": { \"us\": 1.1, \"fast\": 2.0 }",
    );
    let imported = imported(&map);
    let tiers = &row(&imported)["tiers"];
    for (tier, output) in [
        ("us", "16.50"),
        ("batch-us", "8.25"),
        ("fast", "30.00"),
        ("fast-us", "33.00"),
    ] {
        assert_eq!(tiers[tier]["output"].as_str(), Some(output), "{tier}");
    }
    assert_eq!(imported.warnings, Vec::<String>::new());
}

#[test]
fn an_entry_becomes_a_model_with_its_tiers() {
    let imported = imported(SONNET);
    let expected = r#"
[[models]]
model = "claude-sonnet-4-5"
max_output_tokens = 64000
[[models.prices]]
from = 2026-11-24
input = "3.00"
cache_read_input = "0.30"
cache_write_input = "3.75"
cache_write_1h_input = "6.00"
output = "15.00"
web_search = "0.01"
above = [{ input_tokens = 200000, input = "6.00", output = "22.50" }]
tiers.batch = { input = "1.50", output = "7.50", above = [{ input_tokens = 200000, input = "3.00" }] }
source = "https://vendor.example/prices, out of the LiteLLM price map, imported 2026-11-24"
"#;
    assert!(imported.toml.ends_with(expected), "{}", imported.toml);
    assert_eq!(imported.models, 1);
    assert_eq!(imported.warnings, Vec::<String>::new());
}

#[test]
fn the_day_of_the_import_is_told_apart_from_the_day_from_which_prices_hold() {
    let imported = import(SONNET, date(2025, 1, 1), date(2026, 11, 24), &[]);
    let row = row(&imported);
    assert_eq!(row["from"].to_string(), "2025-01-01");
    let source = row["source"].as_str().unwrap();
    assert!(source.ends_with("imported 2026-11-24"), "{source}");
    let head = imported.toml.lines().next().unwrap();
    assert!(
        head.ends_with("imported on 2026-11-24; they hold from 2025-01-01."),
        "{head}"
    );
}

#[test]
fn ranges_of_tiered_pricing_become_thresholds() {
    let imported = imported(
        r#"{ "dashscope/qwen3-max": { "litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": [
            { "range": [0, 32000.0], "input_cost_per_token": 1.2e-06, "output_cost_per_token": 6e-06 },
            { "range": [32000.0, 128000.0], "input_cost_per_token": 2.4e-06, "output_cost_per_token": 1.2e-05 },
            { "range": [128000.0, 256000.0], "input_cost_per_token": 3e-06, "output_cost_per_token": 7.2e-05 } ] } }"#,
    );
    let row = row(&imported);
    assert_eq!(row["input"].as_str(), Some("1.20"));
    assert_eq!(row["above"][0]["input_tokens"].as_integer(), Some(32_000));
    assert_eq!(row["above"][0]["output"].as_str(), Some("12.00"));
    // Twelve times the lowest step, and plausible beside the step below it.
    assert_eq!(row["above"][1]["output"].as_str(), Some("72.00"));
}

#[test]
fn what_has_another_unit_than_the_token_keeps_it() {
    let imported = imported(
        r#"{ "whisper-1": { "mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001 },
             "rerank-v3.5": { "mode": "rerank", "input_cost_per_query": 0.002, "input_cost_per_token": 0.0 },
             "painter": { "mode": "image_generation", "output_cost_per_image": 0.04 } }"#,
    );
    let models = table(&imported)["models"].as_array().unwrap().clone();
    let price = |index: usize, class: &str| {
        models[index]["prices"][0][class]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(price(0, "image").as_deref(), Some("0.04"));
    assert_eq!(price(1, "request").as_deref(), Some("0.002"));
    assert_eq!(price(2, "second").as_deref(), Some("0.0001"));
}

/// Errors that real releases of the map had, and what is said of each.
#[test]
fn implausible_figures_are_left_out_with_a_reason() {
    let cases = [
        (
            // The hour-long write of Sonnet at Haiku.
            r#""input_cost_per_token": 2.5e-07, "output_cost_per_token": 1.25e-06, "cache_creation_input_token_cost_above_1hr": 6e-06"#,
            "cache_write_1h_input",
            "m: cache_write_1h_input is 6.00 beside an input of 0.25: left out",
        ),
        (
            // And at Opus, where it is too cheap.
            r#""input_cost_per_token": 1.5e-05, "output_cost_per_token": 7.5e-05, "cache_creation_input_token_cost_above_1hr": 6e-06"#,
            "cache_write_1h_input",
            "m: cache_write_1h_input is 6.00 beside an input of 15.00: left out",
        ),
        (
            // The price of a read in the place of a write.
            r#""input_cost_per_token": 3.75e-06, "output_cost_per_token": 1.5e-05, "cache_creation_input_token_cost": 1.875e-06"#,
            "cache_write_input",
            "m: cache_write_input is 1.875 beside an input of 3.75: left out",
        ),
        (
            r#""input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "cache_read_input_token_cost": 1e-05"#,
            "cache_read_input",
            "m: cache_read_input is 10.00 beside an input of 1.00: left out",
        ),
        (
            // Priority input of gpt-5-nano, fifty times the standard.
            r#""input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07, "input_cost_per_token_priority": 2.5e-06"#,
            "tiers",
            "m: input of the tier priority is 2.50 beside 0.05: left out",
        ),
        (
            r#""input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "output_cost_per_token_above_128k_tokens": 2.1e-05"#,
            "above",
            "m: output above 128000 tokens is 21.00 beside 2.00: left out",
        ),
        (
            r#""input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "cache_read_input_token_cost": 1.23e-11"#,
            "cache_read_input",
            "m: cache_read_input_token_cost = 1.23e-11 has more than twelve decimals, left out",
        ),
        (
            r#""input_cost_per_token": 1e-03, "output_cost_per_audio_token": 1"#,
            "audio_output",
            "m: audio_output is larger than any price: left out",
        ),
        (
            r#""input_cost_per_token": 1e-03, "provider_specific_entry": { "fast": 101 }"#,
            "tiers",
            "m: its factor for fast is none, left out",
        ),
    ];
    for (fields, absent, warning) in cases {
        let imported = imported(&format!(r#"{{ "m": {{ "mode": "chat", {fields} }} }}"#));
        assert!(row(&imported).get(absent).is_none(), "{}", imported.toml);
        assert_eq!(imported.warnings, [warning]);
    }
}

#[test]
fn a_model_that_cannot_be_billed_is_left_out() {
    for (fields, warnings) in [
        (
            r#""input_cost_per_token": 0.0, "output_cost_per_token": 0.0"#,
            0,
        ),
        (r#""input_cost_per_token": -1e-06"#, 2),
        (
            r#""input_cost_per_token": 1.1428571428e-06, "output_cost_per_token": 1e-05"#,
            2,
        ),
        (
            r#""input_cost_per_token": 1.5e-07, "output_cost_per_token": 3.75e-08"#,
            1,
        ),
        (
            r#""input_cost_per_token": 1, "output_cost_per_token": 1"#,
            1,
        ),
    ] {
        let imported = imported(&format!(r#"{{ "m": {{ "mode": "chat", {fields} }} }}"#));
        assert_eq!(imported.models, 0, "{}", imported.toml);
        assert_eq!(imported.warnings.len(), warnings, "{:?}", imported.warnings);
    }
}

#[test]
fn a_model_gets_the_name_that_its_provider_answers_with() {
    let map = r#"{
        "gemini/gemini-pro": { "litellm_provider": "gemini", "input_cost_per_token": 1e-06 },
        "gpt-4o": { "litellm_provider": "openai", "input_cost_per_token": 2.5e-06 },
        "azure/gpt-4o": { "litellm_provider": "azure", "input_cost_per_token": 2.75e-06 },
        "a/open": { "litellm_provider": "a", "input_cost_per_token": 1e-06 },
        "b/open": { "litellm_provider": "b", "input_cost_per_token": 2e-06 },
        "a/same": { "litellm_provider": "a", "input_cost_per_token": 1e-06 },
        "b/same": { "litellm_provider": "b", "input_cost_per_token": 1e-06 } }"#;
    let names = |imported: &Imported| -> Vec<String> {
        let models = table(imported)["models"].as_array().unwrap().clone();
        let name = |model: &toml::Value| model["model"].as_str().unwrap().to_owned();
        models.iter().map(name).collect()
    };
    let all = imported(map);
    assert_eq!(
        names(&all),
        [
            "a/open",
            "azure/gpt-4o",
            "b/open",
            "gemini-pro",
            "gpt-4o",
            "same"
        ]
    );
    assert_eq!(
        all.warnings,
        ["open: providers ask different prices, all keep their full names: a/open, b/open"]
    );
    let one = import(
        map,
        date(2026, 11, 24),
        date(2026, 11, 24),
        &["b".to_owned()],
    );
    assert_eq!(names(&one), ["open", "same"]);
}

#[test]
fn kinds_of_prices_without_a_class_are_counted() {
    let imported = imported(
        r#"{ "a": { "input_cost_per_token": 1e-06, "output_cost_per_video_per_second": 0.1 },
             "b": { "input_cost_per_token": 1e-06, "output_cost_per_video_per_second": 0.2 } }"#,
    );
    assert_eq!(
        imported.warnings,
        ["output_cost_per_video_per_second: has no class here, left out of 2 models"]
    );
}

#[test]
fn what_is_no_price_map_gives_an_empty_table_and_a_reason() {
    for text in ["", "[]", "3", "{", r#"{"a": 1}"#, r#"{"a": {"mode": 3}}"#] {
        let imported = imported(text);
        assert_eq!(imported.models, 0);
        assert!(table(&imported).get("models").is_none());
    }
    assert_eq!(imported("[]").warnings.len(), 1);
}

#[test]
fn warnings_are_bounded() {
    let entries: Vec<String> = (0..3000).map(|n| format!(r#""m{n}": 1"#)).collect();
    let imported = imported(&format!("{{{}}}", entries.join(",")));
    assert_eq!(imported.warnings.len(), MAX_WARNINGS);
    assert_eq!(imported.warnings.last().unwrap(), "and 1001 more warnings");
}

/// Text that looks like a map, with everything in it that can be wrong.
fn map_text() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("input_cost_per_token".to_owned()),
        Just("output_cost_per_token_above_200k_tokens_batches".to_owned()),
        Just("cache_creation_input_token_cost_above_1hr_above_200k_tokens".to_owned()),
        Just("input_cost_per_token_above_99999999k_tokens".to_owned()),
        Just("output_cost_per_audio_token".to_owned()),
        Just("tiered_pricing".to_owned()),
        Just("provider_specific_entry".to_owned()),
        Just("search_context_cost_per_query".to_owned()),
        Just("mode".to_owned()),
        Just("source".to_owned()),
        "[a-z_0-9]{0,12}cost[a-z_0-9]{0,12}",
    ];
    let value = prop_oneof![
        "-?[0-9]{1,12}(\\.[0-9]{1,20})?(e-?[0-9]{1,3})?",
        Just("null".to_owned()),
        Just(r#""\u0000\"""#.to_owned()),
        Just(r#"[{"range":[1e400],"input_cost_per_token":1e-6},{"range":[2]}]"#.to_owned()),
        Just(r#"{"search_context_size_medium":[]}"#.to_owned()),
        Just(r#"{"us":1.1,"fast":1e9}"#.to_owned()),
        Just("1e-4".to_owned()),
    ];
    let field = (key, value).prop_map(|(key, value)| format!("\"{key}\":{value}"));
    let fields = proptest::collection::vec(field, 0..8);
    let entry = ("[a-z/*\u{7f}ü :-]{0,6}", fields)
        .prop_map(|(name, fields)| format!("\"{name}\":{{{}}}", fields.join(",")));
    proptest::collection::vec(entry, 0..6).prop_map(|entries| format!("{{{}}}", entries.join(",")))
}

proptest! {
    #[test]
    fn whatever_is_imported_is_a_table_that_the_configuration_takes(text in map_text()) {
        let imported = imported(&text);
        let files = [("imported.toml", imported.toml.as_str())];
        let read = crate::config::prices::table(&files, &crate::config::ProcessEnvironment);
        match read {
            Ok(table) => prop_assert_eq!(table.models().count(), imported.models),
            Err(errors) => prop_assert!(false, "{errors}\n{}", imported.toml),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = imported(&text);
    }
}
