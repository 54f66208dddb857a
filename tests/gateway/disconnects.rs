//! Who goes away in the middle, and what is then booked.

use std::time::Duration;

use http_body_util::BodyExt;

use crate::support::raw::Raw;
use crate::support::{
    ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
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
async fn a_placeholder_for_usage_is_not_what_a_broken_stream_is_booked_with() {
    let events = [
        r#"{"type":"response.created","response":{"id":"resp_1","model":"gpt-4o-mini","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"delta":"The quick"}"#,
    ];
    let events = events.map(|event| format!("data: {event}\n\n").into_bytes());
    let upstream = Upstream::start(move |_| Reply::stream(Body::BreaksOff(events.to_vec()))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = r#"{"model":"gpt-4o-mini","stream":true,"input":"Say hello."}"#;
    gateway.client().post("/v1/responses", body).await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["usage_source"], "counted", "{entry}");
    assert_eq!(entry["usage"]["output_tokens"], 2, "{entry}");
    assert!(entry["usage"]["input_tokens"].as_u64() > Some(2), "{entry}");
    assert_ne!(entry["cost_usd"], "0.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_that_is_no_stream_is_not_taken_for_a_whole_one() {
    let upstream = Upstream::start(|asked| {
        let half = b"{\"id\":\"chatcmpl-1\",\"choices\":[".to_vec();
        let body = match asked.header("x-framed-by") {
            Some("length") => Body::FallsShort(500, half),
            _ => Body::BreaksOff(vec![half]),
        };
        Reply {
            body,
            ..Reply::json(200, "")
        }
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    for framed in ["length", "chunks"] {
        for body in [CHAT.to_owned(), streamed()] {
            let client = gateway.client();
            let began = std::time::Instant::now();
            let answer = client
                .post_with("/v1/chat/completions", body, &[("x-framed-by", framed)])
                .await;
            assert!(answer.broke_off, "{framed}: {answer:?}");
            assert!(began.elapsed() < Duration::from_secs(4), "at once");
        }
    }
    for entry in gateway.ledger_of(4).await {
        assert_eq!(entry["outcome"], "upstream_failed", "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_try_does_not_wait_for_the_place_of_the_one_before() {
    let upstream = Upstream::start(|_| Reply::json(503, "{}")).await;
    let settings = "retries = 2\nmax_concurrent = 1\ntimeouts = ";
    let config = config(&upstream, ACME)
        .replacen("timeouts = ", settings, 1)
        .replacen(
            "upstreams = [\"sim\", \"sim-anthropic\"]",
            "upstreams = [\"sim\"]",
            1,
        );
    let gateway = Gateway::start(&config).await;
    let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (503, "{}")
    );
    assert_eq!(upstream.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_finishes_what_it_began_and_exits_with_0() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(5, 5))).await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    for _ in 0..20 {
        gateway.client().post("/v1/chat/completions", CHAT).await;
    }
    assert_eq!(gateway.stop().await, Some(0));
    let journals = std::fs::read_dir(gateway.directory().join("weir.journal")).unwrap();
    assert_eq!(journals.count(), 0, "everything is in the database");
    assert_eq!(gateway.ledger().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_cuts_what_outlasts_its_grace_time_and_books_what_it_had() {
    let words: Vec<Vec<u8>> = chat_chunks(&["The", " quick", " brown", " fox"], None)
        .into_iter()
        .take(4)
        .map(String::into_bytes)
        .collect();
    let upstream = Upstream::start(move |_| Reply::stream(Body::Hangs(words.clone()))).await;
    // However long it would read on otherwise, a stop does not wait for that.
    let lines = "shutdown_grace = \"300ms\"\ndrain_after_close = \"60s\"\n[admin]";
    let text = config(&upstream, ACME).replacen("[admin]", lines, 1);
    let mut gateway = Gateway::start(&text).await;
    let client = gateway.client();
    let answer = client.start("/v1/chat/completions", streamed(), &[]).await;
    let mut body = answer.unwrap().into_body();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("fox") {
        let frame = http_body_util::BodyExt::frame(&mut body).await;
        seen.extend_from_slice(frame.unwrap().unwrap().data_ref().unwrap());
    }
    assert_eq!(gateway.stop().await, Some(0), "{}", gateway.said());
    let entries = gateway.ledger();
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(entry["outcome"], "interrupted", "{entry}");
    assert_eq!(
        (&entry["status"], &entry["usage_source"]),
        (&200.into(), &"counted".into())
    );
    assert_eq!(entry["usage"]["output_tokens"], 4);
    assert_eq!(entry["usage"]["input_tokens"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once_and_the_next_one_books_what_was_open() {
    let word: Vec<Vec<u8>> = chat_chunks(&["word"], None)
        .into_iter()
        .take(1)
        .map(String::into_bytes)
        .collect();
    let upstream = Upstream::start(move |_| Reply::stream(Body::Hangs(word.clone()))).await;
    // Its grace time is the usual half a minute.
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    let answer = client.start("/v1/chat/completions", streamed(), &[]).await;
    let mut body = answer.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let admin = Client::new(gateway.admin, "");
    gateway.signal("TERM");
    let not_ready = loop {
        let ready = admin.get("/readyz").await;
        if ready.status != 200 {
            break ready;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(not_ready.status, 503);
    assert_eq!(not_ready.text(), "not ready: the gateway is stopping\n");
    gateway.signal("TERM");
    let began = std::time::Instant::now();
    assert_eq!(gateway.ended().await, Some(1), "{}", gateway.said());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    gateway.restart().await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "interrupted", "{entry}");
    assert_ne!(entry["usage"]["input_tokens"], 0, "{entry}");
    assert_eq!(entry["usage"]["output_tokens"], 0, "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_does_not_wait_for_who_says_nothing() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(5, 5))).await;
    let patient =
        config(&upstream, ACME).replacen("[admin]", "header_timeout = \"30s\"\n[admin]", 1);
    let mut gateway = Gateway::start(&patient).await;
    let silent = Raw::connect(gateway.address).await;
    let mut served = Raw::connect(gateway.address).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-acme\r\nContent-Length: {}\r\n\r\n",
        CHAT.len()
    );
    served.send(head + CHAT).await;
    let heard = served.hear_until("usage", Duration::from_secs(10)).await;
    assert_eq!(heard.statuses(), [200], "{heard:?}");
    let began = std::time::Instant::now();
    assert_eq!(gateway.stop().await, Some(0), "{}", gateway.said());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop((silent, served));
}

/// An address where connections are neither made nor refused: a listener that accepts nobody and has no room to wait in.
fn nowhere() -> (
    std::net::SocketAddr,
    Vec<std::net::TcpStream>,
    socket2::Socket,
) {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        waiting.push(stream);
    }
    (address, waiting, listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_request_could_be_sent_is_not_charged() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let (address, waiting, listener) = nowhere();
    let text = config(&upstream, ACME)
        .replace(&upstream.url(), &format!("http://{address}/v1"))
        .replacen("[admin]", "drain_after_close = \"200ms\"\n[admin]", 1);
    let gateway = Gateway::start(&text).await;
    let client = gateway.client();
    let leaving = client.start("/v1/chat/completions", CHAT, &[]);
    let _ = tokio::time::timeout(Duration::from_millis(300), leaving).await;
    drop(client);
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "client_closed", "{entry}");
    assert_eq!(
        (&entry["status"], &entry["usage_source"]),
        (&499.into(), &"none".into())
    );
    assert_eq!(entry["cost_usd"], "0.00");
    drop((waiting, listener));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_settles_what_its_clients_have_left() {
    let word: Vec<Vec<u8>> = chat_chunks(&["word"], None)
        .into_iter()
        .take(1)
        .map(String::into_bytes)
        .collect();
    let upstream = Upstream::start(move |_| Reply::stream(Body::Hangs(word.clone()))).await;
    let slow = config(&upstream, ACME).replace("[admin]", "drain_after_close = \"1s\"\n[admin]");
    let mut gateway = Gateway::start(&slow).await;
    let mut answer = gateway
        .client()
        .start("/v1/chat/completions", streamed(), &[])
        .await
        .unwrap();
    answer.frame().await;
    drop(answer);
    // The gateway is told to stop while it still reads on.
    assert_eq!(gateway.stop().await, Some(0));
    let entries = gateway.ledger();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["outcome"], "client_closed", "{}", entries[0]);
}
