//! What subscribers do: how often, when in the day, and which tasks.

use super::chance::Chance;
use super::tasks::{
    CHAT, CODE, COMPLETE, EMBED, HOUSE_MODEL, LEGACY, OPUS, QUICK, RESEARCH, THINKING, Task,
};

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
