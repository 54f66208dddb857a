//! Who goes away in the middle, and what is then booked.

use std::time::Duration;

use http_body_util::BodyExt;

use crate::support::{
    ACME, Body, CHAT, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
};

fn streamed() -> String {
    CHAT.replacen('{', "{\"stream\":true,", 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_booked_with_the_providers_own_figure_if_it_comes_in_time() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |asked| {
        // The rest is sent only once the client has gone.
        while !asked.asks_usage() {}
        Reply::events(chat_chunks(&["Hel"], Some((8, 3))))
    })
    .await;
    drop((go, wait));
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let mut answer = gateway
        .client()
        .start("/v1/chat/completions", streamed(), &[])
        .await
        .unwrap();
    answer.frame().await;
    drop(answer);
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["usage"]["output_tokens"], 3, "{entry}");
    assert_eq!(entry["usage_source"], "reported");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_slow_stream_is_booked_with_what_was_counted_and_the_upstream_is_left()
 {
    let words = ["The", " quick", " brown", " fox"];
    let chunks: Vec<Vec<u8>> = chat_chunks(&words, None)
        .into_iter()
        .take(words.len())
        .map(String::into_bytes)
        .collect();
    let upstream = Upstream::start(move |_| Reply::stream(Body::Hangs(chunks.clone()))).await;
    let quick =
        config(&upstream, ACME).replace("[admin]", "drain_after_close = \"200ms\"\n[admin]");
    let gateway = Gateway::start(&quick).await;
    let mut answer = gateway
        .client()
        .start("/v1/chat/completions", streamed(), &[])
        .await
        .unwrap();
    let mut seen = 0;
    while seen < words.len() {
        let data = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        seen += data.windows(5).filter(|window| window == b"data:").count();
    }
    drop(answer);
    upstream.left().await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "client_closed", "{entry}");
    assert_eq!(entry["usage_source"], "counted");
    assert_eq!(entry["usage"]["output_tokens"], 4, "The quick brown fox");
    assert_eq!(
        entry["usage"]["input_tokens"], 10,
        "3 for the message, 1 for the role, 3 for the text, 3 for the answer's start"
    );
    assert_ne!(entry["cost_usd"], "0.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_answer_is_booked_too() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![],
        body: Body::Silence,
    })
    .await;
    let quick =
        config(&upstream, ACME).replace("[admin]", "drain_after_close = \"200ms\"\n[admin]");
    let gateway = Gateway::start(&quick).await;
    let client = gateway.client();
    let leaving = client.start("/v1/chat/completions", CHAT, &[]);
    let _ = tokio::time::timeout(Duration::from_millis(300), leaving).await;
    upstream.left().await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "client_closed", "{entry}");
    assert_eq!(entry["usage"]["input_tokens"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_is_seen_as_such_and_its_tokens_are_counted() {
    let chunks: Vec<Vec<u8>> = chat_chunks(&["The", " quick"], None)
        .into_iter()
        .take(2)
        .map(String::into_bytes)
        .collect();
    let upstream = Upstream::start(move |_| Reply::stream(Body::BreaksOff(chunks.clone()))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let answer = gateway
        .client()
        .post("/v1/chat/completions", streamed())
        .await;
    assert!(
        answer.broke_off,
        "the client must not take half an answer for a whole one"
    );
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(
        (entry["outcome"].as_str(), entry["usage_source"].as_str()),
        (Some("upstream_failed"), Some("counted")),
        "{entry}"
    );
    assert_eq!(entry["usage"]["output_tokens"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_finishes_what_it_began_and_exits_with_0() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(5, 5))).await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    for _ in 0..20 {
        gateway.client().post("/v1/chat/completions", CHAT).await;
    }
    assert_eq!(gateway.stop().await, Some(0));
    assert_eq!(gateway.ledger().len(), 20);
}
