//! Usage: the tokens of one request, by class, and what else it is billed by.

use serde::{Deserialize, Serialize};

/// A count of one class above this is refused as absurd (INTERFACE.md, "Usage and price").
pub const ABSURD_TOKENS: u64 = 1_000_000_000;

/// The tokens of one request by class. **Totals contain their parts**: `input_tokens` contains cache
/// reads, cache writes, audio and images; `output_tokens` contains reasoning, audio and images.
///
/// The `Usage` that leaves [`crate::dialect`] is already normalised to this, whatever the provider's own habit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All tokens of the prompt.
    pub input_tokens: u64,
    /// Of these, read from the provider's prompt cache.
    pub cache_read_input_tokens: u64,
    /// Of these, written to the provider's prompt cache, whatever the lifetime.
    pub cache_write_input_tokens: u64,
    /// Of the cache writes, those kept for an hour.
    pub cache_write_1h_input_tokens: u64,
    /// Of the input, audio.
    pub audio_input_tokens: u64,
    /// Of the input, images (reported apart only where the provider prices them apart).
    pub image_input_tokens: u64,
    /// All tokens of the answer.
    pub output_tokens: u64,
    /// Of these, reasoning that the client may never see.
    pub reasoning_output_tokens: u64,
    /// Of these, audio.
    pub audio_output_tokens: u64,
    /// Of these, images.
    pub image_output_tokens: u64,
    /// Calls of the provider's own web search, billed by the call (a count, no tokens).
    pub web_search_requests: u64,
    /// Calls of its search in files, billed by the call (a count, no tokens).
    pub file_search_requests: u64,
    /// Calls of its code interpreter, billed by the call or by the container (a count, no tokens).
    pub code_interpreter_requests: u64,
    /// Images made by a model that is billed by the image (a count, no tokens).
    pub images: u64,
    /// Seconds of audio heard by a model that is billed by the second (no tokens).
    pub audio_seconds: u64,
}

impl Usage {
    /// How many classes there are.
    pub const CLASSES: usize = 15;

    /// Input and output together.
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Whether nothing at all was used.
    pub fn is_zero(&self) -> bool {
        *self == Usage::default()
    }

    /// Every class with its name, in the order of the ledger's JSON.
    pub fn classes(&self) -> [(&'static str, u64); Usage::CLASSES] {
        [
            ("input_tokens", self.input_tokens),
            ("cache_read_input_tokens", self.cache_read_input_tokens),
            ("cache_write_input_tokens", self.cache_write_input_tokens),
            (
                "cache_write_1h_input_tokens",
                self.cache_write_1h_input_tokens,
            ),
            ("audio_input_tokens", self.audio_input_tokens),
            ("image_input_tokens", self.image_input_tokens),
            ("output_tokens", self.output_tokens),
            ("reasoning_output_tokens", self.reasoning_output_tokens),
            ("audio_output_tokens", self.audio_output_tokens),
            ("image_output_tokens", self.image_output_tokens),
            ("web_search_requests", self.web_search_requests),
            ("file_search_requests", self.file_search_requests),
            ("code_interpreter_requests", self.code_interpreter_requests),
            ("images", self.images),
            ("audio_seconds", self.audio_seconds),
        ]
    }

    /// The counts in the order of [`Usage::classes`].
    pub fn counts(&self) -> [u64; Usage::CLASSES] {
        self.classes().map(|(_, count)| count)
    }

    /// The usage whose [`Usage::counts`] these are.
    pub fn from_counts(counts: [u64; Usage::CLASSES]) -> Usage {
        let [
            input_tokens,
            cache_read_input_tokens,
            cache_write_input_tokens,
            cache_write_1h_input_tokens,
            audio_input_tokens,
            image_input_tokens,
            output_tokens,
            reasoning_output_tokens,
            audio_output_tokens,
            image_output_tokens,
            web_search_requests,
            file_search_requests,
            code_interpreter_requests,
            images,
            audio_seconds,
        ] = counts;
        Usage {
            input_tokens,
            cache_read_input_tokens,
            cache_write_input_tokens,
            cache_write_1h_input_tokens,
            audio_input_tokens,
            image_input_tokens,
            output_tokens,
            reasoning_output_tokens,
            audio_output_tokens,
            image_output_tokens,
            web_search_requests,
            file_search_requests,
            code_interpreter_requests,
            images,
            audio_seconds,
        }
    }

    /// Class by class with `merge` applied.
    pub fn zip(&self, other: &Usage, merge: impl Fn(u64, u64) -> u64) -> Usage {
        Usage {
            input_tokens: merge(self.input_tokens, other.input_tokens),
            cache_read_input_tokens: merge(
                self.cache_read_input_tokens,
                other.cache_read_input_tokens,
            ),
            cache_write_input_tokens: merge(
                self.cache_write_input_tokens,
                other.cache_write_input_tokens,
            ),
            cache_write_1h_input_tokens: merge(
                self.cache_write_1h_input_tokens,
                other.cache_write_1h_input_tokens,
            ),
            audio_input_tokens: merge(self.audio_input_tokens, other.audio_input_tokens),
            image_input_tokens: merge(self.image_input_tokens, other.image_input_tokens),
            output_tokens: merge(self.output_tokens, other.output_tokens),
            reasoning_output_tokens: merge(
                self.reasoning_output_tokens,
                other.reasoning_output_tokens,
            ),
            audio_output_tokens: merge(self.audio_output_tokens, other.audio_output_tokens),
            image_output_tokens: merge(self.image_output_tokens, other.image_output_tokens),
            web_search_requests: merge(self.web_search_requests, other.web_search_requests),
            file_search_requests: merge(self.file_search_requests, other.file_search_requests),
            code_interpreter_requests: merge(
                self.code_interpreter_requests,
                other.code_interpreter_requests,
            ),
            images: merge(self.images, other.images),
            audio_seconds: merge(self.audio_seconds, other.audio_seconds),
        }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        *self = self.zip(&other, u64::saturating_add);
    }
}

/// How the figures of a [`Usage`] came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported them.
    Reported,
    /// Weir counted them with the model's tokenizer.
    Counted,
    /// Neither was possible: an estimate from the length of the text.
    Estimated,
    /// Nothing was to be paid.
    #[default]
    None,
}

impl UsageSource {
    /// All sources, in the order of their codes in the store.
    pub const ALL: [UsageSource; 4] = [
        UsageSource::Reported,
        UsageSource::Counted,
        UsageSource::Estimated,
        UsageSource::None,
    ];

    /// The name in ledger and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            UsageSource::Reported => "reported",
            UsageSource::Counted => "counted",
            UsageSource::Estimated => "estimated",
            UsageSource::None => "none",
        }
    }
}
