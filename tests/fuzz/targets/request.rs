//! Whatever the request scanner lets through, serde_json reads as the same thing, before its edits and after.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir::dialect::{Endpoint, ask, splice};
use weir::ids::ModelName;
use weir::meter::count::Extent;

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let endpoint = match first % 5 {
        0 => Endpoint::ChatCompletions,
        1 => Endpoint::Completions,
        2 => Endpoint::Responses,
        3 => Endpoint::Embeddings,
        _ => Endpoint::Messages,
    };
    let _ = ask::form::read("multipart/form-data; boundary=b", body);
    let Ok(ask) = ask::read(&endpoint, body) else {
        return;
    };
    assert_eq!(
        Extent::knowing(body, &ask.long_strings),
        Extent::of(body)
    );
    let Some(before) = tree(body) else {
        return;
    };
    let model = ask.model.as_ref().map(ModelName::as_str);
    assert_eq!(before["model"].as_str(), model);
    assert_eq!(before["stream"].as_bool().unwrap_or(false), ask.stream);

    let new = ModelName::from("another \"model\"");
    let mut edits: Vec<_> = splice::rename(&ask, &new).into_iter().collect();
    let streamed = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    if streamed {
        edits.extend(splice::include_usage(&ask));
    }
    edits.extend(splice::cap_output(&endpoint, &ask, new.as_str(), 7));
    let spliced = splice::apply(&Bytes::copy_from_slice(body), edits);
    let body = spliced.pieces.concat();
    assert_eq!(spliced.len, body.len() as u64);

    let after = tree(&body).expect("a spliced body is still JSON");
    assert_eq!(after["model"].as_str(), Some(new.as_str()));
    if streamed {
        assert_eq!(after["stream_options"]["include_usage"], true);
    }
    for bound in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
        let known = match endpoint {
            Endpoint::ChatCompletions => bound != "max_output_tokens",
            Endpoint::Responses => bound == "max_output_tokens",
            Endpoint::Embeddings => false,
            _ => bound == "max_tokens",
        };
        if known && let Some(tokens) = after[bound].as_u64() {
            assert!(tokens <= 7, "{bound} is {tokens}");
        }
    }
    // Everything else is as it was.
    let edited = [
        "model",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
    ];
    let others = |tree: &Value| {
        let mut tree = tree.clone();
        if let Value::Object(members) = &mut tree {
            members.retain(|name, _| !edited.contains(&name.as_str()));
        }
        tree
    };
    assert_eq!(others(&before), others(&after));
});

/// The body as serde_json reads it; `None` for what its tree cannot hold though it is JSON.
fn tree(body: &[u8]) -> Option<Value> {
    match serde_json::from_slice(body) {
        Ok(tree) => Some(tree),
        Err(error) => {
            let message = error.to_string();
            let beyond = [
                "recursion limit",
                "number out of range",
                "surrogate",
                "hex escape",
            ];
            assert!(
                beyond.iter().any(|reason| message.contains(reason)),
                "the scanner let through what serde_json refuses: {message}"
            );
            None
        }
    }
}
