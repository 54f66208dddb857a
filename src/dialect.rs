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
use std::sync::{Arc, LazyLock};

use http::Method;

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
    /// `/v1/responses/compact`: takes what a response takes, but no maximum of its output, and is billed like one.
    CompactResponse,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`: answered by the provider, costs nothing.
    CountTokens,
    /// `/v1/models`, answered by the gateway.
    Models,
    /// Any other path: passed through and recorded; priced only where [`Endpoint::may_report`]. Holds the ledger's name for it (`audio.transcriptions`).
    Other(Arc<str>),
}

impl Endpoint {
    /// The endpoint of a path such as `/v1/chat/completions`; `None` outside `/v1/`.
    pub fn of_path(path: &str) -> Option<Endpoint> {
        let rest = path.strip_prefix("/v1/")?.trim_end_matches('/');
        Some(match rest {
            "chat/completions" => Endpoint::ChatCompletions,
            "completions" => Endpoint::Completions,
            "responses" => Endpoint::Responses,
            "responses/compact" => Endpoint::CompactResponse,
            "embeddings" => Endpoint::Embeddings,
            "messages" => Endpoint::Messages,
            "messages/count_tokens" => Endpoint::CountTokens,
            "models" => Endpoint::Models,
            _ => Endpoint::Other(other_name(rest).into()),
        })
    }

    /// What a request asks for. Whoever only looks at a metered path asks for nothing that is metered: `GET
    /// /v1/chat/completions` lists what was stored.
    pub fn of_request(method: &Method, path: &str) -> Option<Endpoint> {
        let endpoint = Endpoint::of_path(path)?;
        let looks = matches!(
            *method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
        );
        Some(if looks && endpoint.needs_model() {
            Endpoint::Other(endpoint.as_str().into())
        } else {
            endpoint
        })
    }

    /// The name in ledger and metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Endpoint::ChatCompletions => "chat.completions",
            Endpoint::Completions => "completions",
            Endpoint::Responses => "responses",
            Endpoint::CompactResponse => "responses.compact",
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
                | Endpoint::CompactResponse
                | Endpoint::Embeddings
                | Endpoint::Messages
        )
    }

    /// Whether an answer beside the metered ones can be priced: by what it reports (tokens, seconds) or is (images), or by
    /// the request.
    pub fn may_report(&self) -> bool {
        matches!(self, Endpoint::Other(name) if REPORTING.contains(&&**name))
    }

    /// Whether a maximum of the output can be sent along, where there is output. Without one a request holds all that the
    /// model can put out.
    pub fn takes_maximum(&self) -> bool {
        *self != Endpoint::CompactResponse && !self.may_report()
    }
}

/// The paths of OpenAI's and Anthropic's APIs that are only passed through, by their ledger names. Ascending.
/// Sources: platform.openai.com/docs/api-reference, docs.anthropic.com/en/api.
const PASSED_THROUGH: [&str; 36] = [
    "assistants",
    "assistants.id",
    "audio.speech",
    "audio.transcriptions",
    "audio.translations",
    "batches",
    "batches.id",
    "batches.id.cancel",
    "chat.completions.id",
    "conversations",
    "conversations.id",
    "conversations.id.items",
    "files",
    "files.id",
    "files.id.content",
    "fine_tuning.jobs",
    "fine_tuning.jobs.id",
    "images.edits",
    "images.generations",
    "images.variations",
    "messages.batches",
    "messages.batches.id",
    "messages.batches.id.results",
    "models.id",
    "moderations",
    "realtime.client_secrets",
    "rerank",
    "responses.id",
    "responses.id.cancel",
    "responses.id.input_items",
    "responses.input_tokens",
    "threads",
    "threads.id.messages",
    "threads.id.runs",
    "uploads",
    "vector_stores",
];

/// Those of them whose answers can be priced.
/// Sources: platform.openai.com/docs/api-reference/audio, /images and /moderations, docs.cohere.com/reference/rerank.
const REPORTING: [&str; 8] = [
    "audio.speech",
    "audio.transcriptions",
    "audio.translations",
    "images.edits",
    "images.generations",
    "images.variations",
    "moderations",
    "rerank",
];

/// An endpoint's name as a metric's label: itself where an API has it, else `other`. Clients make up paths as they like.
pub fn endpoint_label(name: &Arc<str>) -> Arc<str> {
    static OTHER: LazyLock<Arc<str>> = LazyLock::new(|| "other".into());
    let metered = matches!(
        &**name,
        "chat.completions"
            | "completions"
            | "responses"
            | "responses.compact"
            | "embeddings"
            | "messages"
            | "messages.count_tokens"
            | "models"
    );
    if metered || PASSED_THROUGH.binary_search(&&**name).is_ok() {
        Arc::clone(name)
    } else {
        Arc::clone(&OTHER)
    }
}

/// A service tier by the name that prices have it under: what OpenAI is asked for as `fast` is its `priority`.
pub(crate) fn canonical_tier(tier: &str) -> &str {
    if tier == "fast" { "priority" } else { tier }
}

/// Anthropic's `inference_geo`, where it names a region that a request is kept in.
pub(crate) fn priced_region(geo: &str) -> Option<&str> {
    let named = (1..=REGION_BYTES_MAX).contains(&geo.len())
        && geo.bytes().all(|byte| byte.is_ascii_lowercase());
    (named && geo != "global").then_some(geo)
}

const REGION_BYTES_MAX: usize = 16;

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Path segments joined by dots; ids become `id` so that the name says what, not which: what stands in a collection, whatever
/// it looks like, and elsewhere anything with a digit.
fn other_name(rest: &str) -> String {
    let segments = rest
        .split('/')
        .filter(|segment| !segment.is_empty())
        .take(4);
    let mut collection: Option<&[&str]> = None;
    let named = segments.map(|segment| {
        let plain = segment.len() <= 32
            && segment
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-');
        let is_name = plain && collection.is_none_or(|names| names.contains(&segment));
        let name = if is_name { segment } else { "id" };
        let known = COLLECTIONS.binary_search_by_key(&name, |(collection, _)| collection);
        collection = known.ok().and_then(|at| Some(COLLECTIONS.get(at)?.1));
        name
    });
    named.collect::<Vec<_>>().join(".")
}

/// What APIs keep things in, and what may stand there that is no thing's id. Ascending. Sources as of [`PASSED_THROUGH`].
const COLLECTIONS: [(&str, &[&str]); 26] = [
    ("assistants", &[]),
    ("batches", &[]),
    ("calls", &[]),
    ("checkpoints", &[]),
    ("completions", &[]),
    ("containers", &[]),
    ("conversations", &[]),
    ("evals", &[]),
    ("file_batches", &[]),
    ("files", &[]),
    ("items", &[]),
    ("jobs", &[]),
    ("messages", &["batches", "count_tokens"]),
    ("models", &[]),
    ("output_items", &[]),
    ("permissions", &[]),
    ("responses", &["compact", "input_tokens"]),
    ("runs", &[]),
    ("sessions", &[]),
    ("skills", &[]),
    ("steps", &[]),
    ("threads", &["runs"]),
    ("uploads", &[]),
    ("vector_stores", &[]),
    ("versions", &[]),
    ("videos", &["characters", "edits", "extensions"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_name_whatever_it_looks_like() {
        for (path, name) in [
            ("/v1/threads/runs", "threads.runs"),
            ("/v1/threads/abc/runs/def/steps", "threads.id.runs.id"),
            (
                "/v1/vector_stores/vs/files/abc",
                "vector_stores.id.files.id",
            ),
            ("/v1/evals/eval/runs/run", "evals.id.runs.id"),
            ("/v1/realtime/calls/abc/accept", "realtime.calls.id.accept"),
            ("/v1/messages/abc", "messages.id"),
            ("/v1/rerank", "rerank"),
            ("/v1/audio/transcriptions", "audio.transcriptions"),
        ] {
            assert_eq!(Endpoint::of_path(path).unwrap().as_str(), name, "{path}");
        }
    }

    #[test]
    fn paths_that_no_api_has_share_one_label() {
        assert!(PASSED_THROUGH.is_sorted());
        assert!(COLLECTIONS.is_sorted_by_key(|(name, _)| *name));
        for (path, label) in [
            ("/v1/chat/completions", "chat.completions"),
            ("/v1/responses/resp_1", "responses.id"),
            ("/v1/responses/resp_abc", "responses.id"),
            ("/v1/responses/resp_abc/cancel", "responses.id.cancel"),
            ("/v1/responses/cancel/cancel", "responses.id.cancel"),
            ("/v1/responses/abc/input_items", "responses.id.input_items"),
            ("/v1/responses/input_tokens", "responses.input_tokens"),
            ("/v1/responses/compact", "responses.compact"),
            ("/v1/conversations/conv_abc/items", "conversations.id.items"),
            ("/v1/files/file-abc/content", "files.id.content"),
            ("/v1/fine_tuning/jobs/ftjob-abc", "fine_tuning.jobs.id"),
            ("/v1/models/whisper", "models.id"),
            ("/v1/chat/completions/abc", "chat.completions.id"),
            ("/v1/messages/batches/abc", "messages.batches.id"),
            ("/v1/threads/abc/runs", "threads.id.runs"),
            ("/v1/batches/batch_1/cancel", "batches.id.cancel"),
            ("/v1/made/up", "other"),
            ("/v1/uploads/upload_1/parts", "other"),
        ] {
            let endpoint = Endpoint::of_path(path).unwrap();
            assert_eq!(&*endpoint_label(&endpoint.as_str().into()), label, "{path}");
        }
    }
}
