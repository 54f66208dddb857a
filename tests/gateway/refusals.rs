//! What bad input gets, in the dialect that it came in.

use crate::support::raw::Raw;
use crate::support::{ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, config};

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_status_and_code_and_a_known_callers_are_in_the_ledger() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let routes = config(&upstream, ACME).replace("models = [\"*\"]", "models = [\"gpt-*\"]");
    let gateway = Gateway::start(&routes).await;
    let client = gateway.client();
    let chat = "/v1/chat/completions";
    for (key, code) in [("", "invalid_api_key"), ("sk-wrong", "invalid_api_key")] {
        let answer = Client::new(gateway.address, key).post(chat, CHAT).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (401, code)
        );
    }
    let cases = [
        (
            CHAT.replace("gpt-4o-mini", "llama-9"),
            404,
            "model_not_found",
        ),
        ("not json".to_owned(), 400, "invalid_request"),
        ("{\"messages\":[]}".to_owned(), 400, "invalid_request"),
        (
            CHAT.replacen('{', "{\"model\":\"gpt-4o-mini\",", 1),
            400,
            "invalid_request",
        ),
        (
            CHAT.replacen('{', "{\"stream\":\"yes\",", 1),
            400,
            "invalid_request",
        ),
        (
            format!("{{\"model\":\"gpt-4o\",\"x\":{}", "[".repeat(100_000)),
            400,
            "invalid_request",
        ),
    ];
    for (body, status, code) in &cases {
        let answer = client.post(chat, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (*status, *code),
            "{}",
            answer.text()
        );
        assert!(answer.header("x-weir-request-id").is_some());
    }
    let entries = gateway.ledger_of(cases.len()).await;
    assert!(
        entries
            .iter()
            .all(|entry| entry["outcome"] == "rejected" && entry["cost_usd"] == "0.00"),
        "{entries:?}"
    );
    assert!(upstream.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_nothing_from_its_end_on_and_nothing_from_elsewhere() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let keys = |more: &str| {
        let key = format!("secret = \"sk-acme\", {more} }}");
        ACME.replacen("secret = \"sk-acme\" }", &key, 1)
    };
    for (more, status) in [
        ("expires_at = 2026-01-02T00:00:00Z", 401),
        ("expires_at = 2999-01-01T00:00:00Z", 200),
        ("networks = [\"192.0.2.0/24\"]", 403),
        ("networks = [\"127.0.0.0/8\"]", 200),
    ] {
        let gateway = Gateway::start(&config(&upstream, &keys(more))).await;
        let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
        assert_eq!(answer.status, status, "{more}: {}", answer.text());
    }
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_on_a_connection_is_its_own_keys() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let other = "\n[[accounts]]\nid = \"other\"\nplan = \"pro\"\nsince = 2026-01-01\nkeys = [{ id = \"other-app\", secret = \"sk-other\" }]\n";
    let gateway = Gateway::start(&config(&upstream, &format!("{ACME}{other}"))).await;
    let mut raw = Raw::connect(gateway.address).await;
    // The one that is not known is as long as the one that came before it.
    for (key, said) in [
        ("sk-acme", "total_tokens"),
        ("sk-acmf", "invalid_api_key"),
        ("sk-other", "total_tokens"),
        ("sk-acme", "total_tokens"),
    ] {
        let length = CHAT.len();
        raw.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{CHAT}"
        ))
        .await;
        let heard = raw
            .hear_until(said, std::time::Duration::from_secs(5))
            .await;
        assert!(heard.text().contains(said), "{key}: {heard:?}");
    }
    let entries = gateway.ledger_of(3).await;
    let mut accounts: Vec<_> = entries
        .iter()
        .map(|entry| entry["account"].as_str())
        .collect();
    // Entries of one millisecond stand in the order of their ids.
    accounts.sort_unstable();
    assert_eq!(accounts, [Some("acme"), Some("acme"), Some("other")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropics_clients_get_anthropics_errors() {
    let upstream = Upstream::start(|_| Reply::json(200, "{}")).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let answer = Client::new(gateway.address, "sk-wrong")
        .post(
            "/v1/messages",
            "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":1,\"messages\":[]}",
        )
        .await;
    assert_eq!(answer.status, 401);
    let body = answer.json();
    assert_eq!(body["type"], "error");
    assert_eq!(body["error"]["type"], "authentication_error");
    assert_eq!(body["error"]["code"], "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_or_silent_or_closes_is_told_apart() {
    let upstream = Upstream::start(|asked| {
        let body = if asked.json()["model"] == "silent" {
            Body::Silence
        } else {
            Body::Nothing
        };
        Reply {
            status: 200,
            headers: vec![],
            body,
        }
    })
    .await;
    let away = "\n[[upstreams]]\nid = \"away\"\nbase_url = \"http://127.0.0.1:1/v1\"\n[[routes]]\nmodels = [\"away\"]\nupstreams = [\"away\"]\n";
    let text = config(&upstream, ACME)
        .replace("first_byte = \"5s\"", "first_byte = \"300ms\"")
        .replace("connect = \"2s\"", "connect = \"4s\"");
    let (before, after) = text.split_once("[[routes]]").unwrap();
    let gateway = Gateway::start(&format!("{before}{away}[[routes]]{after}")).await;
    let client = gateway.client();
    for (model, status, code) in [
        ("away", 502, "upstream_unreachable"),
        ("silent", 504, "upstream_timeout"),
        ("closes", 502, "upstream_unreachable"),
    ] {
        let began = std::time::Instant::now();
        let answer = client
            .post("/v1/chat/completions", CHAT.replace("gpt-4o-mini", model))
            .await;
        assert!(
            began.elapsed() < std::time::Duration::from_secs(3),
            "{model}"
        );
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{model}"
        );
    }
    for entry in gateway.ledger_of(3).await {
        assert_eq!(entry["outcome"], "upstream_failed");
        assert_eq!(entry["usage_source"], "none");
    }
    // A request that may have been processed was not sent again.
    assert_eq!(upstream.asked().len(), 2);
    assert_eq!(gateway.metric("weir_upstream_errors_total").await, 3.0);
    let said = gateway.said();
    let away = said.lines().find(|line| line.contains("cannot connect"));
    let away = away.unwrap_or_else(|| panic!("{said}"));
    assert!(
        away.contains("Connection refused") && away.contains("at=127.0.0.1:"),
        "{away}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_the_gateways_key_is_counted_and_told_of_once() {
    const REFUSED: usize = 3;
    let error = r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < REFUSED {
            Reply::json(401, error)
        } else {
            Reply::json(200, chat_answer(1, 1))
        }
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    for _ in 0..REFUSED {
        let answer = client.post("/v1/chat/completions", CHAT).await;
        assert_eq!((answer.status.as_u16(), &*answer.text()), (401, error));
    }
    for _ in 0..2 {
        assert_eq!(client.post("/v1/chat/completions", CHAT).await.status, 200);
    }
    let metrics = gateway.metrics().await;
    let counted = "weir_upstream_errors_total{upstream=\"sim\",kind=\"unauthorized\"} 3\n";
    assert!(metrics.contains(counted), "{metrics}");
    let said = gateway.said();
    for told in [
        "refuses the gateway's api_key",
        "takes the gateway's api_key again",
    ] {
        assert_eq!(said.matches(told).count(), 1, "{said}");
    }
    assert!(!said.contains("sk-upstream"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_own_error_reaches_the_client_unchanged() {
    let error = r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    let upstream =
        Upstream::start(move |_| Reply::json(429, error).header("retry-after", "7")).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.text(), error);
    assert_eq!(answer.header("retry-after"), Some("7"));
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(
        (entry["outcome"].as_str(), entry["cost_usd"].as_str()),
        (Some("upstream_failed"), Some("0.00"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_is_wrong_and_do_nothing() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    std::fs::write(gateway.directory().join("bad.json"), "[1]").unwrap();
    let refund = ["account", "refund", "acme", "1000000"];
    for (command, code, says) in [
        (&["account", "set", "acme"][..], 2, "--plan <PLAN>|--parent"),
        (
            &["key", "list", "--account", "zz"],
            1,
            "there is no account zz\n",
        ),
        (
            &["reconcile", "bad.json"],
            1,
            "bad.json: the JSON is neither",
        ),
        (
            &["prices", "import", "bad.json"],
            1,
            "bad.json: not a price map",
        ),
        (&refund, 1, "nothing was recorded (--force"),
    ] {
        let output = gateway.output(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.contains(says), "{command:?}: {said}");
        assert!(!said.contains("struct "), "{command:?}: {said}");
    }
    let listed = gateway.run(&["key", "list", "--account", "acme"]);
    assert!(listed.contains("acme-app"), "{listed}");
    let [account, what, id, amount] = refund;
    let refunded = gateway.run(&[account, what, id, amount, "--force"]);
    assert!(refunded.contains("was paid back $1000000"), "{refunded}");
}
