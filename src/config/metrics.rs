//! `[metrics]` and `[log]`: what the gateway says about itself.

/// What is exported beside Weir's own metric names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The same figures under other tools' names, so that dashboards people have go on working. None.
    pub also: Vec<AlsoNamed>,
    /// Accounts with series of their own: so many of the worst. 20.
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
