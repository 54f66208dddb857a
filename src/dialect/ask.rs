//! What a request asks, found without building a tree of its body.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use serde_json::value::RawValue;

use super::Endpoint;
use super::json::{Stopped, members, span_in};
use crate::ids::ModelName;

/// What the gateway needs to know of a request body, with the byte spans of what it may have to change.
///
/// A span covers the JSON value as it is written, quotes included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The model asked for. `None` only where an endpoint can do without (see [`Endpoint::needs_model`]).
    pub model: Option<ModelName>,
    /// Where its JSON string stands.
    pub model_span: Option<Range<usize>>,
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
    /// The input includes earlier turns that the body does not show (`previous_response_id`, `conversation`).
    pub continues_earlier: bool,
    /// `background: true`: the answer comes later, by another request.
    pub background: bool,
    /// The first byte after the opening brace, when the object has a member: where a member can be put in.
    pub first_member: Option<usize>,
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

/// Why a body is refused: a text that the client may read, and the member at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AskError {
    /// What is wrong and where, in words for the client.
    pub message: String,
    /// The member at fault, for the error body's `param`.
    pub param: Option<String>,
}

impl Ask {
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
            Endpoint::Other(_) => None,
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
    let found = std::str::from_utf8(body)
        .map_err(|error| {
            let place = Place::of(body, error.valid_up_to());
            AskError::body(format!("the request body is not UTF-8 {place}"))
        })
        .and_then(|text| Found::read(endpoint, text));
    match found {
        Ok(found) if endpoint.needs_model() => found.strict(),
        Ok(found) => Ok(found.lenient()),
        Err(error) if endpoint.needs_model() || error.param.is_some() => Err(error),
        Err(_) => Ok(Ask {
            choices: 1,
            ..Ask::default()
        }),
    }
}

/// The members the gateway looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    Choices,
    BestOf,
    ServiceTier,
    User,
    SafetyIdentifier,
    Metadata,
    PreviousResponse,
    Conversation,
    Background,
}

const NAMES: [(&str, Member); 15] = [
    ("model", Member::Model),
    ("stream", Member::Stream),
    ("stream_options", Member::StreamOptions),
    ("max_tokens", Member::MaxTokens),
    ("max_completion_tokens", Member::MaxCompletionTokens),
    ("max_output_tokens", Member::MaxOutputTokens),
    ("n", Member::Choices),
    ("best_of", Member::BestOf),
    ("service_tier", Member::ServiceTier),
    ("user", Member::User),
    ("safety_identifier", Member::SafetyIdentifier),
    ("metadata", Member::Metadata),
    ("previous_response_id", Member::PreviousResponse),
    ("conversation", Member::Conversation),
    ("background", Member::Background),
];

/// A request has some dozens of members; thousands of them only serve to fill our set of names.
const MEMBERS_MAX: usize = 4096;

/// More output than this in one answer is no model's; it bounds what the products below can reach.
const OUTPUT_TOKENS_MAX: u64 = crate::tokens::ABSURD_TOKENS;

/// OpenAI allows 128 answers, vLLM more; beyond this it is a mistake or an attack.
const CHOICES_MAX: u64 = 10_000;

const SERVICE_TIER_BYTES_MAX: usize = 64;

/// The raw values of the members that matter.
struct Found<'a> {
    text: &'a str,
    values: [Option<&'a RawValue>; NAMES.len()],
    any_member: bool,
}

impl<'a> Found<'a> {
    fn read(endpoint: &Endpoint, text: &'a str) -> Result<Self, AskError> {
        let mut found = Found {
            text,
            values: [None; NAMES.len()],
            any_member: false,
        };
        let mut names = Names::default();
        let all = members(text, |name, value| {
            found.any_member = true;
            let known = NAMES.iter().position(|(known, _)| *known == name);
            if let Some(slot) = known.and_then(|index| found.values.get_mut(index)) {
                if slot.replace(value).is_some() {
                    return Err(AskError::twice(&name));
                }
                return Ok(());
            }
            if endpoint.needs_model()
                && let Some((meant, _)) = NAMES.iter().find(|(known, _)| folds_to(&name, known))
            {
                let message = format!("`{}` is not a member; write `{meant}`", shown(&name));
                return Err(AskError::member(meant, message));
            }
            names.insert(name)
        });
        match all {
            Ok(()) => Ok(found),
            Err(Stopped::Here(error)) => Err(error),
            Err(Stopped::Syntax(error)) => Err(AskError::body(format!(
                "the request body is not one JSON object: {error}"
            ))),
        }
    }

    fn value(&self, member: Member) -> Option<&'a RawValue> {
        let index = NAMES.iter().position(|(_, known)| *known == member)?;
        self.values.get(index).copied().flatten()
    }

    /// For endpoints whose requests are metered: every member that matters must be what it should be.
    fn strict(&self) -> Result<Ask, AskError> {
        let (model, model_span) = self.model()?;
        let ask = Ask {
            model: Some(model),
            model_span: Some(model_span),
            stream: self.flag(Member::Stream, "stream")?,
            stream_options: self.stream_options()?,
            max_tokens: self.bound(Member::MaxTokens, "max_tokens")?,
            max_completion_tokens: self
                .bound(Member::MaxCompletionTokens, "max_completion_tokens")?,
            max_output_tokens: self.bound(Member::MaxOutputTokens, "max_output_tokens")?,
            choices: self
                .choices(Member::Choices, "n")?
                .max(self.choices(Member::BestOf, "best_of")?),
            background: self.flag(Member::Background, "background")?,
            ..self.lenient()
        };
        Ok(ask)
    }

    /// For endpoints that are only passed through: what can be read is read, the rest is the upstream's business.
    fn lenient(&self) -> Ask {
        let model = self.model().ok();
        let given = |member| {
            self.value(member)
                .is_some_and(|value| value.get() != "null")
        };
        Ask {
            model: model.as_ref().map(|(name, _)| name.clone()),
            model_span: model.map(|(_, span)| span),
            stream: self.flag(Member::Stream, "stream").unwrap_or(false),
            choices: 1,
            service_tier: self.short_text(Member::ServiceTier, SERVICE_TIER_BYTES_MAX),
            end_user: self.end_user(),
            continues_earlier: given(Member::PreviousResponse) || given(Member::Conversation),
            first_member: self
                .any_member
                .then(|| self.text.find('{').map(|brace| brace + 1))
                .flatten(),
            ..Ask::default()
        }
    }

    fn model(&self) -> Result<(ModelName, Range<usize>), AskError> {
        let wrong = |what: &str| AskError::member("model", format!("`model` {what}"));
        let value = self
            .value(Member::Model)
            .ok_or_else(|| wrong("is missing"))?;
        let name: Cow<'_, str> =
            string(value).ok_or_else(|| wrong("must be a string of valid Unicode"))?;
        if name.is_empty() {
            return Err(wrong("must not be empty"));
        }
        if name.len() > ModelName::MAX_BYTES {
            return Err(wrong("is too long"));
        }
        if name.chars().any(char::is_control) {
            return Err(wrong("must not contain control characters"));
        }
        let span = span_in(self.text, value.get()).ok_or_else(|| wrong("is out of place"))?;
        Ok((ModelName::new(&name), span))
    }

    fn flag(&self, member: Member, name: &str) -> Result<bool, AskError> {
        match self.value(member).map(RawValue::get) {
            Some("true") => Ok(true),
            None | Some("false" | "null") => Ok(false),
            Some(other) => Err(self.wrong(name, other, "must be true, false or null")),
        }
    }

    fn stream_options(&self) -> Result<Option<StreamOptions>, AskError> {
        const NAME: &str = "stream_options";
        let Some(value) = self.value(Member::StreamOptions).map(RawValue::get) else {
            return Ok(None);
        };
        let span =
            span_in(self.text, value).ok_or_else(|| self.wrong(NAME, value, "is out of place"))?;
        let mut options = StreamOptions {
            first_member: None,
            include_usage_span: None,
            include_usage: false,
            span,
        };
        if value == "null" {
            return Ok(Some(options));
        }
        let mut include_usage = None;
        let mut any_member = false;
        members(value, |name, value| {
            any_member = true;
            if name == "include_usage" && include_usage.replace(value.get()).is_some() {
                return Err(AskError::twice("stream_options.include_usage"));
            }
            Ok(())
        })
        .map_err(|stopped| match stopped {
            Stopped::Here(error) => error,
            Stopped::Syntax(_) => self.wrong(NAME, value, "must be an object or null"),
        })?;
        options.first_member = Some((options.span.start + 1, any_member));
        if let Some(asked) = include_usage {
            if !matches!(asked, "true" | "false" | "null") {
                let name = "stream_options.include_usage";
                return Err(self.wrong(name, asked, "must be true, false or null"));
            }
            options.include_usage = asked == "true";
            options.include_usage_span = span_in(self.text, asked);
        }
        Ok(Some(options))
    }

    fn bound(&self, member: Member, name: &str) -> Result<Option<Bound>, AskError> {
        let Some(value) = self.value(member).map(RawValue::get) else {
            return Ok(None);
        };
        let span =
            span_in(self.text, value).ok_or_else(|| self.wrong(name, value, "is out of place"))?;
        let tokens = match value {
            "null" => None,
            _ => Some(self.whole_number(name, value, 0, OUTPUT_TOKENS_MAX)?),
        };
        Ok(Some(Bound { tokens, span }))
    }

    fn choices(&self, member: Member, name: &str) -> Result<u64, AskError> {
        match self.value(member).map(RawValue::get) {
            None | Some("null") => Ok(1),
            Some(value) => self.whole_number(name, value, 1, CHOICES_MAX),
        }
    }

    fn whole_number(&self, name: &str, value: &str, min: u64, max: u64) -> Result<u64, AskError> {
        // 100.0 and 1e2 are whole numbers to lenient upstreams, so they are to us.
        let number = value.parse::<u64>().ok().or_else(|| {
            let number = value.parse::<f64>().ok()?;
            let whole = number.fract() == 0.0 && (0.0..=max as f64).contains(&number);
            whole.then_some(number as u64)
        });
        number
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| {
                let what = format!("must be a whole number from {min} to {max}");
                self.wrong(name, value, &what)
            })
    }

    fn end_user(&self) -> Option<Box<str>> {
        self.short_text(Member::SafetyIdentifier, END_USER_BYTES_MAX)
            .or_else(|| self.short_text(Member::User, END_USER_BYTES_MAX))
            .or_else(|| {
                let mut user_id = None;
                let read = members(self.value(Member::Metadata)?.get(), |name, value| {
                    if name == "user_id" {
                        user_id = string(value);
                    }
                    Ok::<(), ()>(())
                });
                read.ok()?;
                short(&user_id?, END_USER_BYTES_MAX)
            })
    }

    fn short_text(&self, member: Member, bytes_max: usize) -> Option<Box<str>> {
        short(&string(self.value(member)?)?, bytes_max)
    }

    fn wrong(&self, name: &str, value: &str, what: &str) -> AskError {
        let at = span_in(self.text, value).map_or(0, |span| span.start);
        let place = Place::of(self.text.as_bytes(), at);
        AskError::member(
            name,
            format!("`{name}` {what}, not {} {place}", shown(value)),
        )
    }
}

/// The names seen so far, to find one given twice.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// A list is quicker than a set for the handful of members that nearly every request has.
    const FEW: usize = 24;

    fn insert(&mut self, name: Cow<'a, str>) -> Result<(), AskError> {
        if self.few.contains(&name) || self.many.contains(&name) {
            return Err(AskError::twice(&name));
        }
        if self.many.len() >= MEMBERS_MAX {
            return Err(AskError {
                message: format!("the request body has more than {MEMBERS_MAX} members"),
                param: Some(shown(&name)),
            });
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
        } else {
            self.many.insert(name);
        }
        Ok(())
    }
}

impl AskError {
    fn body(message: String) -> Self {
        Self {
            message,
            param: None,
        }
    }

    fn member(name: &str, message: String) -> Self {
        Self {
            message,
            param: Some(name.to_owned()),
        }
    }

    fn twice(name: &str) -> Self {
        let name = shown(name);
        Self::member(&name, format!("`{name}` is given twice"))
    }
}

/// A place in the body, in words.
struct Place {
    line: usize,
    column: usize,
    byte: usize,
}

impl Place {
    fn of(body: &[u8], byte: usize) -> Self {
        let before = body.get(..byte).unwrap_or(body);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: before.len() - line_start + 1,
            byte,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { line, column, byte } = self;
        write!(f, "at line {line} column {column} (byte {byte})")
    }
}

/// Whether a reader that ignores letter case (Go's `encoding/json`, which also folds `ſ` and `K`) takes `name` for `known`.
fn folds_to(name: &str, known: &str) -> bool {
    let folded = name.chars().map(|c| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(known.chars())
}

/// A JSON string's text; `None` for other values and for lone surrogates.
fn string<'a>(value: &'a RawValue) -> Option<Cow<'a, str>> {
    let text = value.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(text).ok().map(Cow::Owned)
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

/// What a client wrote, cut so that it can stand in a message.
fn shown(text: &str) -> String {
    short(text, 64).map_or_else(|| "\"\"".to_owned(), String::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn chat(body: &str) -> Result<Ask, AskError> {
        read(&Endpoint::ChatCompletions, body.as_bytes())
    }

    fn refusal(body: &[u8]) -> (String, Option<String>) {
        let error = read(&Endpoint::ChatCompletions, body).unwrap_err();
        (error.message, error.param)
    }

    #[test]
    fn what_matters_is_found_among_what_does_not() {
        let body = r#"{"messages":[{"role":"user","content":"model"}],"model":"gpt-4o","stream":true,
            "stream_options":{"include_usage":true},"max_tokens":10,"max_completion_tokens":20,"n":3,
            "service_tier":"flex","user":"u-1"}"#;
        let ask = chat(body).unwrap();
        assert_eq!(ask.model.as_ref().unwrap().as_str(), "gpt-4o");
        assert_eq!(&body[ask.model_span.clone().unwrap()], "\"gpt-4o\"");
        assert!(ask.stream && ask.asks_usage() && !ask.background && !ask.continues_earlier);
        assert_eq!(ask.max_output(&Endpoint::ChatCompletions), Some(20));
        assert_eq!(ask.choices, 3);
        assert_eq!(ask.service_tier.as_deref(), Some("flex"));
        assert_eq!(ask.end_user.as_deref(), Some("u-1"));
    }

    #[test]
    fn each_endpoint_has_its_own_bound_of_output() {
        let body =
            br#"{"model":"m","max_tokens":1,"max_completion_tokens":2,"max_output_tokens":3}"#;
        for (endpoint, expected) in [
            (Endpoint::ChatCompletions, Some(2)),
            (Endpoint::Completions, Some(1)),
            (Endpoint::Messages, Some(1)),
            (Endpoint::Responses, Some(3)),
            (Endpoint::Embeddings, Some(0)),
        ] {
            let ask = read(&endpoint, body).unwrap();
            assert_eq!(ask.max_output(&endpoint), expected, "{endpoint}");
        }
        assert_eq!(
            chat(r#"{"model":"m"}"#)
                .unwrap()
                .max_output(&Endpoint::ChatCompletions),
            None
        );
    }

    #[test]
    fn a_response_may_continue_an_earlier_one_or_run_in_the_background() {
        let read = |body: &str| read(&Endpoint::Responses, body.as_bytes()).unwrap();
        assert!(read(r#"{"model":"m","previous_response_id":"resp_1"}"#).continues_earlier);
        assert!(read(r#"{"model":"m","conversation":{"id":"c"}}"#).continues_earlier);
        assert!(!read(r#"{"model":"m","previous_response_id":null}"#).continues_earlier);
        assert!(read(r#"{"model":"m","background":true}"#).background);
    }

    #[test]
    fn the_end_user_is_named_in_one_of_three_places() {
        let user = |body: &str| chat(body).unwrap().end_user.map(String::from);
        assert_eq!(
            user(r#"{"model":"m","metadata":{"user_id":"a"}}"#).as_deref(),
            Some("a")
        );
        assert_eq!(
            user(r#"{"model":"m","metadata":{"user_id":"a"},"user":"b"}"#).as_deref(),
            Some("b")
        );
        assert_eq!(
            user(r#"{"model":"m","safety_identifier":"c","user":"b"}"#).as_deref(),
            Some("c")
        );
        assert_eq!(user(r#"{"model":"m","user":7,"metadata":null}"#), None);
        let long = format!(r#"{{"model":"m","user":"{}\n"}}"#, "é".repeat(500));
        assert_eq!(user(&long).unwrap().len(), END_USER_BYTES_MAX);
    }

    #[test]
    fn a_member_given_twice_is_refused_however_it_is_written() {
        for (body, param) in [
            (r#"{"model":"a","model":"b"}"#, "model"),
            (r#"{"model":"a","model":"a"}"#, "model"),
            (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
            (r#"{"model":"a","stream":true,"stream":true}"#, "stream"),
            (
                r#"{"model":"a","temperature":1,"temperature":1}"#,
                "temperature",
            ),
            (r#"{"model":"a","Model":"b"}"#, "model"),
            (r#"{"model":"a","STREAM":true}"#, "stream"),
            ("{\"model\":\"a\",\"\u{17f}tream\":true}", "stream"),
            ("{\"model\":\"a\",\"max_to\u{212a}ens\":1}", "max_tokens"),
            (
                r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
                "stream_options.include_usage",
            ),
        ] {
            assert_eq!(refusal(body.as_bytes()).1.as_deref(), Some(param), "{body}");
        }
        let nested = r#"{"model":"a","tools":[{"x":1,"x":2}]}"#;
        assert!(
            chat(nested).is_ok(),
            "only the top level decides anything here"
        );
    }

    #[test]
    fn a_member_that_matters_must_be_what_it_should_be() {
        for (body, message) in [
            (r#"{}"#, "`model` is missing"),
            (
                r#"{"model":null}"#,
                "`model` must be a string of valid Unicode",
            ),
            (r#"{"model":""}"#, "`model` must not be empty"),
            (
                r#"{"model":"a\u0000"}"#,
                "`model` must not contain control characters",
            ),
            (
                r#"{"model":"\ud800"}"#,
                "`model` must be a string of valid Unicode",
            ),
            (
                "{\"model\":\"a\",\n \"stream\":\"yes\"}",
                "`stream` must be true, false or null, not \"yes\" at line 2 column 11 (byte 24)",
            ),
            (
                r#"{"model":"a","max_tokens":-1}"#,
                "`max_tokens` must be a whole number from 0 to 1000000000, not -1 at line 1 column 27 (byte 26)",
            ),
            (
                r#"{"model":"a","n":0}"#,
                "`n` must be a whole number from 1 to 10000, not 0 at line 1 column 18 (byte 17)",
            ),
            (
                r#"{"model":"a","max_tokens":1e400}"#,
                "`max_tokens` must be a whole number from 0 to 1000000000, not 1e400 at line 1 column 27 (byte 26)",
            ),
            (
                r#"{"model":"a","max_tokens":1.5}"#,
                "`max_tokens` must be a whole number from 0 to 1000000000, not 1.5 at line 1 column 27 (byte 26)",
            ),
            (
                r#"{"model":"a","stream_options":true}"#,
                "`stream_options` must be an object or null, not true at line 1 column 31 (byte 30)",
            ),
        ] {
            assert_eq!(refusal(body.as_bytes()).0, message, "{body}");
        }
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(ModelName::MAX_BYTES + 1));
        assert_eq!(refusal(long.as_bytes()).0, "`model` is too long");
    }

    #[test]
    fn numbers_may_be_written_as_lenient_upstreams_read_them() {
        let ask = chat(r#"{"model":"a","max_tokens":100.0,"max_completion_tokens":1e2,"n":null}"#)
            .unwrap();
        assert_eq!(ask.max_tokens.unwrap().tokens, Some(100));
        assert_eq!(ask.max_completion_tokens.unwrap().tokens, Some(100));
        assert_eq!(ask.choices, 1);
    }

    #[test]
    fn a_body_that_readers_could_take_apart_differently_is_refused() {
        for body in [
            b"\xef\xbb\xbf{\"model\":\"a\"}".as_slice(),
            b"{\"model\":\"a\"}x",
            b"{\"model\":\"a\"}{\"model\":\"b\"}",
            b"{\"model\":\"a\"}\0",
            b"{\"model\":\"\xff\"}",
            b"{\"model\":\"a\",\"x\":\"\xc0\xaf\"}",
            b"{\"model\":\"a\",}",
            b"{'model':'a'}",
            b"{\"model\":\"a\" /* b */}",
            b"[{\"model\":\"a\"}]",
            b"",
        ] {
            let (message, param) = refusal(body);
            assert!(
                param.is_none() && message.starts_with("the request body is not"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_endpoint_that_is_passed_through_takes_any_body() {
        let other = Endpoint::Other("files".into());
        for body in [
            b"--boundary\r\n\xff\x00".as_slice(),
            b"",
            b"[1]",
            b"{\"model\":",
        ] {
            let ask = read(&other, body).unwrap();
            assert_eq!((ask.model, ask.choices), (None, 1));
        }
        let ask = read(
            &other,
            br#"{"model":"tts-1","n":"x","stream":7,"max_tokens":{}}"#,
        )
        .unwrap();
        assert_eq!(ask.model.unwrap().as_str(), "tts-1");
        assert!(read(&other, br#"{"model":"a","model":"b"}"#).is_err());
    }

    #[test]
    fn deep_nesting_and_many_members_are_bounded() {
        let deep = format!(
            r#"{{"model":"a","x":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(chat(&deep).is_ok());
        let many: Vec<String> = (0..10_000).map(|index| format!("\"m{index}\":0")).collect();
        let (message, _) = refusal(format!("{{{}}}", many.join(",")).as_bytes());
        assert!(message.contains("more than 4096 members"), "{message}");
    }

    /// A tree where it is one to `serde_json` too, with the members that matter in odd forms.
    fn bodies() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "model",
            "mod\\u0065l",
            "stream",
            "n",
            "max_tokens",
            "user",
            "x",
            "Model",
            "stream_options",
        ]);
        let value = prop::sample::select(vec![
            "\"gpt-4o\"",
            "\"\"",
            "true",
            "false",
            "null",
            "1",
            "-1",
            "2.0",
            "[{}]",
            "{\"include_usage\":true}",
            "\"\\u00e9\"",
            "\"\\ud83d\"",
            "{\"a\":{\"model\":\"b\"}}",
            "01",
            "\"a\tb\"",
        ]);
        prop::collection::vec((name, value), 0..6).prop_map(|members| {
            let members: Vec<String> = members
                .into_iter()
                .map(|(name, value)| format!(" \"{name}\" : {value} "))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_a_tree_says(body in bodies()) {
            let Ok(ask) = chat(&body) else { return Ok(()) };
            let Ok(tree) = serde_json::from_str::<Value>(&body) else {
                // Only lone surrogates in members that do not matter are more than serde_json takes.
                prop_assert!(body.contains("\\ud83d"));
                return Ok(());
            };
            prop_assert_eq!(&json!(ask.model.as_ref().unwrap().as_str()), &tree["model"]);
            prop_assert_eq!(ask.stream, tree["stream"] == json!(true));
            prop_assert_eq!(ask.choices, tree["n"].as_f64().unwrap_or(1.0) as u64);
            let span = ask.model_span.unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&body[span]).unwrap(), tree["model"].clone());
            prop_assert_eq!(body.matches("\"model\"").count() + body.matches("\"mod\\u0065l\"").count() - body.matches("{\"model\":\"b\"}").count(), 1);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&Endpoint::ChatCompletions, &body);
            let _ = read(&Endpoint::Other("x".into()), &body);
        }
    }
}
