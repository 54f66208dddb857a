//! The wire dialects: what a request asks, where usage sits in an answer, how an error looks.
//!
//! Everything here takes bytes and returns values: no socket, no clock.

pub mod ask;
pub mod error_body;
pub(crate) mod json;
pub mod length_stop;
pub mod report;
pub mod splice;

use std::fmt;

/// How an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `/v1/chat/completions` and its family, as OpenAI and all compatible servers speak it.
    OpenAi,
    /// OpenAI's bodies under Azure's paths, with an `api-key` header and deployments in place of models.
    Azure,
    /// `/v1/messages`.
    Anthropic,
}

/// What a path under `/v1/` is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses` (creation; a later `GET` of a response is [`Endpoint::Other`] and free)
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`: answered by the provider, costs nothing.
    CountTokens,
    /// `/v1/models`, answered by the gateway.
    Models,
    /// Any other path: passed through, recorded and unpriced. Holds the ledger's name for it (`audio.transcriptions`).
    Other(std::sync::Arc<str>),
}

impl Endpoint {
    /// The endpoint of a path such as `/v1/chat/completions`; `None` outside `/v1/`.
    pub fn of_path(path: &str) -> Option<Endpoint> {
        let rest = path.strip_prefix("/v1/")?.trim_end_matches('/');
        Some(match rest {
            "chat/completions" => Endpoint::ChatCompletions,
            "completions" => Endpoint::Completions,
            "responses" => Endpoint::Responses,
            "embeddings" => Endpoint::Embeddings,
            "messages" => Endpoint::Messages,
            "messages/count_tokens" => Endpoint::CountTokens,
            "models" => Endpoint::Models,
            _ => Endpoint::Other(other_name(rest).into()),
        })
    }

    /// The name in ledger and metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Endpoint::ChatCompletions => "chat.completions",
            Endpoint::Completions => "completions",
            Endpoint::Responses => "responses",
            Endpoint::Embeddings => "embeddings",
            Endpoint::Messages => "messages",
            Endpoint::CountTokens => "messages.count_tokens",
            Endpoint::Models => "models",
            Endpoint::Other(name) => name,
        }
    }

    /// Which dialect's errors its clients understand.
    pub fn error_dialect(&self) -> Dialect {
        match self {
            Endpoint::Messages | Endpoint::CountTokens => Dialect::Anthropic,
            Endpoint::Other(name) if name.starts_with("messages") => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether a request must name its model: it decides route, price and limits.
    pub fn needs_model(&self) -> bool {
        self.is_metered() || *self == Endpoint::CountTokens
    }

    /// Whether an answer has usage to be metered.
    pub fn is_metered(&self) -> bool {
        matches!(
            self,
            Endpoint::ChatCompletions
                | Endpoint::Completions
                | Endpoint::Responses
                | Endpoint::Embeddings
                | Endpoint::Messages
        )
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Path segments joined by dots; ids (anything with a digit) become `id` so that the name says what, not which.
fn other_name(rest: &str) -> String {
    let segments = rest
        .split('/')
        .filter(|segment| !segment.is_empty())
        .take(4);
    let named = segments.map(|segment| {
        let plain = segment.len() <= 32
            && segment
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-');
        if plain { segment } else { "id" }
    });
    named.collect::<Vec<_>>().join(".")
}
