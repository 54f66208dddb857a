//! Clients that are slow or silent, with their heads, bodies and handshakes, or in taking their answers.

use std::time::{Duration, Instant};

use super::{at_rest, hanging, head, server, still_serves, streamed};
use crate::support::raw::{Raw, h2};
use crate::support::{ACME, Body, CHAT, Gateway, Reply, Upstream, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&server(&upstream, "header_timeout = \"700ms\"")).await;
    let mut raw = Raw::connect(gateway.address).await;
    let began = Instant::now();
    for byte in head(2).bytes().cycle() {
        if !raw.send([byte]).await || began.elapsed() > Duration::from_secs(8) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_byte_by_byte_is_cut_off() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&server(&upstream, "body_timeout = \"700ms\"")).await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(head(10_000)).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) && raw.send(b" ").await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let heard = raw.hear(Duration::from_millis(500)).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(
        heard.statuses().is_empty() || heard.statuses() == [408],
        "{heard:?}"
    );
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(
        (entry["status"].as_u64(), entry["reason"].as_str()),
        (Some(408), Some("request_timeout"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_half_way_is_cut_off_however_fast_it_came() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&server(&upstream, "body_timeout = \"700ms\"")).await;
    let mut raw = Raw::connect(gateway.address).await;
    // At 1 KiB a second this alone could take two minutes.
    raw.send(head(200_000) + &" ".repeat(120_000)).await;
    let heard = raw
        .hear_until("request_timeout", Duration::from_secs(10))
        .await;
    assert_eq!(heard.statuses(), [408], "{heard:?}");
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["reason"], "request_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_nothing_are_closed() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&server(
        &upstream,
        "header_timeout = \"700ms\"\nidle_timeout = \"700ms\"",
    ))
    .await;
    let mut silent = Raw::connect(gateway.address).await;
    let mut served = Raw::connect(gateway.address).await;
    let mut prefaced = Raw::connect(gateway.address).await;
    served.send(head(CHAT.len()) + CHAT).await;
    prefaced.send(h2::PREFACE).await;
    for (name, raw) in [
        ("silent", &mut silent),
        ("served", &mut served),
        ("prefaced", &mut prefaced),
    ] {
        assert!(raw.hear(Duration::from_secs(5)).await.closed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_handshake_that_does_not_come_is_cut_off() {
    let upstream = Upstream::quick().await;
    let tls = "tls = { cert = \"DIRECTORY/server.pem\", key = \"DIRECTORY/server.key\" }";
    let lines = format!("header_timeout = \"700ms\"\n{tls}");
    let mut gateway = Gateway::prepare(&[], &server(&upstream, &lines));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=gateway",
        ])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-keyout", "server.key", "-out", "server.pem"])
        .current_dir(gateway.directory())
        .stderr(std::process::Stdio::null())
        .status();
    let Ok(made) = made else {
        eprintln!("skipped: there is no openssl here");
        return;
    };
    assert!(made.success());
    gateway.restart().await;
    // Nothing, and the beginning of a first message.
    for start in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(start).await;
        assert!(raw.hear(Duration::from_secs(5)).await.closed, "{start:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_half_prefaces_cost_next_to_nothing() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let mut half = Vec::new();
    for _ in 0..800 {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(b"PR").await;
        half.push(raw);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = gateway.vitals().cpu;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = gateway.vitals().cpu - before;
    eprintln!("800 half prefaces for 3 s: {used:?} of CPU");
    assert!(used < Duration::from_millis(400), "{used:?}");
    drop(half);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_clients_leave_room_for_one_that_asks() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&server(&upstream, "header_timeout = \"20s\"")).await;
    still_serves(&gateway).await;
    let before = at_rest(&gateway).await;
    let mut idle = Vec::new();
    while idle.len() < 10_000 {
        // Where this process may not open as many files, fewer must do.
        match tokio::net::TcpStream::connect(gateway.address).await {
            Ok(stream) => idle.push(stream),
            Err(_) => break,
        }
    }
    still_serves(&gateway).await;
    let after = gateway.vitals();
    let each = (after.memory_kib - before.memory_kib) * 1024 / idle.len() as u64;
    eprintln!(
        "{} idle clients: {each} bytes each, {} files",
        idle.len(),
        after.descriptors
    );
    assert!(each < 8 * 1024, "{each} bytes for an idle client");
    drop(idle);
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.vitals().descriptors > before.descriptors + 20 {
        assert!(Instant::now() < deadline, "{:?}", gateway.vitals());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_off() {
    let piece = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(60_000)).into_bytes();
    let upstream =
        Upstream::start(move |_| Reply::stream(Body::Pieces(vec![piece.clone(); 2_000]))).await;
    let gateway = Gateway::start(&server(
        &upstream,
        "idle_timeout = \"1s\"\ndrain_after_close = \"200ms\"",
    ))
    .await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(head(streamed().len()) + &streamed()).await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "client_closed", "{entry}");
    assert!(
        gateway.vitals().memory_kib < 300 << 10,
        "{:?}",
        gateway.vitals()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_grants_no_window_is_cut_off_and_the_upstream_left() {
    let upstream = hanging().await;
    let gateway = Gateway::start(&server(
        &upstream,
        "idle_timeout = \"1s\"\ndrain_after_close = \"200ms\"",
    ))
    .await;
    let mut raw = Raw::connect(gateway.address).await;
    let body = streamed();
    let length = body.len().to_string();
    let mut bytes = h2::PREFACE.to_vec();
    bytes.extend(h2::frame(
        h2::SETTINGS,
        0,
        0,
        &h2::setting(h2::INITIAL_WINDOW_SIZE, 0),
    ));
    bytes.extend(h2::frame(
        h2::HEADERS,
        h2::END_HEADERS,
        1,
        &h2::block(&h2::chat_fields(&length)),
    ));
    bytes.extend(h2::frame(h2::DATA, h2::END_STREAM, 1, body.as_bytes()));
    raw.send(bytes).await;
    upstream.left().await;
    let heard = raw.hear(Duration::from_millis(300)).await;
    let frames = h2::frames(&heard.bytes);
    assert!(
        frames
            .iter()
            .any(|frame| frame.0 == h2::RST_STREAM && frame.2 == 1),
        "{frames:?}"
    );
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "client_closed", "{entry}");
}
