//! What a meter has read when an answer is over.

use super::{Calls, OutputText};
use crate::ids::ModelName;
use crate::tokens::Usage;

/// How an answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The upstream ended it properly.
    Complete,
    /// It broke off, or nobody read on: what has come is not all.
    Aborted,
}

/// What an answer said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The tokens that the upstream reported; `None` when it reported none.
    pub usage: Option<Usage>,
    /// Whether `usage` is the bill. When it is not, the input is what the upstream reported, but the output so far is
    /// only a seed (Anthropic's `message_start` of a stream that broke off): count [`Reading::output`] and
    /// take the larger.
    pub usage_final: bool,
    /// The usage by the models that served it: one part in all but a few answers, none without usage. Their sum is `usage`.
    pub parts: Vec<ServedPart>,
    /// The model that the upstream says it used.
    pub served_model: Option<ModelName>,
    /// The tier that the upstream says it served, as prices name it (OpenAI's `fast` is `priority`, `fast` is Anthropic's).
    pub service_tier: Option<Box<str>>,
    /// The answer's id.
    pub response_id: Option<Box<str>>,
    /// The answer is only promised (`background: true`): a later request fetches it, and its usage.
    pub queued: bool,
    /// The answer was made in the background, whoever fetches it now.
    pub background: bool,
    /// When it was made, in seconds since the epoch, as far as a response says (`created_at`).
    pub created_at: Option<i64>,
    /// The text of the answer, for counting when nothing was reported.
    pub output: OutputText,
    /// Calls of the provider's own tools, for when no usage was reported.
    pub calls: Calls,
    /// The answer called tools whose bill is nowhere in it: images whose tokens it does not tell (OpenAI's
    /// `image_generation_call`), commands in a container of the provider's (`shell_call`).
    pub billed_beside: bool,
    /// How many images an answer has that is nothing else (`images.generations`).
    pub images: u64,
    /// An error that the upstream reported inside a 200: its message, cut.
    pub failed: Option<String>,
    /// A reported figure was negative or beyond [`crate::tokens::ABSURD_TOKENS`], and refused. Where no later report had a sane
    /// one in its place, no report is believed: there is no `usage`.
    pub absurd: bool,
    /// Events too long to be read, which passed unread.
    pub skipped_events: u64,
    /// The meter could not read the answer to its end (too long, an unknown or broken encoding).
    pub gave_up: bool,
}

/// A part of an answer that one model served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedPart {
    /// The model; `None` when the answer does not say.
    pub model: Option<ModelName>,
    /// Its tokens.
    pub usage: Usage,
    /// It was called by a tool of the provider's, and not asked for.
    pub by_tool: bool,
}
