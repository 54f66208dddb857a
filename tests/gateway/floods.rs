//! Clients that are slow, many, silent or hostile: each is bounded, and others do not notice.

mod bodies;
mod crowds;
mod endless;
mod slow;

use std::time::{Duration, Instant};

use crate::support::gateway::Vitals;
use crate::support::{ACME, Body, CHAT, CHAT_PATH, Gateway, Reply, Upstream, chat_chunks, config};

/// The usual configuration with more lines in `[server]`.
fn server(upstream: &Upstream, lines: &str) -> String {
    config(upstream, ACME).replacen("[admin]", &format!("{lines}\n[admin]"), 1)
}

fn streamed() -> String {
    CHAT.replacen('{', "{\"stream\":true,", 1)
}

fn head(length: usize) -> String {
    format!(
        "POST {CHAT_PATH} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-acme\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Streams a word and then nothing.
async fn hanging() -> Upstream {
    let words: Vec<Vec<u8>> = chat_chunks(&["word"], None)
        .into_iter()
        .take(1)
        .map(String::into_bytes)
        .collect();
    Upstream::start(move |_| Reply::stream(Body::Hangs(words.clone()))).await
}

async fn still_serves(gateway: &Gateway) {
    let began = Instant::now();
    let answer = gateway.client().post(CHAT_PATH, CHAT).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

/// The gateway's state once it has done what it does after a start (it loads vocabularies).
async fn at_rest(gateway: &Gateway) -> Vitals {
    let mut before = gateway.vitals();
    let mut quiet = 0;
    while quiet < 4 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = gateway.vitals();
        let same = now.memory_kib.abs_diff(before.memory_kib) < 256;
        quiet = if same { quiet + 1 } else { 0 };
        before = now;
    }
    before
}

/// What it has in memory beyond what it had then.
fn grown_kib(gateway: &Gateway, before: &Vitals) -> u64 {
    let now = gateway.vitals().memory_kib;
    now.saturating_sub(before.memory_kib)
}
