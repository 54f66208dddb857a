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
    let replacement = serde_json::to_vec(model.as_str()).ok()?.into();
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
