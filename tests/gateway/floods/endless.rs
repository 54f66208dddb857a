//! Heads, chunks and HTTP/2 frames without end.

use std::time::{Duration, Instant};

use super::{at_rest, grown_kib, head, still_serves};
use crate::support::raw::{Raw, h2};
use crate::support::{ACME, Body, CHAT, CHAT_PATH, Gateway, Reply, Upstream, config};

#[tokio::test(flavor = "multi_thread")]
async fn heads_with_too_many_or_too_long_headers_are_refused() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let many: String = (0..500)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    let long = format!("x-long: {}\r\n", "y".repeat(200_000));
    for (name, lines) in [("many", many), ("long", long)] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(head(2).replacen("Host: g\r\n", &format!("Host: g\r\n{lines}"), 1) + "{}")
            .await;
        let heard = raw.hear(Duration::from_secs(2)).await;
        assert!(
            heard.statuses() == [431] || (heard.statuses().is_empty() && heard.closed),
            "{name}: {heard:?}"
        );
        assert!(heard.closed, "{name}");
    }
    // HTTP/2: one header list in very many pieces.
    let mut raw = Raw::connect(gateway.address).await;
    let mut bytes = h2::PREFACE.to_vec();
    bytes.extend(h2::frame(h2::SETTINGS, 0, 0, &[]));
    bytes.extend(h2::frame(
        h2::HEADERS,
        0,
        1,
        &h2::block(&h2::chat_fields("0")),
    ));
    raw.send(bytes).await;
    let piece = h2::frame(
        h2::CONTINUATION,
        0,
        1,
        &h2::block(&[("x-more", &"y".repeat(10_000))]),
    );
    let mut sent = 0;
    while sent < 5_000 && raw.send(&piece).await {
        sent += 1;
    }
    eprintln!("{sent} CONTINUATION frames were taken");
    assert!(raw.hear(Duration::from_secs(2)).await.closed);
    assert!(
        gateway.vitals().memory_kib < 200 << 10,
        "{:?}",
        gateway.vitals()
    );
    assert!(upstream.asked().is_empty());
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_extensions_without_end_are_cut_off() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let mut raw = Raw::connect(gateway.address).await;
    let chunked = head(0).replacen("Content-Length: 0", "Transfer-Encoding: chunked", 1);
    raw.send(chunked + "1;a=").await;
    let piece = vec![b'e'; 64 * 1024];
    let mut sent = 0;
    while sent < 1_000 && raw.send(&piece).await {
        sent += 1;
    }
    let heard = raw.hear(Duration::from_secs(2)).await;
    assert!(heard.closed && sent < 1_000, "{sent} pieces: {heard:?}");
    assert!(upstream.asked().is_empty());
    still_serves(&gateway).await;
}

/// More than sockets hold, at 15 and 17 bytes each.
const MANY_FRAMES: u32 = 4_000_000;
#[tokio::test(flavor = "multi_thread")]
async fn http2_floods_are_cut_off_and_others_are_served() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    still_serves(&gateway).await;
    let before = at_rest(&gateway).await;
    let fields = h2::chat_fields("77");
    let block = h2::block(&fields);
    type Flood = Box<dyn Fn(u32) -> Vec<u8>>;
    let floods: [(&str, Flood); 3] = [
        (
            "rapid reset",
            Box::new(move |number| {
                let stream = 2 * number + 1;
                let mut bytes = h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &block);
                bytes.extend(h2::frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                bytes
            }),
        ),
        (
            "settings",
            Box::new(|_| {
                h2::frame(
                    h2::SETTINGS,
                    0,
                    0,
                    &h2::setting(h2::INITIAL_WINDOW_SIZE, 65_535),
                )
            }),
        ),
        (
            "pings",
            Box::new(|number| h2::frame(h2::PING, 0, 0, &u64::from(number).to_be_bytes())),
        ),
    ];
    for (name, flood) in floods {
        let mut raw = Raw::connect(gateway.address).await;
        let mut opening = h2::PREFACE.to_vec();
        opening.extend(h2::frame(h2::SETTINGS, 0, 0, &[]));
        raw.send(opening).await;
        let mut sent = 0;
        // In large writes and without reading, as an attacker would.
        while sent < MANY_FRAMES {
            let batch: Vec<u8> = (sent..sent + 1_000).flat_map(&flood).collect();
            match tokio::time::timeout(Duration::from_secs(2), raw.send(batch)).await {
                Ok(true) => sent += 1_000,
                Ok(false) | Err(_) => break,
            }
        }
        still_serves(&gateway).await;
        let grown = grown_kib(&gateway, &before);
        eprintln!("{name}: {sent} frames taken, {grown} KiB more");
        // Resets are cut off after a thousand or two. The others are held up: what is not read is not answered, and what is
        // not answered is not read. Until then the sockets take some megabytes.
        let most = if name == "rapid reset" {
            MANY_FRAMES / 20
        } else {
            MANY_FRAMES - 1
        };
        assert!(sent <= most, "{name}: never cut off or held up");
        assert!(grown < 24 << 10, "{name}: {grown} KiB");
    }
    assert!(upstream.asked().len() < 300, "{}", upstream.asked().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_http2_connection_has_no_more_streams_than_it_may() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![],
        body: Body::Silence,
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let length = CHAT.len().to_string();
    let block = h2::block(&h2::chat_fields(&length));
    let mut bytes = h2::PREFACE.to_vec();
    bytes.extend(h2::frame(h2::SETTINGS, 0, 0, &[]));
    // An attacker does not wait to be told how many it may open.
    for number in 0..400 {
        let stream = 2 * number + 1;
        bytes.extend(h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &block));
        bytes.extend(h2::frame(h2::DATA, h2::END_STREAM, stream, CHAT.as_bytes()));
    }
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(bytes).await;
    let heard = raw.hear(Duration::from_secs(2)).await;
    let asked = upstream.asked().len();
    assert!((1..=256).contains(&asked), "{asked} streams were served");
    // Who sends on after a refusal is refused again.
    let refused: std::collections::HashSet<u32> = h2::frames(&heard.bytes)
        .iter()
        .filter(|frame| frame.0 == h2::RST_STREAM)
        .map(|frame| frame.2)
        .collect();
    assert_eq!(asked + refused.len(), 400);
    still_serves_another(&gateway, &upstream).await;
}

/// The upstream answers nobody: that it is asked is all that can be seen.
async fn still_serves_another(gateway: &Gateway, upstream: &Upstream) {
    let before = upstream.asked().len();
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.start(CHAT_PATH, CHAT, &[]).await.is_ok() });
    let deadline = Instant::now() + Duration::from_secs(3);
    while upstream.asked().len() == before {
        assert!(Instant::now() < deadline, "others are held up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    asking.abort();
}
