//! Any JSON that reads as a ledger entry is written as JSON that reads as the same entry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::ledger::json;

fuzz_target!(|text: &[u8]| {
    let Ok(entry) = json::read(text) else {
        return;
    };
    let mut written = Vec::new();
    json::write(&entry, &mut written).expect("memory takes all");
    let again = json::read(&written).expect("what is written reads");
    let mut rewritten = Vec::new();
    json::write(&again, &mut rewritten).expect("memory takes all");
    assert_eq!(written, rewritten);
    assert_eq!(entry.cost_usd(), again.cost_usd());
    assert_eq!(entry.usage, again.usage);
});
