//! Real price maps, imported whole.

use super::explained::{LITELLM, LITELLM_2025};
use super::*;
use weir::price::import::import;

#[test]
fn a_real_price_map_becomes_a_table_that_the_configuration_takes() {
    let Some(data) = data() else { return };
    for (list, at_least) in [(LITELLM, 3500), (LITELLM_2025, 1200)] {
        let map = std::fs::read_to_string(data.join(list)).unwrap();
        let imported = import(&map, day("2026-11-24"), day("2026-11-24"), &[]);
        assert!(imported.models >= at_least, "{list}: {}", imported.models);
        let read = table(&[("imported.toml", &imported.toml)], &ProcessEnvironment);
        assert_eq!(read.unwrap().models().count(), imported.models, "{list}");
        assert!(
            imported.warnings.len() < 500,
            "{list}: {}",
            imported.warnings.len()
        );
    }
}

#[test]
fn the_known_errors_of_the_map_of_october_2025_are_left_out() {
    let Some(data) = data() else { return };
    let map = std::fs::read_to_string(data.join(LITELLM_2025)).unwrap();
    let imported = import(
        &map,
        day("2025-10-20"),
        day("2025-10-20"),
        &["anthropic".into(), "openai".into()],
    );
    for warning in [
        "claude-3-haiku-20240307: cache_write_1h_input is 6.00 beside an input of 0.25: left out",
        "claude-3-5-haiku-20241022: cache_write_1h_input is 6.00 beside an input of 0.80: left out",
        "claude-3-opus-20240229: cache_write_1h_input is 6.00 beside an input of 15.00: left out",
        "gpt-5-nano: input of the tier priority is 2.50 beside 0.05: left out",
    ] {
        assert!(
            imported.warnings.iter().any(|told| told == warning),
            "{warning}"
        );
    }
}

#[test]
fn what_is_imported_is_what_the_shipped_table_has() {
    let Some(data) = data() else { return };
    let map = std::fs::read_to_string(data.join(LITELLM)).unwrap();
    let imported = import(
        &map,
        day("2026-11-24"),
        day("2026-11-24"),
        &["openai".into()],
    );
    let theirs = table(&[("imported.toml", &imported.toml)], &ProcessEnvironment).unwrap();
    let ours = shipped();
    for model in ["gpt-4o", "gpt-4.1", "gpt-5.4", "gpt-6-astra"] {
        let row = |table: &PriceTable| {
            let row = table
                .model(model)
                .unwrap()
                .row_on(day("2026-11-24"))
                .unwrap();
            let mut rates = row.rates.clone();
            // Ours knows fees that the map leaves out.
            rates.web_search = None;
            rates.file_search = None;
            (rates, row.above.clone(), row.tiers.clone())
        };
        assert_eq!(row(&ours), row(&theirs), "{model}");
    }
}
