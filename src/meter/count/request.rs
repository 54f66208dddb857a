//! The input tokens of a request, read from its body.

use serde_json::value::RawValue;

use crate::dialect::Endpoint;
use crate::tokens::UsageSource;

use super::encoding::Tokenizer;
use super::extent::Extent;
use super::tally::Tally;
use super::{Counted, chat, claude, json};

/// The input tokens of a request: what the provider would report for it.
///
/// Equal to the bill for plain text in chats of gpt-3.5 to 4.1, in completions and in embeddings; an estimate, and called
/// so, with images, sound, documents, tools or schemas. A body that cannot be read is estimated from its length.
pub fn input_tokens(
    endpoint: &Endpoint,
    tokenizer: Tokenizer,
    model: &str,
    body: &[u8],
) -> Counted {
    match tally(endpoint, tokenizer, model, body) {
        Some(tally) => tally.counted(),
        None => Counted {
            tokens: Extent::of(body).estimate(model),
            source: UsageSource::Estimated,
        },
    }
}

/// Text up to this many bytes is counted for a tight bound: about 0.6 ms.
pub const INLINE_BYTES_MAX: u64 = 16 << 10;

/// A body with more images than this is not walked for a tight bound.
const TIGHT_BODY_BYTES_MAX: usize = 256 << 10;

/// Tokens that a known model may bill beyond a count: a future snapshot's framing.
const SLACK_TOKENS: u64 = 8;

/// Tokens that an unknown model may bill beyond a count: its template's own words.
const UNKNOWN_SLACK_TOKENS: u64 = 32;

/// The most input tokens that a request can be billed: what admission reserves. Cheap: one pass over the body, and a count
/// only of short text, where it spares a budget from being locked up.
pub fn upper_bound_input(
    endpoint: &Endpoint,
    tokenizer: Tokenizer,
    model: &str,
    body: &[u8],
) -> u64 {
    let extent = Extent::of(body);
    let loose = extent.upper_bound(model);
    if extent.countable_bytes() > INLINE_BYTES_MAX || body.len() > TIGHT_BODY_BYTES_MAX {
        return loose;
    }
    let Some(tally) = tally(endpoint, tokenizer, model, body) else {
        return loose;
    };
    let text = tally.text_tokens();
    let most = match tally.counted().source {
        UsageSource::Counted => text + SLACK_TOKENS,
        // Tools and schemas: bills of up to 1.45 times the rendering were recorded.
        _ if tokenizer.known => text + text / 2 + SLACK_TOKENS,
        // Another vocabulary: none in use has twice as many tokens.
        _ => text * 2 + UNKNOWN_SLACK_TOKENS,
    };
    let tight = most.saturating_add(extent.media_upper_bound(model));
    tight.min(loose)
}

fn tally<'m>(
    endpoint: &Endpoint,
    tokenizer: Tokenizer,
    model: &'m str,
    body: &[u8],
) -> Option<Tally<'m>> {
    let body: &RawValue = serde_json::from_slice(body).ok()?;
    let body = body.get();
    if !json::is_object(body) {
        return None;
    }
    let mut tally = Tally::new(tokenizer, model);
    match endpoint {
        Endpoint::ChatCompletions => chat::count(body, model, &mut tally),
        Endpoint::Responses | Endpoint::CompactResponse => {
            chat::count_response(body, model, &mut tally);
        }
        Endpoint::Messages | Endpoint::CountTokens => claude::count(body, &mut tally),
        Endpoint::Completions => {
            count_texts(json::member(body, "prompt")?, &mut tally);
            if let Some(suffix) = json::member(body, "suffix").and_then(json::text) {
                tally.text(&suffix);
                tally.guess();
            }
        }
        Endpoint::Embeddings => count_texts(json::member(body, "input")?, &mut tally),
        Endpoint::Models | Endpoint::Other(_) => return None,
    }
    Some(tally)
}

/// A text, texts, tokens (each is one), or arrays of tokens.
fn count_texts(value: &str, tally: &mut Tally<'_>) {
    if !json::is_array(value) {
        tally.text_of(value);
        return;
    }
    json::each_element(value, |element| {
        if json::is_array(element) {
            json::each_element(element, |_| tally.add(1));
        } else if let Some(text) = json::text(element) {
            tally.text(&text);
        } else {
            tally.add(1);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn count(endpoint: Endpoint, model: &str, body: serde_json::Value) -> Counted {
        let tokenizer = Tokenizer::for_model(model, None);
        let body = body.to_string();
        let counted = input_tokens(&endpoint, tokenizer, model, body.as_bytes());
        let bound = upper_bound_input(&endpoint, tokenizer, model, body.as_bytes());
        assert!(
            counted.tokens <= bound,
            "{counted:?} above its bound of {bound}: {body}"
        );
        counted
    }

    fn exactly(tokens: u64) -> Counted {
        Counted {
            tokens,
            source: UsageSource::Counted,
        }
    }

    #[test]
    fn the_cookbooks_chat_costs_what_the_cookbook_says() {
        let body = json!({"messages": [
            {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
            {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
            {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
            {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
            {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
            {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
        ]});
        // The figures that OpenAI's API reported for it, as the cookbook prints them.
        for (model, tokens) in [
            ("gpt-3.5-turbo-0301", 127),
            ("gpt-3.5-turbo", 129),
            ("gpt-4-0613", 129),
            ("gpt-4", 129),
            ("gpt-4o", 124),
            ("gpt-4o-mini", 124),
        ] {
            assert_eq!(
                count(Endpoint::ChatCompletions, model, body.clone()),
                exactly(tokens),
                "{model}"
            );
        }
    }

    #[test]
    fn parts_of_text_cost_what_the_text_costs() {
        let text =
            json!({"messages": [{"role": "user", "content": "What is the capital of France?"}]});
        let part = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]});
        let response = json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "What is the capital of France?"}]}]});
        let short = json!({"input": "What is the capital of France?"});
        assert_eq!(
            count(Endpoint::ChatCompletions, "gpt-4o", text),
            exactly(14)
        );
        assert_eq!(
            count(Endpoint::ChatCompletions, "gpt-4o", part),
            exactly(14)
        );
        assert_eq!(count(Endpoint::Responses, "gpt-4.1", response), exactly(14));
        assert_eq!(count(Endpoint::Responses, "gpt-4.1", short), exactly(14));
    }

    #[test]
    fn special_tokens_in_text_are_ordinary_text() {
        let body = json!({"messages": [{"role": "user", "content": "<|endoftext|>"}]});
        assert_eq!(
            count(Endpoint::ChatCompletions, "gpt-4o", body),
            exactly(7 + 7)
        );
    }

    #[test]
    fn prompts_and_inputs_come_as_text_or_as_tokens() {
        for (value, tokens) in [
            (json!("hello world"), 2),
            (json!(["hello world", "hello"]), 3),
            (json!([1, 2, 3, 4]), 4),
            (json!([[1, 2], [3]]), 3),
            (json!([]), 0),
        ] {
            let embeddings = json!({"input": value.clone()});
            let completions = json!({"prompt": value});
            assert_eq!(
                count(Endpoint::Embeddings, "text-embedding-3-small", embeddings),
                exactly(tokens)
            );
            assert_eq!(
                count(Endpoint::Completions, "gpt-3.5-turbo-instruct", completions),
                exactly(tokens)
            );
        }
    }

    #[test]
    fn an_image_costs_by_its_detail_and_makes_an_estimate() {
        let body = |detail: &str| {
            json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": detail}}]}]})
        };
        let counted = |tokens| Counted {
            tokens,
            source: UsageSource::Estimated,
        };
        assert_eq!(
            count(Endpoint::ChatCompletions, "gpt-4o", body("low")),
            counted(85 + 7)
        );
        assert_eq!(
            count(Endpoint::ChatCompletions, "gpt-4o", body("high")),
            counted(765 + 7)
        );
    }

    #[test]
    fn tools_are_an_estimate_near_the_bill() {
        let weather = json!({"messages": [{"role": "user", "content": "What is the weather in Paris?"}],
            "tools": [{"type": "function", "function": {"name": "weather", "description": "The weather of a place.",
                "parameters": {"type": "object", "required": ["place"], "properties": {
                    "place": {"type": "string", "description": "A town."},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "near": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"km": {"type": "number"}}}]}}}}}]});
        let counted = count(Endpoint::ChatCompletions, "gpt-4o", weather);
        assert_eq!(counted.source, UsageSource::Estimated);
        assert!((70..110).contains(&counted.tokens), "{counted:?}");
    }

    #[test]
    fn what_cannot_be_read_is_estimated_and_never_panics() {
        let deep = format!(
            "{{\"messages\":{}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let deep_schema = format!(
            "{{\"tools\":[{{\"name\":\"f\",\"parameters\":{}{{}}{}}}]}}",
            "{\"type\":\"object\",\"properties\":{\"a\":".repeat(5_000),
            "}}".repeat(5_000),
        );
        for body in [
            "",
            "[]",
            "{",
            "{\"messages\":7}",
            "\u{0}",
            "null",
            &deep,
            &deep_schema,
        ] {
            for endpoint in [
                Endpoint::ChatCompletions,
                Endpoint::Completions,
                Endpoint::Responses,
                Endpoint::Embeddings,
                Endpoint::Messages,
                Endpoint::Other("audio.speech".into()),
            ] {
                let tokenizer = Tokenizer::for_model("gpt-4o", None);
                input_tokens(&endpoint, tokenizer, "gpt-4o", body.as_bytes());
                upper_bound_input(&endpoint, tokenizer, "gpt-4o", body.as_bytes());
            }
        }
    }

    #[test]
    fn a_long_text_is_not_counted_for_a_bound() {
        let tokenizer = Tokenizer::for_model("gpt-4o", None);
        let bound = |words: usize| {
            let body = json!({"messages": [{"role": "user", "content": "word ".repeat(words)}]});
            let body = body.to_string();
            let loose = Extent::of(body.as_bytes()).upper_bound("gpt-4o");
            let endpoint = Endpoint::ChatCompletions;
            let bound = upper_bound_input(&endpoint, tokenizer, "gpt-4o", body.as_bytes());
            (bound, loose)
        };
        let (short, loose) = bound(1_000);
        assert!(short < loose);
        let (long, loose) = bound(4_000);
        assert_eq!(long, loose);
    }

    #[test]
    fn text_beyond_the_cap_is_estimated() {
        let body = json!({"messages": [{"role": "user", "content": "a b c ".repeat(super::super::COUNTED_BYTES_MAX / 4)}]});
        let counted = count(Endpoint::ChatCompletions, "gpt-4o", body);
        assert_eq!(counted.source, UsageSource::Estimated);
    }

    #[test]
    fn recorded_chats_cost_what_openai_billed() {
        let shared = std::env::var("WEIR_SHARED").map_or_else(
            |_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
            std::path::PathBuf::from,
        );
        let Ok(folder) = std::fs::read_dir(shared.join("recordings")) else {
            println!("skipped: the recordings are not here");
            return;
        };
        let mut compared = 0;
        for file in folder {
            let path = file.unwrap().path();
            if !path.to_string_lossy().ends_with(".meta.json") {
                continue;
            }
            let meta: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let (request, usage) = (&meta["request"], &meta["expected"]["usage"]);
            let model = meta["model_in_body"].as_str().unwrap_or_default();
            let plain = request.is_object()
                && ["tools", "response_format"]
                    .iter()
                    .all(|name| request[name].is_null());
            if !plain || !usage.is_object() || !Tokenizer::for_model(model, None).known {
                continue;
            }
            let endpoint = match meta["api"].as_str() {
                Some("chat") => Endpoint::ChatCompletions,
                Some("responses") => Endpoint::Responses,
                _ => continue,
            };
            let reported: u64 = [
                "input_uncached",
                "cache_read",
                "cache_write_5m",
                "cache_write_1h",
                "cache_write",
            ]
            .iter()
            .filter_map(|class| usage[class].as_u64())
            .sum();
            assert_eq!(
                count(endpoint, model, request.clone()),
                exactly(reported),
                "{}",
                meta["id"]
            );
            compared += 1;
        }
        assert!(compared >= 8, "only {compared} recordings are plain chats");
    }

    /// JSON of the names and values that counting knows, in every combination that makes no sense.
    fn anything() -> impl Strategy<Value = serde_json::Value> {
        const NAMES: &[&str] = &[
            "messages",
            "input",
            "prompt",
            "system",
            "instructions",
            "role",
            "content",
            "type",
            "text",
            "image_url",
            "url",
            "detail",
            "source",
            "data",
            "file",
            "file_data",
            "input_audio",
            "tools",
            "functions",
            "function",
            "name",
            "description",
            "parameters",
            "properties",
            "items",
            "anyOf",
            "enum",
            "required",
            "tool_calls",
            "arguments",
            "response_format",
            "json_schema",
            "schema",
            "output",
            "result",
            "tool_choice",
            "input_schema",
            "format",
        ];
        const TEXTS: &[&str] = &[
            "text",
            "image",
            "image_url",
            "input_image",
            "document",
            "file",
            "input_file",
            "input_audio",
            "tool_use",
            "tool_result",
            "content",
            "image_generation_call",
            "function",
            "object",
            "array",
            "low",
            "original",
            "user",
            "a",
            "漢漢",
            "<|endoftext|>",
            "data:image/png;base64,AAAA",
            "\u{1}\n\"",
        ];
        let leaf = prop_oneof![
            prop::sample::select(TEXTS).prop_map(serde_json::Value::from),
            any::<u32>().prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(6, 48, 6, |value| {
            prop_oneof![
                prop::collection::vec(value.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec((prop::sample::select(NAMES), value), 0..6).prop_map(
                    |members| members
                        .into_iter()
                        .map(|(name, value)| (name.to_string(), value))
                        .collect::<serde_json::Map<_, _>>()
                        .into()
                ),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn no_body_counts_above_its_bound(
            name in "messages|input|prompt|tools|system",
            value in anything(),
            also in "messages|input|tools|functions|response_format|text|output_config|instructions|suffix",
            other in anything(),
            model in "gpt-4o|gpt-4o-mini|claude-sonnet-4-5|gpt-5\\.4|o1-mini|gpt-3\\.5-turbo|o4-mini|mistral-large",
        ) {
            let body = json!({also: other, name: value});
            for endpoint in [
                Endpoint::ChatCompletions,
                Endpoint::Completions,
                Endpoint::Responses,
                Endpoint::Embeddings,
                Endpoint::Messages,
            ] {
                count(endpoint, &model, body.clone());
            }
        }
    }
}
