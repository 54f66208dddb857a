//! Any text is a configuration or a list of mistakes, and no mistake shows a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::environment::FixedEnvironment;
use weir::config::parse;

fuzz_target!(|text: &[u8]| {
    let mut text = text.to_vec();
    if memchr::memmem::find(&text, b"[prices]").is_none() {
        // Reading the shipped table of 500 models each time would be all that is done.
        text.extend_from_slice(b"\n[prices]\nfiles = [\"prices.toml\"]\n");
    }
    let environment = FixedEnvironment::default()
        .with_variable("KEY", "sk-0123456789")
        .with_file("prices.toml", "[[models]]\nmodel = \"m\"\n");
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
