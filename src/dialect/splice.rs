//! The smallest change of a request body that a rule asks for: spans are replaced, every other byte stays.

use std::ops::Range;

use bytes::Bytes;

use super::Endpoint;
use super::ask::{Ask, Bound};
use crate::ids::ModelName;

/// One span of a body and what stands there instead. An empty span is an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes replaced.
    pub span: Range<usize>,
    /// What stands there instead.
    pub replacement: Bytes,
}

/// A body after its edits: the pieces in order, most of them slices of the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The pieces; none is empty.
    pub pieces: Vec<Bytes>,
    /// Their length together, for `content-length`.
    pub len: u64,
}

/// Asks for another model.
pub fn rename(ask: &Ask, model: &ModelName) -> Option<Edit> {
    let span = ask.model_span.clone()?;
    let replacement = match ask.is_form {
        true => Bytes::copy_from_slice(model.as_str().as_bytes()),
        false => serde_json::to_vec(model.as_str()).ok()?.into(),
    };
    Some(Edit { span, replacement })
}

/// Asks for the usage chunk of a streamed chat or legacy completion; `None` when the client asks for it already.
/// A client that wrote `include_usage: false` is asked for all the same; what it then did not want is
/// taken out of the answer again.
pub fn include_usage(ask: &Ask) -> Option<Edit> {
    if ask.asks_usage() {
        return None;
    }
    let Some(options) = &ask.stream_options else {
        return insert(ask, r#""stream_options":{"include_usage":true},"#.into());
    };
    let (span, text) = match (&options.include_usage_span, options.first_member) {
        (Some(span), _) => (span.clone(), "true"),
        (None, None) => (options.span.clone(), r#"{"include_usage":true}"#),
        (None, Some((at, true))) => (at..at, r#""include_usage":true,"#),
        (None, Some((at, false))) => (at..at, r#""include_usage":true"#),
    };
    Some(Edit {
        span,
        replacement: Bytes::from_static(text.as_bytes()),
    })
}

/// Bounds the output to `tokens`, of one answer: lowers every bound that is higher or `null`, and sets one where
/// the client set none. Nothing to do (and an empty list) when the client's own bound is low enough, or where an
/// endpoint knows no bound.
///
/// In a chat without any bound the member is `max_completion_tokens` for OpenAI's reasoning families, which refuse the
/// older name, and `max_tokens` for all others, since many compatible servers know no other. `model` is the one that
/// goes upstream.
pub fn cap_output(endpoint: &Endpoint, ask: &Ask, model: &str, tokens: u64) -> Vec<Edit> {
    let bounds: &[(&str, &Option<Bound>)] = match endpoint {
        Endpoint::ChatCompletions => &[
            ("max_completion_tokens", &ask.max_completion_tokens),
            ("max_tokens", &ask.max_tokens),
        ],
        Endpoint::Completions | Endpoint::Messages => &[("max_tokens", &ask.max_tokens)],
        Endpoint::Responses => &[("max_output_tokens", &ask.max_output_tokens)],
        _ => return Vec::new(),
    };
    let written = || bounds.iter().filter_map(|(_, bound)| bound.as_ref());
    // A `null` beside a number says nothing; a `null` alone is where the bound belongs.
    let any_number = written().any(|bound| bound.tokens.is_some());
    let edits: Vec<Edit> = written()
        .filter(|bound| match bound.tokens {
            Some(asked) => asked > tokens,
            None => !any_number,
        })
        .map(|bound| Edit {
            span: bound.span.clone(),
            replacement: tokens.to_string().into(),
        })
        .collect();
    if written().next().is_some() {
        return edits;
    }
    let member = match endpoint {
        Endpoint::ChatCompletions if refuses_max_tokens(model) => "max_completion_tokens",
        Endpoint::Responses => "max_output_tokens",
        _ => "max_tokens",
    };
    insert(ask, format!("\"{member}\":{tokens},").into())
        .into_iter()
        .collect()
}

/// The body after `edits`, which must not overlap; several insertions at one place keep their order. An edit that
/// overlaps an earlier one or reaches beyond the body is left out.
pub fn apply(body: &Bytes, mut edits: Vec<Edit>) -> Spliced {
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let mut spliced = Spliced {
        pieces: Vec::with_capacity(edits.len() * 2 + 1),
        len: 0,
    };
    let mut copied = 0;
    for Edit { span, replacement } in edits {
        if span.start < copied || span.end < span.start || span.end > body.len() {
            continue;
        }
        spliced.push(body.slice(copied..span.start));
        spliced.push(replacement);
        copied = span.end;
    }
    spliced.push(body.slice(copied..));
    spliced
}

impl Spliced {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len() as u64;
            self.pieces.push(piece);
        }
    }
}

/// A member with its comma, put before all others. The name cannot be there already: the caller has looked.
fn insert(ask: &Ask, member: Bytes) -> Option<Edit> {
    let at = ask.first_member?;
    Some(Edit {
        span: at..at,
        replacement: member,
    })
}

/// Whether a model may think where nobody sees it, at the client's cost: OpenAI's reasoning families, Gemini, Grok, and
/// Claude, which shows a summary. Other servers stream what they are billed for.
pub fn may_think_unseen(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let hides = ["gemini", "grok", "claude"];
    refuses_max_tokens(model) || hides.iter().any(|family| name.starts_with(family))
}

/// OpenAI's o series and GPT-5 on answer `max_tokens` with a 400 ("Use 'max_completion_tokens' instead").
fn refuses_max_tokens(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let generation = |prefix: &str| -> Option<u32> {
        let digits = name.strip_prefix(prefix)?;
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        digits.get(..end)?.parse().ok()
    };
    generation("o").is_some()
        || generation("gpt-").is_some_and(|generation| (5..30).contains(&generation))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::ask;

    const CHAT: Endpoint = Endpoint::ChatCompletions;

    fn ask_of(body: &str) -> Ask {
        ask::read(&CHAT, body.as_bytes()).unwrap()
    }

    fn text(spliced: &Spliced) -> String {
        let whole = spliced.pieces.concat();
        assert_eq!(whole.len() as u64, spliced.len);
        String::from_utf8(whole).unwrap()
    }

    fn spliced(body: &str, edits: impl IntoIterator<Item = Edit>) -> String {
        text(&apply(&body.to_owned().into(), edits.into_iter().collect()))
    }

    fn with_usage(body: &str) -> String {
        spliced(body, include_usage(&ask_of(body)))
    }

    fn capped(body: &str, model: &str, tokens: u64) -> String {
        spliced(body, cap_output(&CHAT, &ask_of(body), model, tokens))
    }

    #[test]
    fn usage_is_asked_for_without_touching_another_byte() {
        assert_eq!(
            with_usage(r#"{ "model":"m" }"#),
            r#"{"stream_options":{"include_usage":true}, "model":"m" }"#
        );
        assert_eq!(
            with_usage(r#"{"model":"m","stream_options":null}"#),
            r#"{"model":"m","stream_options":{"include_usage":true}}"#
        );
        assert_eq!(
            with_usage(r#"{"stream_options":{ },"model":"m"}"#),
            r#"{"stream_options":{"include_usage":true },"model":"m"}"#
        );
        assert_eq!(
            with_usage(r#"{"stream_options":{"include_obfuscation":false},"model":"m"}"#),
            r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"model":"m"}"#
        );
        for refused in ["false", "null"] {
            let body =
                format!(r#"{{"stream_options":{{"include_usage": {refused} }},"model":"m"}}"#);
            assert_eq!(with_usage(&body), body.replace(refused, "true"));
        }
        let asked = r#"{"model":"m","stream_options":{"include_usage":true}}"#;
        assert_eq!(include_usage(&ask_of(asked)), None);
    }

    #[test]
    fn a_model_is_renamed_where_it_stands() {
        let body = r#"{"a":"gpt-4o","mod\u0065l" : "gpt\u002d4o","b":1}"#;
        let edit = rename(&ask_of(body), &ModelName::new("say \"hi\""));
        assert_eq!(
            spliced(body, edit),
            r#"{"a":"gpt-4o","mod\u0065l" : "say \"hi\"","b":1}"#
        );
    }

    #[test]
    fn a_cap_lowers_a_higher_bound_and_leaves_a_lower_one() {
        let higher = r#"{"model":"m","max_tokens":1000,"max_completion_tokens":2000}"#;
        assert_eq!(
            capped(higher, "m", 256),
            r#"{"model":"m","max_tokens":256,"max_completion_tokens":256}"#
        );
        let lower = r#"{"model":"m","max_tokens":100}"#;
        assert_eq!(capped(lower, "m", 256), lower);
        let null = r#"{"model":"m","max_tokens":null}"#;
        assert_eq!(capped(null, "m", 256), r#"{"model":"m","max_tokens":256}"#);
        let beside_null = r#"{"model":"m","max_tokens":null,"max_completion_tokens":9000}"#;
        assert_eq!(
            capped(beside_null, "m", 256),
            r#"{"model":"m","max_tokens":null,"max_completion_tokens":256}"#
        );
    }

    #[test]
    fn a_cap_where_there_was_no_bound_goes_into_the_member_that_the_endpoint_reads() {
        let body = r#"{"model":"m"}"#;
        let ask = ask_of(body);
        let member = |endpoint: Endpoint, model: &str| {
            let edits = cap_output(&endpoint, &ask, model, 9);
            edits
                .first()
                .map(|edit| String::from_utf8(edit.replacement.to_vec()).unwrap())
        };
        for model in ["o1", "o3-mini", "gpt-5.4", "gpt-6", "openai/gpt-5-nano"] {
            assert_eq!(
                member(CHAT, model).unwrap(),
                "\"max_completion_tokens\":9,",
                "{model}"
            );
        }
        for model in [
            "gpt-4o",
            "gpt-4.1",
            "gpt-35-turbo",
            "gpt-oss-120b",
            "mistral-large",
            "olmo",
        ] {
            assert_eq!(member(CHAT, model).unwrap(), "\"max_tokens\":9,", "{model}");
        }
        assert_eq!(
            member(Endpoint::Completions, "o1").unwrap(),
            "\"max_tokens\":9,"
        );
        assert_eq!(
            member(Endpoint::Messages, "m").unwrap(),
            "\"max_tokens\":9,"
        );
        assert_eq!(
            member(Endpoint::Responses, "m").unwrap(),
            "\"max_output_tokens\":9,"
        );
        assert_eq!(member(Endpoint::Embeddings, "m"), None);
    }

    #[test]
    fn the_body_is_sliced_and_not_copied() {
        let body = Bytes::from(r#"{"model":"m","x":"a long text"}"#);
        let ask = ask::read(&CHAT, &body).unwrap();
        let spliced = apply(
            &body,
            rename(&ask, &ModelName::new("n")).into_iter().collect(),
        );
        assert_eq!(spliced.pieces.len(), 3);
        assert_eq!(spliced.pieces[0].as_ptr(), body.as_ptr());
        assert_eq!(spliced.pieces[2].as_ptr(), body[12..].as_ptr());
        assert_eq!(apply(&body, Vec::new()).pieces, [body]);
    }

    #[test]
    fn edits_that_overlap_or_reach_beyond_the_body_are_left_out() {
        let edit = |span: Range<usize>, replacement: &'static str| Edit {
            span,
            replacement: replacement.into(),
        };
        let edits = [
            edit(0..3, "X"),
            edit(2..4, "Y"),
            edit(9..20, "Z"),
            edit(6..6, "I"),
        ];
        assert_eq!(spliced("0123456789", edits), "X345I6789");
    }

    proptest! {
        #[test]
        fn an_edited_body_means_the_old_one_with_that_change(
            before in "[a-z ]{0,5}",
            stream_options in prop::option::of(prop::sample::select(vec![
                json!(null), json!({}), json!({"include_usage": false}), json!({"x": 1}), json!({"x": {"y": 2}, "include_usage": true}),
            ])),
            bounds in prop::collection::btree_map(
                prop::sample::select(vec!["max_tokens", "max_completion_tokens"]),
                prop::option::of(0u64..1000), 0..3),
            pretty in any::<bool>(),
            cap in 0u64..1000,
        ) {
            let mut value = json!({"a": before, "model": "m", "z": [1, {"model": "no"}]});
            if let Some(options) = stream_options {
                value["stream_options"] = options;
            }
            for (name, tokens) in bounds {
                value[name] = json!(tokens);
            }
            let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let ask = ask_of(&body);
            let mut edits: Vec<Edit> = rename(&ask, &ModelName::new("n")).into_iter().collect();
            edits.extend(include_usage(&ask));
            edits.extend(cap_output(&CHAT, &ask, "n", cap));
            let edited = spliced(&body, edits);
            let after = ask_of(&edited);
            prop_assert!(after.asks_usage());
            prop_assert_eq!(after.model.as_ref().unwrap().as_str(), "n");
            let expected = ask.max_output(&CHAT).map_or(cap, |asked| asked.min(cap));
            prop_assert_eq!(after.max_output(&CHAT), Some(expected));

            let undo = |mut value: Value| {
                for name in ["model", "stream_options", "max_tokens", "max_completion_tokens"] {
                    value.as_object_mut().unwrap().remove(name);
                }
                value
            };
            let edited: Value = serde_json::from_str(&edited).unwrap();
            let kept = |value: &Value| value["stream_options"]["x"].clone();
            prop_assert_eq!(kept(&edited), kept(&value));
            prop_assert_eq!(undo(edited), undo(value));
        }
    }
}
