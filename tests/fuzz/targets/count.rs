//! Counting any body never panics, never exceeds the bound that was reserved for it, and cuts text as tiktoken does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::dialect::Endpoint;
use weir::meter::count::{Encoding, Extent, Tokenizer, input_tokens, upper_bound_input};

fuzz_target!(|body: &[u8]| {
    assert!(Extent::of(body).countable_bytes() <= body.len() as u64);
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Responses,
        Endpoint::Embeddings,
        Endpoint::Messages,
    ] {
        for model in ["gpt-4o", "claude-sonnet-4-5"] {
            let tokenizer = Tokenizer::for_model(model, None);
            let counted = input_tokens(&endpoint, tokenizer, model, body);
            let bound = upper_bound_input(&endpoint, tokenizer, model, body);
            assert!(
                counted.tokens <= bound,
                "{counted:?} above its bound of {bound}"
            );
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let reference = tiktoken_rs::o200k_base_singleton().count_ordinary(text) as u64;
        assert_eq!(Encoding::O200kBase.count(text), reference);
    }
});
