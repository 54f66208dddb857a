//! `[metrics]` and `[log]`: what the gateway says about itself.

use super::names::listed;
use super::reader::Table;

/// What is exported beside Weir's own metric names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The same figures under other tools' names, so that dashboards people have go on working. None.
    pub also: Vec<AlsoNamed>,
    /// Accounts with series of their own: so many of the worst margins, those that pay and are in loss first, and so many of
    /// the fullest limits of each measure. 20.
    pub worst_accounts: usize,
}

/// Another tool's metric names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlsoNamed {
    /// OpenTelemetry's semantic conventions for generative AI (`gen_ai_*`).
    GenAi,
    /// LiteLLM's (`litellm_*`).
    LiteLlm,
}

/// How the gateway logs, to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Lines for people or for machines. Text.
    pub format: LogFormat,
    /// The least severe level that is written. Info.
    pub level: tracing::Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Metrics {
    pub(super) fn read(table: &Table<'_>) -> Metrics {
        let words = [
            ("gen_ai", AlsoNamed::GenAi),
            ("litellm", AlsoNamed::LiteLlm),
        ];
        let expected = format!(
            "an array of {}",
            listed(words.iter().map(|(name, _)| *name))
        );
        let mut also = Vec::new();
        for named in table.list("also", &expected, |value| value.word(&words)) {
            if !also.contains(&named) {
                also.push(named);
            }
        }
        Metrics {
            also,
            worst_accounts: table.or("worst_accounts", 20, |value| value.size_count(0..=1000)),
        }
    }
}

impl Log {
    pub(super) fn read(table: &Table<'_>) -> Log {
        use tracing::Level;
        Log {
            format: table.or("format", LogFormat::Text, |value| {
                value.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
            }),
            level: table.or("level", Level::INFO, |value| {
                value.word(&[
                    ("error", Level::ERROR),
                    ("warn", Level::WARN),
                    ("info", Level::INFO),
                    ("debug", Level::DEBUG),
                    ("trace", Level::TRACE),
                ])
            }),
        }
    }
}
