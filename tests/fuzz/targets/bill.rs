//! Any text is a provider's bill or a reason why it is none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::margin::reconcile::bill::Bill;

fuzz_target!(|text: &str| {
    if let Err(error) = Bill::read(text) {
        assert!(!error.to_string().is_empty());
    }
});
