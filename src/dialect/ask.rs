//! What a request asks, found without building a tree of its body.

mod error;
pub mod form;
mod found;

use std::ops::Range;

pub use self::error::AskError;
pub use super::json::LongStrings;

use self::found::Found;
use super::Endpoint;
use crate::ids::ModelName;

/// What the gateway needs to know of a request body, with the byte spans of what it may have to change.
///
/// A span covers the JSON value as it is written, quotes included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The model asked for. `None` only where an endpoint can do without (see [`Endpoint::needs_model`]).
    pub model: Option<ModelName>,
    /// Where its JSON string stands, or its bare name in a form.
    pub model_span: Option<Range<usize>>,
    /// The body is a form with parts, not JSON.
    pub is_form: bool,
    /// Whether the answer is to be an event stream.
    pub stream: bool,
    /// `stream_options`, if the body has it (`null` too).
    pub stream_options: Option<StreamOptions>,
    /// `max_tokens`: chat completions (older name), legacy completions, messages.
    pub max_tokens: Option<Bound>,
    /// `max_completion_tokens`: chat completions (newer name).
    pub max_completion_tokens: Option<Bound>,
    /// `max_output_tokens`: responses.
    pub max_output_tokens: Option<Bound>,
    /// How many answers are generated and billed: `n`, or `best_of` where that is larger; 1 without either.
    pub choices: u64,
    /// The tier asked for; the answer says which one was served.
    pub service_tier: Option<Box<str>>,
    /// `safety_identifier`, `user` or `metadata.user_id`, cut to [`END_USER_BYTES_MAX`].
    pub end_user: Option<Box<str>>,
    /// `previous_response_id`: the input includes the turns up to that response, which the body does not show.
    pub previous_response: Option<Box<str>>,
    /// The id of a `conversation`: the same, and this turn is added to it.
    pub conversation: Option<Box<str>>,
    /// `background: true`: the answer comes later, by another request.
    pub background: bool,
    /// The first byte after the opening brace, when the object has a member: where a member can be put in.
    pub first_member: Option<usize>,
    /// Where the body's long strings stand.
    pub long_strings: LongStrings,
}

/// `stream_options` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// The whole value, `null` included.
    pub span: Range<usize>,
    /// The value of `include_usage`, whatever it is.
    pub include_usage_span: Option<Range<usize>>,
    /// Whether the client asked for the usage chunk.
    pub include_usage: bool,
    /// Where a member can be put in, and whether others follow; `None` for `null`.
    pub first_member: Option<(usize, bool)>,
}

/// A bound on the output that the client set itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Tokens; `None` for `null`.
    pub tokens: Option<u64>,
    /// Where the number stands.
    pub span: Range<usize>,
}

impl Ask {
    /// The id of what holds earlier turns, where the endpoint knows such a thing.
    pub fn continues(&self, endpoint: &Endpoint) -> Option<&str> {
        let previous = self.previous_response.as_deref();
        previous
            .or(self.conversation.as_deref())
            .filter(|_| matches!(endpoint, Endpoint::Responses | Endpoint::CompactResponse))
    }

    /// Whether the client itself asked for the usage chunk.
    pub fn asks_usage(&self) -> bool {
        self.stream_options
            .as_ref()
            .is_some_and(|options| options.include_usage)
    }

    /// The output tokens of one answer at most, as far as the client bounds them. Where two members bound
    /// them it is the larger one, since it is the upstream that chooses: an upper bound must hold either way.
    pub fn max_output(&self, endpoint: &Endpoint) -> Option<u64> {
        let tokens = |bound: &Option<Bound>| bound.as_ref().and_then(|bound| bound.tokens);
        match endpoint {
            Endpoint::ChatCompletions => {
                tokens(&self.max_tokens).max(tokens(&self.max_completion_tokens))
            }
            Endpoint::Completions | Endpoint::Messages => tokens(&self.max_tokens),
            Endpoint::Responses => tokens(&self.max_output_tokens),
            Endpoint::Embeddings | Endpoint::CountTokens | Endpoint::Models => Some(0),
            Endpoint::CompactResponse | Endpoint::Other(_) => None,
        }
    }
}

/// A longer end user's name is cut.
pub const END_USER_BYTES_MAX: usize = 256;

/// Reads a request body.
///
/// # Errors
/// [`AskError`] whenever two JSON readers could disagree on what is asked: bytes that are not UTF-8, a byte order
/// mark, anything before or after the one object, a top-level member given twice (names compared unescaped, and
/// for members that matter here without regard to letter case, as some readers do), a model that is no plain
/// string; and whenever a member that the gateway relies on has a wrong type or range.
/// For [`Endpoint::Other`] and [`Endpoint::Models`] a body that is not JSON is no error: it is passed through unread.
pub fn read(endpoint: &Endpoint, body: &[u8]) -> Result<Ask, AskError> {
    match Found::read(endpoint, body) {
        Ok(found) if endpoint.needs_model() => found.strict(),
        Ok(found) => Ok(found.lenient()),
        Err(error) if endpoint.needs_model() || error.param.is_some() => Err(error),
        Err(_) => Ok(Ask {
            choices: 1,
            ..Ask::default()
        }),
    }
}

/// A model's name as a client wrote it.
fn text_model(name: &[u8]) -> Result<ModelName, AskError> {
    let wrong = |what: &str| AskError::member("model", format!("`model` {what}"));
    let name = std::str::from_utf8(name).map_err(|_| wrong("must be a string of valid Unicode"))?;
    if name.is_empty() {
        return Err(wrong("must not be empty"));
    }
    if name.len() > ModelName::MAX_BYTES {
        return Err(wrong("is too long"));
    }
    if name.chars().any(char::is_control) {
        return Err(wrong("must not contain control characters"));
    }
    Ok(ModelName::new(name))
}

/// Bounded and printable: it goes to the ledger and to reports. `None` when nothing is left.
fn short(text: &str, bytes_max: usize) -> Option<Box<str>> {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > bytes_max {
            break;
        }
        kept.push(c);
    }
    (!kept.is_empty()).then(|| kept.into())
}

#[cfg(test)]
mod tests;
