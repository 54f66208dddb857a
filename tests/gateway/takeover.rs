//! One gateway hands its port over to the next: nobody is refused, nothing is cut, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{
    ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
};

/// The usual configuration on a port that is known beforehand.
fn on_a_fixed_port(upstream: &Upstream, lines: &str) -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    config(upstream, ACME).replacen(
        "listen = \"127.0.0.1:0\"",
        &format!("listen = \"127.0.0.1:{port}\"\n{lines}"),
        1,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_is_refused_while_one_gateway_takes_over_from_another() {
    let words: Vec<Vec<u8>> = chat_chunks(&["one", "two", "three", "four", "five"], Some((5, 5)))
        .into_iter()
        .map(String::into_bytes)
        .collect();
    let upstream = Upstream::start(move |asked| {
        if asked.json()["stream"] == true {
            Reply::stream(Body::Paced(Duration::from_millis(150), words.clone()))
        } else {
            Reply::json(200, chat_answer(1, 1))
        }
    })
    .await;
    let mut gateway = Gateway::start(&on_a_fixed_port(&upstream, "")).await;
    let address = gateway.address;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        load.spawn(async move {
            let request = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\nAuthorization: Bearer sk-acme\r\nContent-Length: {}\r\n\r\n{CHAT}",
                CHAT.len()
            );
            while !stop.load(Ordering::Relaxed) {
                // A connection for each request: each could meet the moment in which the port changes hands.
                let mut raw = Raw::connect(address).await;
                assert!(raw.send(&request).await, "the connection was reset");
                let heard = raw.hear(Duration::from_secs(20)).await;
                assert_eq!(heard.statuses(), [200], "{heard:?}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut streams = 0;
    for _ in 0..4 {
        let streamed = CHAT.replacen('{', "{\"stream\":true,", 1);
        let client = Client::new(address, "sk-acme");
        let stream = client
            .start("/v1/chat/completions", streamed, &[])
            .await
            .unwrap();
        let mut next = gateway.beside().await;
        assert_eq!(next.address, address);
        assert!(
            next.said()
                .contains("another gateway writes to this ledger")
        );
        gateway.signal("TERM");
        let read = http_body_util::BodyExt::collect(stream.into_body());
        let whole = read
            .await
            .expect("a stream that began is not cut")
            .to_bytes();
        assert!(whole.ends_with(b"data: [DONE]\n\n"));
        streams += 1;
        assert_eq!(gateway.ended().await, Some(0), "{}", gateway.said());
        std::mem::swap(&mut gateway, &mut next);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = load.join_next().await {
        done.expect("no request fails");
    }
    let answered = answered.load(Ordering::Relaxed);
    eprintln!(
        "4 takeovers: {answered} connections answered, none refused, {streams} streams whole"
    );
    assert!(answered > 50, "the load was no load");
    assert_eq!(
        gateway.ledger_of(answered + streams).await.len(),
        answered + streams
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_turns_false_before_connections_are_turned_away() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let mut gateway = Gateway::start(&on_a_fixed_port(&upstream, "stop_delay = \"1s\"")).await;
    let admin = Client::new(gateway.admin, "");
    assert_eq!(admin.get("/readyz").await.status, 200);
    gateway.signal("TERM");
    while admin.get("/readyz").await.status != 503 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        admin.get("/healthz").await.status,
        200,
        "it is stopping, not dead"
    );
    let late = gateway.client().post("/v1/chat/completions", CHAT).await;
    assert_eq!(late.status, 200, "who has not noticed yet is served");
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(gateway.ledger().len(), 1);
}
