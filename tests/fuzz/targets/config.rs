//! Any text is a configuration or a list of mistakes, and no mistake shows a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::environment::FixedEnvironment;
use weir::config::parse;

fuzz_target!(|text: &[u8]| {
    // Without price files of its own a configuration has the shipped table of 500 models: reading that each time would be
    // all that is done.
    let own_prices = memchr::memmem::find(text, b"[prices]").is_some();
    let is_toml = std::str::from_utf8(text).is_ok_and(|text| text.parse::<toml::Table>().is_ok());
    if !is_toml && text.len() % 64 != 0 {
        return;
    }
    let mut text = text.to_vec();
    if !own_prices {
        text.extend_from_slice(b"\n[prices]\nfiles = [\"prices.toml\"]\n");
    }
    let environment = FixedEnvironment::default()
        .with_variable("KEY", "sk-0123456789")
        .with_file("prices.toml", PRICES);
    if let Err(mistakes) = parse(&text, "weir.toml", &environment) {
        let shown = mistakes.to_string();
        assert!(!shown.is_empty());
        // Unless the text has it in the clear.
        if memchr::memmem::find(&text, b"sk-0123456789").is_none() {
            assert!(
                !shown.contains("sk-0123456789"),
                "a mistake shows a secret: {shown}"
            );
        }
    }
});

const PRICES: &str = r#"
[[models]]
model = "gpt-4o"
[[models.prices]]
from = 2024-10-02
input = "2.50"
output = "10.00"
source = "a page"
"#;
