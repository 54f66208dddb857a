//! Any price table that reads is written as one that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::environment::FixedEnvironment;
use weir::config::prices::table;
use weir::price::toml_text::write_model;

fuzz_target!(|text: &str| {
    let environment = FixedEnvironment::default();
    let Ok(first) = table(&[("prices.toml", text)], &environment) else {
        return;
    };
    let written: String = first.models().map(|model| write_model(model)).collect();
    let again = table(&[("prices.toml", &written)], &environment).expect("what is written reads");
    assert_eq!(first.models().count(), again.models().count());
    for model in first.models() {
        let other = again.models().find(|other| other.model == model.model);
        assert_eq!(Some(model), other);
    }
});
