//! A price map of any content becomes a table that is TOML and holds as many models as it says, or warnings.
#![no_main]

use jiff::civil::date;
use libfuzzer_sys::fuzz_target;
use weir::price::import::{MAX_WARNINGS, import};

fuzz_target!(|text: &str| {
    let imported = import(text, date(2026, 1, 1), date(2026, 2, 1), &[]);
    let table: toml::Table = imported.toml.parse().expect("an import is TOML");
    let models = table.get("models").and_then(|models| models.as_array());
    assert_eq!(models.map_or(0, Vec::len), imported.models);
    assert!(imported.warnings.len() <= MAX_WARNINGS);
});
