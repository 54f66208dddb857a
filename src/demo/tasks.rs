//! What is asked: with which model, by which API, how large.

use super::chance::Chance;
use crate::tokens::Usage;

/// A kind of request.
#[derive(Debug, PartialEq)]
pub(super) struct Task {
    /// Where it is asked.
    pub(super) api: Api,
    /// The model that is asked for.
    pub(super) model: &'static str,
    /// What the provider calls it in its answers.
    pub(super) served: &'static str,
    /// Tokens of the prompt: half of the requests have fewer.
    pub(super) input: f64,
    /// Tokens of the answer, reasoning included: half of the answers have fewer.
    pub(super) output: f64,
    /// How far sizes lie apart: 0 is all the same, 1 a heavy tail.
    pub(super) spread: f64,
    /// Of the answer, reasoning, in percent.
    pub(super) reasoning: u64,
    /// Of the prompt, read from the provider's cache where it has it, in percent.
    pub(super) cached: u64,
    /// How many of a thousand are streamed.
    pub(super) streamed: u32,
    /// The service tier that is asked for and served, where it is not the standard one.
    pub(super) tier: Option<&'static str>,
    /// The feature that it is attributed to, in `x-weir-tags`.
    pub(super) feature: Option<&'static str>,
}

/// The APIs that the demo speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's legacy completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's messages.
    Messages,
}

impl Api {
    /// Its name in the ledger.
    pub(super) fn endpoint(self) -> &'static str {
        match self {
            Api::Chat => "chat.completions",
            Api::Completions => "completions",
            Api::Responses => "responses",
            Api::Embeddings => "embeddings",
            Api::Messages => "messages",
        }
    }

    /// Its path.
    pub(super) fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Responses => "/v1/responses",
            Api::Embeddings => "/v1/embeddings",
            Api::Messages => "/v1/messages",
        }
    }

    /// Which of the demo's upstreams speaks it.
    pub(super) fn upstream(self) -> &'static str {
        match self {
            Api::Messages => "anthropic",
            _ => "openai",
        }
    }
}

impl Task {
    /// What one such request used.
    pub(super) fn usage(&self, size: f64, chance: &mut Chance) -> Usage {
        let input_tokens = chance
            .around(self.input * size, self.spread)
            .clamp(8.0, LARGEST) as u64;
        let output_tokens = match self.api {
            Api::Embeddings => 0,
            _ => chance.around(self.output, self.spread).clamp(1.0, 30_000.0) as u64,
        };
        let mut usage = Usage {
            input_tokens,
            output_tokens,
            reasoning_output_tokens: output_tokens * self.reasoning / 100,
            ..Usage::default()
        };
        // Providers cache prompts of 1,024 tokens and more, in steps of 128.
        if self.cached > 0 && input_tokens >= 1024 && chance.permille(700) {
            usage.cache_read_input_tokens = input_tokens * self.cached / 100 / 128 * 128;
            if self.api == Api::Messages {
                usage.cache_write_input_tokens = (input_tokens - usage.cache_read_input_tokens) / 2;
            }
        }
        usage
    }
}

/// Prompts stay below the threshold of the long-context prices.
const LARGEST: f64 = 190_000.0;

/// A task on which others are built.
pub(super) const CHAT: Task = Task {
    api: Api::Chat,
    model: "gpt-4o",
    served: "gpt-4o-2024-11-20",
    input: 6_500.0,
    output: 700.0,
    spread: 0.8,
    reasoning: 0,
    cached: 40,
    streamed: 850,
    tier: None,
    feature: None,
};
pub(super) const QUICK: Task = Task {
    model: "gpt-4o-mini",
    served: "gpt-4o-mini-2024-07-18",
    input: 900.0,
    output: 260.0,
    ..CHAT
};
pub(super) const THINKING: Task = Task {
    model: "gpt-5",
    served: "gpt-5-2025-08-07",
    input: 6_000.0,
    output: 2_600.0,
    reasoning: 55,
    ..CHAT
};
pub(super) const RESEARCH: Task = Task {
    api: Api::Responses,
    model: "o3",
    served: "o3-2025-04-16",
    input: 24_000.0,
    output: 6_000.0,
    reasoning: 75,
    streamed: 600,
    ..CHAT
};
pub(super) const OPUS: Task = Task {
    api: Api::Messages,
    model: "claude-opus-4-1",
    served: "claude-opus-4-1-20250805",
    input: 16_000.0,
    output: 1_500.0,
    cached: 50,
    ..CHAT
};
pub(super) const CODE: Task = Task {
    api: Api::Messages,
    model: "claude-sonnet-4-5",
    served: "claude-sonnet-4-5-20250929",
    input: 15_000.0,
    output: 1_100.0,
    cached: 60,
    feature: Some("edit"),
    ..CHAT
};
pub(super) const COMPLETE: Task = Task {
    model: "gpt-4.1-mini",
    served: "gpt-4.1-mini-2025-04-14",
    input: 3_500.0,
    output: 90.0,
    streamed: 1000,
    feature: Some("complete"),
    ..CHAT
};
pub(super) const LEGACY: Task = Task {
    api: Api::Completions,
    model: "gpt-3.5-turbo-instruct",
    served: "gpt-3.5-turbo-instruct",
    input: 700.0,
    output: 150.0,
    cached: 0,
    streamed: 200,
    ..CHAT
};
pub(super) const EMBED: Task = Task {
    api: Api::Embeddings,
    model: "text-embedding-3-small",
    served: "text-embedding-3-small",
    input: 6_000.0,
    output: 0.0,
    cached: 0,
    streamed: 0,
    feature: Some("search"),
    ..CHAT
};
pub(super) const HOUSE_MODEL: Task = Task {
    model: "house-llama",
    served: "house-llama",
    input: 1_500.0,
    output: 300.0,
    cached: 0,
    feature: Some("classify"),
    ..CHAT
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_within_their_totals() {
        let mut chance = Chance::of(1, 1, 1);
        for task in [CHAT, QUICK, THINKING, RESEARCH, OPUS, CODE, COMPLETE] {
            for _ in 0..200 {
                let usage = task.usage(1.0, &mut chance);
                let cached = usage.cache_read_input_tokens + usage.cache_write_input_tokens;
                assert!(cached <= usage.input_tokens, "{usage:?}");
                assert!(usage.reasoning_output_tokens <= usage.output_tokens);
            }
        }
    }
}
