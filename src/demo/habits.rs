//! What subscribers do: how often, when in the day, with which models, and how much of them.

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

/// What a subscriber does day by day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    /// Its name: the tag `habit` of the account.
    pub(super) name: &'static str,
    /// Requests on an ordinary day.
    pub(super) a_day: f64,
    /// Of these, on a day of the weekend.
    pub(super) weekend: f64,
    /// When in the day.
    pub(super) hours: Hours,
    /// How large its prompts are, against the tasks' own size.
    pub(super) size: f64,
    /// What it asks, and how often.
    pub(super) tasks: &'static [(u32, Task)],
}

/// When in the day somebody is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hours {
    /// In the office.
    Office,
    /// Whenever a person is awake.
    Waking,
    /// Round the clock: no person does that.
    Always,
    /// In one stretch from one o'clock at night.
    Night,
}

impl Hours {
    /// A moment of the day in milliseconds, for somebody who lives so many hours east of Greenwich.
    pub(super) fn moment(self, east: u64, chance: &mut Chance) -> u64 {
        const HOUR_MS: u64 = 3_600_000;
        if self == Hours::Night {
            return HOUR_MS + chance.below(9 * HOUR_MS);
        }
        let local = (0..24_u64).map(|hour| (self.weight(hour), hour));
        let local: Vec<(u32, u64)> = local.collect();
        let hour = chance.pick(&local).copied().unwrap_or(12);
        (hour + 24 - east % 24) % 24 * HOUR_MS + chance.below(HOUR_MS)
    }

    fn weight(self, hour: u64) -> u32 {
        match (self, hour) {
            (Hours::Always | Hours::Night, _) => 1,
            (Hours::Office, 9..=11 | 13..=16) => 8,
            (Hours::Office, 8 | 12 | 17..=18) => 3,
            (Hours::Office, 19..=21) => 1,
            (Hours::Office, _) => 0,
            (Hours::Waking, 7..=8 | 22..=23) => 3,
            (Hours::Waking, 9..=21) => 6,
            (Hours::Waking, _) => 0,
        }
    }
}

/// A task on which others are built.
const CHAT: Task = Task {
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
const QUICK: Task = Task {
    model: "gpt-4o-mini",
    served: "gpt-4o-mini-2024-07-18",
    input: 900.0,
    output: 260.0,
    ..CHAT
};
const THINKING: Task = Task {
    model: "gpt-5",
    served: "gpt-5-2025-08-07",
    input: 6_000.0,
    output: 2_600.0,
    reasoning: 55,
    ..CHAT
};
const RESEARCH: Task = Task {
    api: Api::Responses,
    model: "o3",
    served: "o3-2025-04-16",
    input: 24_000.0,
    output: 6_000.0,
    reasoning: 75,
    streamed: 600,
    ..CHAT
};
const OPUS: Task = Task {
    api: Api::Messages,
    model: "claude-opus-4-1",
    served: "claude-opus-4-1-20250805",
    input: 16_000.0,
    output: 1_500.0,
    cached: 50,
    ..CHAT
};
const CODE: Task = Task {
    api: Api::Messages,
    model: "claude-sonnet-4-5",
    served: "claude-sonnet-4-5-20250929",
    input: 15_000.0,
    output: 1_100.0,
    cached: 60,
    feature: Some("edit"),
    ..CHAT
};
const COMPLETE: Task = Task {
    model: "gpt-4.1-mini",
    served: "gpt-4.1-mini-2025-04-14",
    input: 3_500.0,
    output: 90.0,
    streamed: 1000,
    feature: Some("complete"),
    ..CHAT
};
const LEGACY: Task = Task {
    api: Api::Completions,
    model: "gpt-3.5-turbo-instruct",
    served: "gpt-3.5-turbo-instruct",
    input: 700.0,
    output: 150.0,
    cached: 0,
    streamed: 200,
    ..CHAT
};
const EMBED: Task = Task {
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
const HOUSE_MODEL: Task = Task {
    model: "house-llama",
    served: "house-llama",
    input: 1_500.0,
    output: 300.0,
    cached: 0,
    feature: Some("classify"),
    ..CHAT
};

/// Tries the free plan now and then.
pub(super) const TRIES: Habit = Habit {
    name: "tries",
    a_day: 1.2,
    weekend: 1.0,
    hours: Hours::Waking,
    size: 1.0,
    tasks: &[
        (9, QUICK),
        (
            1,
            Task {
                input: 1_200.0,
                ..CHAT
            },
        ),
    ],
};

/// Chats.
pub(super) const CHATS: Habit = Habit {
    name: "chats",
    a_day: 3.0,
    weekend: 0.8,
    hours: Hours::Waking,
    size: 1.0,
    tasks: &[
        (50, CHAT),
        (15, QUICK),
        (24, THINKING),
        (
            8,
            Task {
                input: 9_000.0,
                output: 2_600.0,
                ..RESEARCH
            },
        ),
        (
            2,
            Task {
                tier: Some("priority"),
                ..THINKING
            },
        ),
        (1, LEGACY),
    ],
};

/// Works with it.
pub(super) const WORKS: Habit = Habit {
    name: "works",
    a_day: 14.0,
    weekend: 0.5,
    hours: Hours::Waking,
    size: 1.0,
    tasks: &[
        (30, RESEARCH),
        (30, CHAT),
        (25, THINKING),
        (16, OPUS),
        (
            3,
            Task {
                tier: Some("flex"),
                ..THINKING
            },
        ),
    ],
};

/// Writes code with a seat for ten dollars.
pub(super) const CODES: Habit = Habit {
    name: "codes",
    a_day: 8.0,
    weekend: 0.15,
    hours: Hours::Office,
    size: 1.0,
    tasks: &[(60, COMPLETE), (35, CODE), (5, QUICK)],
};

/// Lets an agent run round the clock on a subscription.
pub(super) const AGENT: Habit = Habit {
    name: "agent",
    a_day: 360.0,
    weekend: 1.0,
    hours: Hours::Always,
    size: 1.0,
    tasks: &[(
        1,
        Task {
            input: 34_000.0,
            output: 1_300.0,
            spread: 0.5,
            cached: 80,
            feature: Some("agent"),
            ..OPUS
        },
    )],
};

/// Sells one subscription on to forty people.
pub(super) const RESELLS: Habit = Habit {
    name: "resells",
    a_day: 480.0,
    weekend: 0.9,
    hours: Hours::Waking,
    size: 1.0,
    tasks: &[
        (
            5,
            Task {
                input: 60_000.0,
                output: 11_000.0,
                spread: 0.6,
                ..RESEARCH
            },
        ),
        (
            3,
            Task {
                input: 34_000.0,
                output: 14_000.0,
                ..THINKING
            },
        ),
        (
            2,
            Task {
                input: 28_000.0,
                ..OPUS
            },
        ),
    ],
};

/// Has a whole library read by the model that thinks longest.
pub(super) const READS_LIBRARIES: Habit = Habit {
    name: "reads-libraries",
    a_day: 150.0,
    weekend: 1.0,
    hours: Hours::Always,
    size: 1.0,
    tasks: &[(
        1,
        Task {
            model: "o1",
            served: "o1-2024-12-17",
            input: 24_000.0,
            output: 6_500.0,
            spread: 0.5,
            cached: 0,
            feature: Some("digest"),
            ..RESEARCH
        },
    )],
};

/// A team that searches its documents.
pub(super) const SEARCHES: Habit = Habit {
    name: "searches",
    a_day: 40.0,
    weekend: 0.3,
    hours: Hours::Office,
    size: 1.0,
    tasks: &[
        (6, EMBED),
        (
            4,
            Task {
                feature: Some("answer"),
                ..CHAT
            },
        ),
    ],
};

/// The night in which the team let a job loose on everything that it has.
pub(super) const BATCH_JOB: Habit = Habit {
    name: "searches",
    a_day: 14_000.0,
    weekend: 1.0,
    hours: Hours::Night,
    size: 1.0,
    tasks: &[(
        1,
        Task {
            model: "o1",
            served: "o1-2024-12-17",
            input: 20_000.0,
            output: 3_200.0,
            spread: 0.25,
            cached: 0,
            streamed: 0,
            feature: Some("nightly-reindex"),
            ..RESEARCH
        },
    )],
};

/// After that night its requests still come, and are refused.
pub(super) const SEARCHES_ON: Habit = Habit {
    name: "searches",
    a_day: 25.0,
    weekend: 0.3,
    hours: Hours::Office,
    size: 1.0,
    tasks: &[(
        1,
        Task {
            model: "o1",
            served: "o1-2024-12-17",
            input: 9_000.0,
            output: 2_000.0,
            cached: 0,
            streamed: 0,
            feature: Some("answer"),
            ..RESEARCH
        },
    )],
};

/// A team that answers customers.
pub(super) const SUPPORTS: Habit = Habit {
    name: "supports",
    a_day: 110.0,
    weekend: 0.6,
    hours: Hours::Waking,
    size: 1.0,
    tasks: &[(
        1,
        Task {
            input: 7_000.0,
            output: 600.0,
            spread: 0.5,
            cached: 0,
            feature: Some("reply"),
            ..CHAT
        },
    )],
};

/// The same team after somebody changed the model's name in one line.
pub(super) const SUPPORTS_DEARLY: Habit = Habit {
    tasks: &[(
        1,
        Task {
            model: "gpt-4.5-preview",
            served: "gpt-4.5-preview-2025-02-27",
            input: 7_000.0,
            output: 600.0,
            spread: 0.5,
            cached: 0,
            feature: Some("reply"),
            ..CHAT
        },
    )],
    ..SUPPORTS
};

/// A team with a little of everything.
pub(super) const BUILDS: Habit = Habit {
    name: "builds",
    a_day: 30.0,
    weekend: 0.2,
    hours: Hours::Office,
    size: 1.0,
    tasks: &[(4, CODE), (3, THINKING), (2, CHAT), (1, LEGACY)],
};

/// A team with a model of its own that nobody has given a price.
pub(super) const CLASSIFIES: Habit = Habit {
    name: "classifies",
    a_day: 30.0,
    weekend: 1.0,
    hours: Hours::Always,
    size: 1.0,
    tasks: &[(4, QUICK), (1, EMBED), (5, HOUSE_MODEL)],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn every_model_but_the_house_model_has_a_price_under_both_of_its_names() {
        let config = config::parse(b"", "demo", &config::FixedEnvironment::default()).unwrap();
        for habit in [
            TRIES,
            CHATS,
            WORKS,
            CODES,
            AGENT,
            RESELLS,
            READS_LIBRARIES,
            SEARCHES,
            BATCH_JOB,
            SEARCHES_ON,
            SUPPORTS,
            SUPPORTS_DEARLY,
            BUILDS,
            CLASSIFIES,
        ] {
            for (_, task) in habit.tasks {
                for name in [task.model, task.served] {
                    let entry = config.prices.model(name);
                    assert_eq!(entry.is_some(), name != "house-llama", "{name}");
                    if let (Some(tier), Some(entry)) = (task.tier, entry) {
                        let row = entry.rows.last().unwrap();
                        assert!(row.tiers.contains_key(tier), "{name} {tier}");
                    }
                }
            }
        }
    }

    #[test]
    fn parts_lie_within_their_totals() {
        let mut chance = Chance::of(1, 1, 1);
        for (_, task) in CODES.tasks.iter().chain(WORKS.tasks).chain(AGENT.tasks) {
            for _ in 0..200 {
                let usage = task.usage(1.0, &mut chance);
                let cached = usage.cache_read_input_tokens + usage.cache_write_input_tokens;
                assert!(cached <= usage.input_tokens, "{usage:?}");
                assert!(usage.reasoning_output_tokens <= usage.output_tokens);
            }
        }
    }

    #[test]
    fn people_sleep_and_agents_do_not() {
        let mut chance = Chance::of(1, 1, 1);
        let mut hours = |hours: Hours| {
            let mut seen = [0; 24];
            for _ in 0..2000 {
                seen[(hours.moment(0, &mut chance) / 3_600_000) as usize] += 1;
            }
            seen
        };
        assert_eq!(hours(Hours::Waking)[3], 0);
        assert!(hours(Hours::Always)[3] > 0);
        assert_eq!(hours(Hours::Night)[15], 0);
    }
}
