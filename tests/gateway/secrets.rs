//! Secrets stand nowhere: not in a log at its most talkative, nor in metrics, errors, the ledger, or the store's files.

use crate::support::{
    ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
};

const SECRETS: [&str; 4] = ["sk-upstream", "sk-acme", "admin-token", "sk-stranger"];

#[tokio::test(flavor = "multi_thread")]
async fn no_key_or_token_stands_in_anything_that_the_gateway_says_or_keeps() {
    let upstream = Upstream::start(|asked| {
        let body = asked.json();
        match body["model"].as_str() {
            Some("breaks") => Reply::stream(Body::BreaksOff(vec![b"data: {}\n\n".to_vec()])),
            Some("closes") => Reply {
                status: 200,
                headers: vec![],
                body: Body::Nothing,
            },
            Some("refuses") => Reply::json(401, "{\"error\":{\"message\":\"bad key\"}}"),
            _ if body["stream"] == true => Reply::events(chat_chunks(&["a"], Some((1, 1)))),
            _ => Reply::json(200, chat_answer(1, 1)),
        }
    })
    .await;
    let text = format!("[log]\nlevel = \"trace\"\n{}", config(&upstream, ACME));
    let mut gateway = Gateway::start(&text).await;
    let client = gateway.client();
    let mut answers = Vec::new();
    for model in ["gpt-4o-mini", "breaks", "closes", "refuses"] {
        for stream in ["", "\"stream\":true,"] {
            let body = CHAT
                .replace("gpt-4o-mini", model)
                .replacen('{', &format!("{{{stream}"), 1);
            answers.push(client.post("/v1/chat/completions", body).await);
        }
    }
    answers.push(client.post("/v1/chat/completions", "no json").await);
    // A key in every place where one may stand: each of them ends here.
    for name in ["x-api-key", "api-key"] {
        let more = [(name, "sk-acme")];
        answers.push(client.post_with("/v1/chat/completions", CHAT, &more).await);
    }
    answers.push(client.get("/v1/models").await);
    let stranger = Client::new(gateway.address, "sk-stranger");
    answers.push(stranger.post("/v1/chat/completions", CHAT).await);
    let admin = Client::new(gateway.admin, "admin-token");
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/openapi.json",
        "/api/v1/keys",
        "/api/v1/accounts",
        "/api/v1/config",
        "/api/v1/upstreams",
        "/api/v1/plans",
        "/api/v1/audit",
        "/api/v1/ledger",
        "/api/v1/limits",
    ] {
        answers.push(admin.get(path).await);
    }
    answers.push(
        Client::new(gateway.admin, "sk-stranger")
            .get("/api/v1/keys")
            .await,
    );
    // Configurations with a mistake beside the secrets are quoted in the log, and refused: one that is no TOML, and one
    // that is.
    let mistakes = [
        text.replace("secret = \"sk-acme\"", "secret = \"sk-acme"),
        text.replace("price = \"200.00\"", "price = 200.00\nsecret = \"sk-acme\""),
    ];
    for (refused, mistake) in (1..).zip(&mistakes) {
        gateway.rewrite(mistake);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while gateway.metric("weir_config_reloads_total").await < f64::from(refused) {
            assert!(
                std::time::Instant::now() < deadline,
                "the change was not seen"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    gateway.rewrite(&text);
    // A key made by hand is kept in the store: only as a digest under the store's own secret, so that guesses at a key
    // that somebody chose cannot be tried on a copy of the tables.
    let made = gateway.run(&["key", "create", "--account", "acme", "--id", "by-hand"]);
    let by_hand = made.trim().to_owned();
    let holder = Client::new(gateway.address, &by_hand);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while holder.post("/v1/chat/completions", CHAT).await.status != 200 {
        assert!(
            std::time::Instant::now() < deadline,
            "the key does not hold"
        );
    }
    let unkeyed = weir::secret::SecretSha256::of(by_hand.as_bytes());
    assert_eq!(gateway.stop().await, Some(0));

    let mut shown: Vec<(String, Vec<u8>)> = vec![("the log".into(), gateway.said().into_bytes())];
    for (number, answer) in answers.iter().enumerate() {
        let heads = format!("{:?}", answer.headers);
        shown.push((
            format!("answer {number}"),
            [heads.as_bytes(), &answer.body].concat(),
        ));
    }
    for arguments in [
        &["ledger", "export"][..],
        &["ledger", "export", "--format", "csv"],
        &["margin"],
        &["check"],
        &["key", "list"],
        &["account", "list"],
    ] {
        let output = gateway.output(arguments);
        shown.push((
            format!("weir {arguments:?}"),
            [output.stdout, output.stderr].concat(),
        ));
    }
    for file in walk(gateway.directory()) {
        if file.extension().is_none_or(|extension| extension != "toml") {
            shown.push((file.display().to_string(), std::fs::read(&file).unwrap()));
        }
    }
    assert!(
        gateway.said().contains(" TRACE "),
        "the log was not at its most talkative"
    );
    for (place, bytes) in &shown {
        // Half a key is as bad as a whole one.
        for secret in SECRETS.into_iter().chain([&by_hand[..32]]) {
            assert!(
                !holds(bytes, secret.as_bytes()),
                "{secret} stands in {place}: {}",
                around(bytes, secret)
            );
        }
        assert!(
            !holds(bytes, &unkeyed.0),
            "a plain digest stands in {place}"
        );
    }
    for asked in upstream.asked() {
        let credentials = asked
            .headers
            .iter()
            .filter(|(_, value)| value.contains("sk-"));
        for (name, value) in credentials {
            assert_eq!(
                (name.as_str(), value.as_str()),
                ("authorization", "Bearer sk-upstream")
            );
        }
    }
    eprintln!(
        "{} places looked at, {} bytes",
        shown.len(),
        shown.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    );
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn around(bytes: &[u8], secret: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().find(|line| line.contains(secret));
    line.unwrap_or_default().chars().take(300).collect()
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for item in std::fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
