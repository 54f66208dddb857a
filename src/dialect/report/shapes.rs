//! Each provider's way of reporting usage, as a small answer and the usage that it means.

mod anthropic;
mod compatible;
mod openai;

use super::*;
use crate::dialect::{Dialect, Endpoint};
use crate::tokens::Usage;

fn json(endpoint: Endpoint, body: &str) -> Reading {
    let mut report = Report::new(&endpoint, Dialect::OpenAi, 1 << 20);
    assert!(report.body(body.as_bytes()), "a JSON object: {body}");
    report.finish(End::Complete)
}

fn stream(endpoint: Endpoint, events: &[&str], end: End) -> Reading {
    let mut report = Report::new(&endpoint, Dialect::OpenAi, 1 << 20);
    for event in events {
        report.event(b"", event.as_bytes());
    }
    report.finish(end)
}

fn chat(usage: &str) -> Usage {
    let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
    json(Endpoint::ChatCompletions, &body).usage.unwrap()
}

fn messages(usage: &str) -> Usage {
    let body = format!(r#"{{"type":"message","usage":{usage}}}"#);
    json(Endpoint::Messages, &body).usage.unwrap()
}

/// Input and output, and by name what else is not zero.
fn is(usage: Usage, input: u64, output: u64, others: &[(&str, u64)]) {
    let seen: Vec<(&str, u64)> = usage
        .classes()
        .into_iter()
        .filter(|(name, tokens)| !matches!(*name, "input_tokens" | "output_tokens") && *tokens > 0)
        .collect();
    assert_eq!((usage.input_tokens, usage.output_tokens), (input, output));
    assert_eq!(seen, others);
}

const READ: &str = "cache_read_input_tokens";
const WRITE: &str = "cache_write_input_tokens";
const WRITE_1H: &str = "cache_write_1h_input_tokens";
const REASONING: &str = "reasoning_output_tokens";
const AUDIO: &str = "audio_input_tokens";
