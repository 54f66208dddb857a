//! The members of a request that matter: where they stand, and what they say.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::super::json::{LongStrings, Stopped, members, span_in};
use super::super::{Endpoint, canonical_tier, priced_region};
use super::error::{Place, shown};
use super::{Ask, AskError, Bound, END_USER_BYTES_MAX, StreamOptions, short, text_model};
use crate::ids::ModelName;
use crate::price::tier_in_region;

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
    Speed,
    Region,
    User,
    SafetyIdentifier,
    Metadata,
    PreviousResponse,
    Conversation,
    Background,
}

const NAMES: [(&str, Member); 17] = [
    ("model", Member::Model),
    ("stream", Member::Stream),
    ("stream_options", Member::StreamOptions),
    ("max_tokens", Member::MaxTokens),
    ("max_completion_tokens", Member::MaxCompletionTokens),
    ("max_output_tokens", Member::MaxOutputTokens),
    ("n", Member::Choices),
    ("best_of", Member::BestOf),
    ("service_tier", Member::ServiceTier),
    ("speed", Member::Speed),
    ("inference_geo", Member::Region),
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
pub(super) const CHOICES_MAX: u64 = 10_000;

/// As much of a response's id as an answer's reading keeps.
const ID_BYTES_MAX: usize = crate::dialect::report::ID_BYTES_MAX;

const SERVICE_TIER_BYTES_MAX: usize = 64;

/// The raw values of the members that matter.
pub(super) struct Found<'a> {
    body: &'a [u8],
    values: [Option<&'a [u8]>; NAMES.len()],
    any_member: bool,
    long_strings: LongStrings,
}

impl<'a> Found<'a> {
    pub(super) fn read(endpoint: &Endpoint, body: &'a [u8]) -> Result<Self, AskError> {
        let mut found = Found {
            body,
            values: [None; NAMES.len()],
            any_member: false,
            long_strings: LongStrings::default(),
        };
        let mut names = Names::default();
        let all = members(body, |name, value| {
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
            Ok(long_strings) => {
                found.long_strings = long_strings;
                Ok(found)
            }
            Err(Stopped::Here(error)) => Err(error),
            Err(Stopped::Syntax(error)) => Err(AskError::body(match std::str::from_utf8(body) {
                Ok(_) => format!("the request body is not one JSON object: {error}"),
                Err(error) => {
                    let place = Place::of(body, error.valid_up_to());
                    format!("the request body is not UTF-8 {place}")
                }
            })),
        }
    }

    fn value(&self, member: Member) -> Option<&'a str> {
        let index = NAMES.iter().position(|(_, known)| *known == member)?;
        let value = self.values.get(index).copied().flatten()?;
        std::str::from_utf8(value).ok()
    }

    /// For endpoints whose requests are metered: every member that matters must be what it should be.
    pub(super) fn strict(self) -> Result<Ask, AskError> {
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
            ..self.beside()
        };
        Ok(ask)
    }

    /// For endpoints that are only passed through: what can be read is read, the rest is the upstream's business.
    pub(super) fn lenient(self) -> Ask {
        let model = self.model().ok();
        Ask {
            model: model.as_ref().map(|(name, _)| name.clone()),
            model_span: model.map(|(_, span)| span),
            stream: self.flag(Member::Stream, "stream").unwrap_or(false),
            choices: self.choices(Member::Choices, "n").unwrap_or(1),
            ..self.beside()
        }
    }

    /// What is the upstream's business at every endpoint, and only noted here.
    fn beside(self) -> Ask {
        Ask {
            choices: 1,
            service_tier: self.service_tier(),
            end_user: self.end_user(),
            previous_response: self.short_text(Member::PreviousResponse, ID_BYTES_MAX),
            conversation: self.conversation(),
            first_member: self
                .any_member
                .then(|| memchr::memchr(b'{', self.body).map(|brace| brace + 1))
                .flatten(),
            long_strings: self.long_strings,
            ..Ask::default()
        }
    }

    /// By the name that prices have it under.
    fn service_tier(&self) -> Option<Box<str>> {
        let tier: Option<Box<str>> = match self.value(Member::Speed) {
            // Anthropic's, and dearer than any of its tiers.
            Some("\"fast\"") => Some("fast".into()),
            _ => self
                .short_text(Member::ServiceTier, SERVICE_TIER_BYTES_MAX)
                .map(|tier| canonical_tier(&tier).into()),
        };
        let region = self.short_text(Member::Region, SERVICE_TIER_BYTES_MAX);
        match region.as_deref().and_then(priced_region) {
            Some(region) => Some(tier_in_region(tier.as_deref(), region).into()),
            None => tier,
        }
    }

    fn model(&self) -> Result<(ModelName, Range<usize>), AskError> {
        let wrong = |what: &str| AskError::member("model", format!("`model` {what}"));
        let value = self
            .value(Member::Model)
            .ok_or_else(|| wrong("is missing"))?;
        let name: Cow<'_, str> =
            string(value).ok_or_else(|| wrong("must be a string of valid Unicode"))?;
        let name = text_model(name.as_bytes())?;
        let span = span_in(self.body, value).ok_or_else(|| wrong("is out of place"))?;
        Ok((name, span))
    }

    fn flag(&self, member: Member, name: &str) -> Result<bool, AskError> {
        match self.value(member) {
            Some("true") => Ok(true),
            None | Some("false" | "null") => Ok(false),
            Some(other) => Err(self.wrong(name, other, "must be true, false or null")),
        }
    }

    fn stream_options(&self) -> Result<Option<StreamOptions>, AskError> {
        const NAME: &str = "stream_options";
        let Some(value) = self.value(Member::StreamOptions) else {
            return Ok(None);
        };
        let span =
            span_in(self.body, value).ok_or_else(|| self.wrong(NAME, value, "is out of place"))?;
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
        members(value.as_bytes(), |name, value| {
            any_member = true;
            if name == "include_usage" && include_usage.replace(value).is_some() {
                return Err(AskError::twice("stream_options.include_usage"));
            }
            Ok(())
        })
        .map_err(|stopped| match stopped {
            Stopped::Here(error) => error,
            Stopped::Syntax(_) => self.wrong(NAME, value, "must be an object or null"),
        })?;
        options.first_member = Some((options.span.start + 1, any_member));
        if let Some(asked) = include_usage.and_then(|asked| std::str::from_utf8(asked).ok()) {
            if !matches!(asked, "true" | "false" | "null") {
                let name = "stream_options.include_usage";
                return Err(self.wrong(name, asked, "must be true, false or null"));
            }
            options.include_usage = asked == "true";
            options.include_usage_span = span_in(self.body, asked);
        }
        Ok(Some(options))
    }

    fn bound(&self, member: Member, name: &str) -> Result<Option<Bound>, AskError> {
        let Some(value) = self.value(member) else {
            return Ok(None);
        };
        let span =
            span_in(self.body, value).ok_or_else(|| self.wrong(name, value, "is out of place"))?;
        let tokens = match value {
            "null" => None,
            // What llama.cpp and LM Studio are told for "without bound".
            _ if value.parse::<f64>().is_ok_and(|number| number < 0.0) => None,
            _ => Some(self.whole_number(name, value, 0, OUTPUT_TOKENS_MAX)?),
        };
        Ok(Some(Bound { tokens, span }))
    }

    fn choices(&self, member: Member, name: &str) -> Result<u64, AskError> {
        match self.value(member) {
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
                let user_id = self.text_in(Member::Metadata, "user_id");
                short(&user_id?, END_USER_BYTES_MAX)
            })
    }

    fn conversation(&self) -> Option<Box<str>> {
        self.short_text(Member::Conversation, ID_BYTES_MAX)
            .or_else(|| short(&self.text_in(Member::Conversation, "id")?, ID_BYTES_MAX))
    }

    /// A text within an object.
    fn text_in(&self, member: Member, wanted: &str) -> Option<Cow<'a, str>> {
        let mut text = None;
        let read = members(self.value(member)?.as_bytes(), |name, value| {
            if name == wanted {
                text = std::str::from_utf8(value).ok().and_then(string);
            }
            Ok::<(), ()>(())
        });
        read.ok().and(text)
    }

    fn short_text(&self, member: Member, bytes_max: usize) -> Option<Box<str>> {
        short(&string(self.value(member)?)?, bytes_max)
    }

    fn wrong(&self, name: &str, value: &str, what: &str) -> AskError {
        let at = span_in(self.body, value).map_or(0, |span| span.start);
        let place = Place::of(self.body, at);
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

/// Whether a reader that ignores letter case (Go's `encoding/json`, which also folds `ſ` and `K`) takes `name` for `known`.
fn folds_to(name: &str, known: &str) -> bool {
    let folded = name.chars().map(|c| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    name.eq_ignore_ascii_case(known) || (!name.is_ascii() && folded.eq(known.chars()))
}

/// A JSON string's text; `None` for other values and for lone surrogates.
fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(value).ok().map(Cow::Owned)
}
