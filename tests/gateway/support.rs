//! The words that the tests are written in.

pub mod certificates;
pub mod client;
pub mod gateway;
pub mod misfortune;
pub mod raw;
pub mod services;
pub mod upstream;

pub use client::Client;
pub use gateway::Gateway;
pub use services::{Postgres, Redis};
pub use upstream::{Asked, Body, Reply, Upstream};

/// The configuration that most tests start from: one upstream behind every OpenAI model, the same one in Anthropic's
/// dialect behind Claude models, one account with the key `sk-acme`.
pub fn config(upstream: &Upstream, more: &str) -> String {
    let url = upstream.url();
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
token = "admin-token"
[[upstreams]]
id = "sim"
base_url = "{url}"
api_key = "sk-upstream"
timeouts = {{ connect = "2s", first_byte = "5s", idle = "5s", total = "60s" }}
[[upstreams]]
id = "sim-anthropic"
base_url = "{url}"
dialect = "anthropic"
api_key = "sk-upstream"
[[routes]]
models = ["claude-*"]
endpoints = ["messages", "messages.count_tokens"]
upstreams = ["sim-anthropic"]
[[routes]]
models = ["*"]
upstreams = ["sim", "sim-anthropic"]
{more}
"#
    )
}

/// An account without limits.
pub const ACME: &str = r#"
[[plans]]
id = "pro"
price = "200.00"
period = "month"
[[accounts]]
id = "acme"
plan = "pro"
since = 2026-01-01
keys = [{ id = "acme-app", secret = "sk-acme" }]
"#;

/// Where chat requests go.
pub const CHAT_PATH: &str = "/v1/chat/completions";

/// A chat request of a few words.
pub const CHAT: &str =
    r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello."}]}"#;

/// A chat answer that reports so many tokens.
pub fn chat_answer(input: u64, output: u64) -> String {
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hello."}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}}}"#,
        input + output
    )
}

/// The chunks of a streamed chat answer, each one event; the last reports usage if the request asked for it.
pub fn chat_chunks(words: &[&str], usage: Option<(u64, u64)>) -> Vec<String> {
    let chunk = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":{choices}{usage}}}\n\n"
        )
    };
    let null = if usage.is_some() {
        ",\"usage\":null"
    } else {
        ""
    };
    let mut chunks: Vec<String> = words
        .iter()
        .map(|word| {
            chunk(
                &format!(
                    "[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]"
                ),
                null,
            )
        })
        .collect();
    chunks.push(chunk(
        "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]",
        null,
    ));
    if let Some((input, output)) = usage {
        let usage = format!(
            ",\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}}",
            input + output
        );
        chunks.push(chunk("[]", &usage));
    }
    chunks.push("data: [DONE]\n\n".to_owned());
    chunks
}
