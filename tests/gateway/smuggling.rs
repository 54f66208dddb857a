//! A request that two readers in a row could take for two: none reaches the server behind the gateway.

use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, config};

/// Long enough for an answer that would come, short enough for many cases.
const QUIET: Duration = Duration::from_millis(400);

/// The request that must not come through.
const HIDDEN: &str = "POST /v1/hidden HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-acme\r\nContent-Length: 2\r\n\r\n{}";

/// A head with the usual key and these lines.
fn head(lines: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-acme\r\nContent-Type: application/json\r\n{lines}\r\n"
    )
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_frame_a_request_hides_a_second_one() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let both = chunked(CHAT);
    let whole = both.len() + HIDDEN.len();
    let short = CHAT.len();
    let plain = format!("{CHAT}{HIDDEN}");
    let wrapped = format!("{both}{HIDDEN}");
    let attacks: Vec<(&str, String)> = vec![
        (
            "CL.TE",
            head(&format!(
                "Content-Length: {whole}\r\nTransfer-Encoding: chunked\r\n"
            )) + &wrapped,
        ),
        (
            "TE.CL",
            head(&format!(
                "Transfer-Encoding: chunked\r\nContent-Length: {whole}\r\n"
            )) + &wrapped,
        ),
        (
            "TE.TE",
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + &wrapped,
        ),
        (
            "TE of two codings",
            head("Transfer-Encoding: chunked, identity\r\n") + &wrapped,
        ),
        (
            "TE unknown",
            head(&format!(
                "Transfer-Encoding: xchunked\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "TE with a space before the colon",
            head(&format!(
                "Transfer-Encoding : chunked\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "TE with a space before the colon, and chunks",
            head("Transfer-Encoding : chunked\r\n") + &wrapped,
        ),
        (
            "TE with a tab in its value",
            head(&format!(
                "Transfer-Encoding:\tchunked\r\nContent-Length: {whole}\r\n"
            )) + &wrapped,
        ),
        (
            "TE with a vertical tab",
            head(&format!(
                "Transfer-Encoding: \x0bchunked\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "TE folded",
            head(&format!(
                "Transfer-Encoding:\r\n chunked\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "TE in quotes",
            head(&format!(
                "Transfer-Encoding: \"chunked\"\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "two lengths",
            head(&format!(
                "Content-Length: {short}\r\nContent-Length: {}\r\n",
                plain.len()
            )) + &plain,
        ),
        (
            "two lengths in one line",
            head(&format!("Content-Length: {short}, {}\r\n", plain.len())) + &plain,
        ),
        (
            "a length with a sign",
            head(&format!("Content-Length: +{short}\r\n")) + &plain,
        ),
        ("a length in hex", head("Content-Length: 0x4b\r\n") + &plain),
        ("a negative length", head("Content-Length: -1\r\n") + &plain),
        (
            "a length beyond range",
            head("Content-Length: 99999999999999999999999\r\n") + &plain,
        ),
        (
            "a folded header",
            head(&format!(
                "X-A: b\r\n Content-Length: 0\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "a bare CR",
            head(&format!(
                "X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: {short}\r\n"
            )) + &plain,
        ),
        (
            "a NUL",
            head(&format!("X-A: b\0c\r\nContent-Length: {short}\r\n")) + &plain,
        ),
        (
            "no name",
            head(&format!(": b\r\nContent-Length: {short}\r\n")) + &plain,
        ),
        (
            "HTTP/1.0 with TE",
            (head(&format!(
                "Transfer-Encoding: chunked\r\nContent-Length: {short}\r\n"
            )) + &plain)
                .replacen("HTTP/1.1", "HTTP/1.0", 1),
        ),
        (
            "a chunk size beyond range",
            head("Transfer-Encoding: chunked\r\n") + &format!("ffffffffffffffff1\r\n{plain}"),
        ),
        (
            "a chunk size with a sign",
            head("Transfer-Encoding: chunked\r\n") + &format!("+4b\r\n{plain}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk longer than it says",
            head("Transfer-Encoding: chunked\r\n") + &format!("4\r\n{CHAT}\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a chunk that ends with a bare LF",
            head("Transfer-Encoding: chunked\r\n") + &format!("{short:x}\n{CHAT}\n0\n\n{HIDDEN}"),
        ),
        (
            "a chunk size that ends with a bare LF",
            head("Transfer-Encoding: chunked\r\n")
                + &format!("{short:x}\n{CHAT}\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a bare CR in a chunk extension",
            head("Transfer-Encoding: chunked\r\n")
                + &format!("{short:x};a\rb\r\n{CHAT}\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "an upgrade",
            head(&format!(
                "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: {short}\r\n"
            )) + &plain.replace("hidden HTTP/1.1", "hidden HTTP/1.1\r\nX-After: upgrade"),
        ),
        (
            "an upgrade to HTTP/2",
            head(&format!(
                "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {short}\r\n"
            )) + CHAT
                + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        (
            "Connection that names Content-Length",
            head(&format!(
                "Connection: content-length\r\nContent-Length: {short}\r\n"
            )) + CHAT,
        ),
        (
            "Connection that names Host and the key",
            head(&format!(
                "Connection: close, host, authorization, content-type\r\nContent-Length: {short}\r\n"
            )) + CHAT,
        ),
        (
            "CONNECT",
            format!(
                "CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\nAuthorization: Bearer sk-acme\r\n\r\n{HIDDEN}"
            ),
        ),
    ];
    // These have one meaning only, and go on in one plain form; all others are refused, whoever might understand them.
    let passed_on = [
        "an upgrade",
        "an upgrade to HTTP/2",
        "Connection that names Content-Length",
        "Connection that names Host and the key",
    ];
    // Pipelined requests are two by right: only these may show the hidden one, as one of their own.
    let two_by_right = ["an upgrade"];
    for (name, bytes) in &attacks {
        let before = upstream.asked().len();
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(bytes).await;
        let heard = raw.hear(QUIET).await;
        let asked = upstream.asked().split_off(before);
        if passed_on.contains(name) {
            let first = asked.first().map(|asked| asked.body.as_slice());
            assert_eq!(first, Some(CHAT.as_bytes()), "{name}: {}", heard.text());
        } else {
            let status = if *name == "CONNECT" { 404 } else { 400 };
            assert_eq!(heard.statuses(), [status], "{name}: {}", heard.text());
            assert!(heard.closed, "{name}");
            assert!(asked.is_empty(), "{name}: {asked:?}");
        }
        let hidden = asked
            .iter()
            .filter(|asked| asked.path.contains("hidden"))
            .count();
        if !two_by_right.contains(name) {
            assert!(
                hidden == 0 || asked.len() == 1,
                "{name}: {heard:?}\n{asked:?}"
            );
            // What follows the first may be refused, never served.
            let behind = heard.statuses().split_off(1);
            assert!(
                behind.iter().all(|status| *status == 400),
                "{name}: {behind:?} behind the first answer\n{}",
                heard.text()
            );
        }
        for asked in &asked {
            let framing: Vec<_> = asked
                .headers
                .iter()
                .filter(|(name, _)| name == "content-length" || name == "transfer-encoding")
                .collect();
            let whole = ("content-length".to_owned(), asked.body.len().to_string());
            assert_eq!(framing, [&whole], "{name}");
            for (header, _) in &asked.headers {
                let token = header.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(token, "{name}: {header:?} was folded");
            }
            assert_eq!(
                asked.header("host"),
                Some(upstream.host().as_str()),
                "{name}"
            );
            assert_eq!(
                asked.header("authorization"),
                Some("Bearer sk-upstream"),
                "{name}"
            );
            for gone in [
                "upgrade",
                "connection",
                "http2-settings",
                "te",
                "trailer",
                "keep-alive",
            ] {
                assert_eq!(asked.header(gone), None, "{name}");
            }
        }
    }
    let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
    assert_eq!(answer.status, 200, "the gateway still serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upstream_is_asked_to_say_what_it_was_sent() {
    let upstream = Upstream::start(|_| Reply::json(200, "{}")).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    // An upstream that obeyed would answer with its own key among the headers that it got.
    let mut raw = Raw::connect(gateway.address).await;
    raw.send("TRACE /v1/files HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-acme\r\n\r\n")
        .await;
    let heard = raw.hear_until("error", Duration::from_secs(3)).await;
    assert_eq!(heard.statuses(), [405], "{}", heard.text());
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_framed_by_chunks_alone_may_follow_one_another() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let request = head("Transfer-Encoding:\tChunked\r\n") + &chunked(CHAT);
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(request.repeat(2)).await;
    let heard = raw.hear(QUIET).await;
    assert_eq!(heard.statuses(), [200, 200], "{}", heard.text());
    assert!(!heard.closed, "nothing speaks against a third one");
    let bodies: Vec<_> = upstream
        .asked()
        .into_iter()
        .map(|asked| asked.body)
        .collect();
    assert_eq!(bodies, [CHAT.as_bytes(), CHAT.as_bytes()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_goes_where_the_configuration_says() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let mut raw = Raw::connect(gateway.address).await;
    let bytes = head(&format!("Content-Length: {}\r\n", CHAT.len())) + CHAT;
    raw.send(bytes.replacen("POST /v1", "POST http://169.254.169.254/v1", 1))
        .await;
    assert_eq!(raw.hear(QUIET).await.statuses(), [200]);
    let asked = &upstream.asked()[0];
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.header("host"), Some(upstream.host().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_another_server_may_read_differently_is_refused() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    let paths = [
        "/v1/../dashboard/billing",
        "/v1/./chat/completions",
        "/v1//chat/completions",
        "/v1/chat//completions",
        "/v1/chat/completions//",
        "/v1/chat%2Fcompletions",
        "/v1/chat/%63ompletions",
        "/v1/%2e%2e/dashboard",
        "/v1/..%2fdashboard",
        "/v1/chat/completions%00",
        "/v1/chat/completions;a=b",
        "/v1/chat/x/../completions",
        "/v1/files/a%5c..%5cb",
        "/v1/chat/completions%",
        "/v1/chat/completions%zz",
        "/v1/Chat/Completions",
        "/v1/MESSAGES",
    ];
    for path in paths {
        // The client library would tidy some of these: they are sent as they are.
        let mut raw = Raw::connect(gateway.address).await;
        let bytes = head(&format!("Content-Length: {}\r\n", CHAT.len())) + CHAT;
        raw.send(bytes.replacen("/v1/chat/completions", path, 1))
            .await;
        let heard = raw.hear_until("error", Duration::from_secs(3)).await;
        assert_eq!(heard.statuses(), [400], "{path}: {}", heard.text());
    }
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    for path in [
        "/v1/chat/completions/",
        "/v1/files/file-A1%20b",
        "/v1/fine_tuning/jobs/ft:x%3Ay/cancel",
    ] {
        assert_eq!(client.post(path, CHAT).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_from_a_client_cannot_become_headers_or_lines_anywhere() {
    // It says of itself that it is whatever it was asked for.
    let upstream = Upstream::start(|asked| {
        let model = asked.json()["model"].to_string();
        Reply::json(200, chat_answer(1, 1).replace("\"gpt-4o-mini\"", &model))
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    for model in [
        "a\\r\\nX-Injected: 1",
        "a\\u0000b",
        "\\u2028x",
        "</script>\\u0022{a=\\u0022b\\u0022} 1",
        "</script>\\u0022{a=\\u0022b\\u0022} 1\\nweir_x 1",
    ] {
        let body = CHAT.replace("gpt-4o-mini", model);
        let answer = client
            .post_with(
                "/v1/chat/completions",
                body,
                &[("x-weir-tags", "a=b c,\"q\"=\\n,x={y=\"z\"}")],
            )
            .await;
        assert_eq!(answer.header("x-injected"), None);
    }
    for asked in upstream.asked() {
        assert_eq!(asked.header("x-injected"), None);
        assert_eq!(asked.header("x-weir-tags"), None);
    }
    let page = gateway.metrics().await;
    assert!(
        !page.contains("weir_x 1") && !page.contains("script"),
        "{page}"
    );
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(
        head(&format!(
            "X-Weir-Tags: a=b\rX-Injected: 1\r\nContent-Length: {}\r\n",
            CHAT.len()
        )) + CHAT,
    )
    .await;
    assert_eq!(raw.hear(QUIET).await.statuses(), [400]);
    for entry in gateway.ledger() {
        assert!(entry["tags"].is_object(), "{entry}");
    }
    let csv = gateway.run(&["ledger", "export", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 1 + gateway.ledger().len(), "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_cannot_split_its_answer_or_switch_protocols() {
    let upstream = Upstream::start(|asked| {
        let model = asked.json()["model"].as_str().unwrap().to_owned();
        match model.as_str() {
            "switches" => Reply {
                status: 101,
                headers: vec![
                    ("connection".into(), "upgrade".into()),
                    ("upgrade".into(), "websocket".into()),
                ],
                body: Body::Verbatim(b"\r\n".to_vec()),
            },
            "twice" => Reply {
                status: 200,
                headers: vec![
                    ("content-type".into(), "application/json".into()),
                    ("content-length".into(), "5".into()),
                ],
                body: Body::Pieces(vec![chat_answer(1, 1).into_bytes()]),
            },
            _ => Reply::json(200, chat_answer(1, 1))
                .header("connection", "x-private")
                .header("x-private", "1")
                .header("proxy-authenticate", "Basic"),
        }
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let ask = async |model: &str| {
        let client = Client::new(gateway.address, "sk-acme");
        client
            .post("/v1/chat/completions", CHAT.replace("gpt-4o-mini", model))
            .await
    };
    let switched = ask("switches").await;
    assert_eq!(
        (switched.status.as_u16(), switched.code().as_str()),
        (502, "upstream_unreachable")
    );
    let twice = ask("twice").await;
    assert_eq!(twice.text(), chat_answer(1, 1));
    let private = ask("named").await;
    assert_eq!(private.status, 200);
    assert_eq!(private.header("x-private"), None);
    assert_eq!(private.header("proxy-authenticate"), None);
}
