//! A changed configuration takes force while requests are served; a broken one does not.

use std::time::Duration;

use crate::support::{
    ACME, Body, CHAT, Client, Gateway, Postgres, Redis, Reply, Upstream, chat_answer, config,
};

/// Waits until so many reloads had that result.
async fn reloads(gateway: &Gateway, result: &str, count: f64) {
    let sample = format!("weir_config_reloads_total{{result=\"{result}\"}} {count}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !gateway.metrics().await.contains(&sample) {
        assert!(tokio::time::Instant::now() < deadline, "no {sample}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_works_after_a_change_and_goes_on_working_after_a_broken_one() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let first = config(&upstream, ACME);
    let gateway = Gateway::start(&first).await;
    let newcomer = Client::new(gateway.address, "sk-new");
    assert_eq!(
        newcomer.post("/v1/chat/completions", CHAT).await.status,
        401
    );

    let second = first.replace(
        "keys = [",
        "keys = [{ id = \"acme-new\", secret = \"sk-new\" }, ",
    );
    gateway.rewrite(&second);
    reloads(&gateway, "accepted", 1.0).await;
    assert_eq!(
        newcomer.post("/v1/chat/completions", CHAT).await.status,
        200
    );

    gateway.rewrite(&second.replace("price = \"200.00\"", "price = 200"));
    reloads(&gateway, "refused", 1.0).await;
    assert_eq!(
        newcomer.post("/v1/chat/completions", CHAT).await.status,
        200
    );
}

/// A limit comes while requests are in flight: what was used before it and what those use count on it, each once.
async fn add_a_limit(quota: &str) {
    // "slow" takes two seconds; every answer is 100 tokens.
    let upstream = Upstream::start(|asked| {
        let answer = chat_answer(60, 40);
        match asked.json()["user"] == "slow" {
            true => Reply {
                body: Body::Later(Duration::from_secs(2), answer.into_bytes()),
                ..Reply::json(200, "")
            },
            false => Reply::json(200, answer),
        }
    })
    .await;
    let first = config(&upstream, &format!("{quota}\n{ACME}"));
    let gateway = Gateway::start(&first).await;
    let slow = CHAT.replace("\"messages\"", "\"user\":\"slow\",\"messages\"");
    let asked = async |body: &str| {
        let (client, body) = (gateway.client(), body.to_owned());
        let answer = client.post("/v1/chat/completions", body).await;
        assert_eq!(answer.status, 200);
    };
    for _ in 0..3 {
        asked(CHAT).await;
    }
    let mut in_flight = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (client, body) = (gateway.client(), slow.clone());
        in_flight.spawn(async move { client.post("/v1/chat/completions", body).await.status });
    }
    while gateway.metric("weir_in_flight_requests").await < 2.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let limit = "[[plans.limits]]\non = \"tokens\"\nmax = 100000\nper = \"month\"\n[[plans.limits]]\non = \"requests\"\nmax = 100\nper = \"3d\"\n[[accounts]]";
    gateway.rewrite(&first.replace("[[accounts]]", limit));
    reloads(&gateway, "accepted", 1.0).await;
    let used = async || {
        let page = gateway.admin_page("/api/v1/limits?account=acme").await;
        let of = |at: usize| page["items"][at]["used"].as_u64().unwrap();
        // In the order of their names: requests, tokens.
        (of(0), of(1))
    };
    assert_eq!(used().await, (3, 300), "before those in flight end");
    asked(CHAT).await;
    assert_eq!(in_flight.join_all().await, [200, 200]);
    let becomes = async |expected: (u64, u64)| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while used().await != expected {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", used().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    becomes((6, 600)).await;
    // And no later reading of the ledger adds them again.
    gateway.rewrite(&first.replace("[[accounts]]", &limit.replace("max = 100\n", "max = 200\n")));
    reloads(&gateway, "accepted", 2.0).await;
    asked(CHAT).await;
    becomes((7, 700)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_added_knows_what_was_used_and_what_is_in_flight() {
    add_a_limit("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_added_in_shared_counters_knows_it_too() {
    if let Some(redis) = Redis::start() {
        let url = redis.url();
        add_a_limit(&format!("[quota]\nurl = \"{url}\"\ntimeout = \"2s\"")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_and_revoked_on_the_command_line_holds_within_a_second() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let secret = gateway.run(&["key", "create", "--account", "acme", "--id", "by-hand"]);
    let client = Client::new(gateway.address, secret.trim());
    let becomes = async |status: u16| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        while client
            .post("/v1/chat/completions", CHAT)
            .await
            .status
            .as_u16()
            != status
        {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no {status} within a second"
            );
        }
    };
    becomes(200).await;
    gateway.run(&["key", "revoke", "by-hand"]);
    becomes(401).await;
    let listed = gateway.run(&["key", "list"]);
    assert!(listed.contains("by-hand") && !listed.contains(secret.trim()));
}

/// A limit goes and comes back within its window: all that was used in the window counts on it, each once.
async fn bring_a_limit_back(quota: &str) {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(90, 10))).await;
    let without = config(&upstream, &format!("{quota}\n{ACME}"));
    let limit = "[[plans.limits]]\non = \"tokens\"\nmax = 100000\nper = \"month\"\n[[plans.limits]]\non = \"requests\"\nmax = 100\nper = \"3d\"\n[[accounts]]";
    let with = without.replace("[[accounts]]", limit);
    let gateway = Gateway::start(&with).await;
    let ask = async || {
        let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
        assert_eq!(answer.status, 200);
    };
    ask().await;
    ask().await;
    gateway.rewrite(&without);
    reloads(&gateway, "accepted", 1.0).await;
    ask().await;
    gateway.rewrite(&with);
    reloads(&gateway, "accepted", 2.0).await;
    ask().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let page = gateway.admin_page("/api/v1/limits?account=acme").await;
        // In the order of their names: requests, tokens.
        let used = [0, 1].map(|at| page["items"][at]["used"].as_u64().unwrap());
        if used == [4, 400] {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{used:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_comes_back_counts_everything_once() {
    bring_a_limit_back("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_comes_back_in_shared_counters_counts_everything_once() {
    if let Some(redis) = Redis::start() {
        let url = redis.url();
        bring_a_limit_back(&format!("[quota]\nurl = \"{url}\"\ntimeout = \"2s\"")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_which_settings_wait_for_the_next_start() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let first = config(&upstream, ACME);
    let gateway = Gateway::start(&first).await;
    let changed = format!("[store]\nurl = \"sqlite:other.db\"\n{first}").replacen(
        "listen = \"127.0.0.1:0\"",
        "listen = \"127.0.0.1:1\"",
        1,
    );
    gateway.rewrite(&changed);
    let admin = Client::new(gateway.admin, "admin-token");
    let answer = admin.post("/api/v1/reload", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(
        answer["waiting_for_restart"],
        serde_json::json!(["server.listen", "store"])
    );
    assert_eq!(
        gateway
            .client()
            .post("/v1/chat/completions", CHAT)
            .await
            .status,
        200
    );
}

/// Waits until the first limit of an account has used so many tokens: shared counters are told after the answer.
async fn uses(gateway: &Gateway, account: &str, expected: u64, what: &str) {
    let path = format!("/api/v1/limits?account={account}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let page = gateway.admin_page(&path).await;
        let limits = page["items"].as_array().unwrap();
        let own = limits.iter().find(|limit| limit["account"] == account);
        if own.is_some_and(|own| own["used"] == expected) {
            return;
        }
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "{what}: not {expected}: {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_counters_know_what_was_used_of_a_limit_that_changed_while_no_gateway_ran() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(60, 40))).await;
    let text = |limit: &str| {
        let quota = format!("[quota]\nurl = \"{}\"\n", redis.url());
        config(&upstream, &format!("{quota}\n{ACME}\n{limit}"))
    };
    let limit = |per: &str| {
        format!("[[accounts.limits]]\non = \"tokens\"\nmax = 1000000\nper = \"{per}\"\n")
    };
    let mut gateway = Gateway::start(&text(&limit("month"))).await;
    for (per, expected) in [("month", 100), ("day", 200), ("month", 300)] {
        gateway.stop().await;
        gateway.rewrite(&text(&limit(per)));
        gateway.restart().await;
        let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
        assert_eq!(answer.status, 200);
        uses(&gateway, "acme", expected, per).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_another_gateways_file_lacked_is_filled_also_where_a_reload_brings_nothing_new()
 {
    let Some(redis) = Redis::start() else {
        return;
    };
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(60, 40))).await;
    let store = tempfile::tempdir().unwrap();
    let text = |limits: &str| {
        let shared = format!(
            "[store]\nurl = \"sqlite:{}/weir.db\"\n[quota]\nurl = \"{}\"\n",
            store.path().display(),
            redis.url()
        );
        config(&upstream, &format!("{shared}\n{ACME}\n{limits}"))
    };
    let tokens = "[[accounts.limits]]\non = \"tokens\"\nmax = 1000000\nper = \"month\"\n";
    let requests = "[[accounts.limits]]\non = \"requests\"\nmax = 1000\nper = \"month\"\n";
    let gateway = Gateway::start(&text(&[tokens, requests].concat())).await;
    let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
    assert_eq!(answer.status, 200);
    // To this one the first limit is gone.
    let _other = Gateway::start(&text(requests)).await;
    gateway.rewrite(&text(tokens));
    reloads(&gateway, "accepted", 1.0).await;
    uses(&gateway, "acme", 100, "taken up again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moves_below_another_takes_what_it_used_with_it() {
    let Some(redis) = Redis::start() else {
        return;
    };
    for quota in [
        String::new(),
        format!("[quota]\nurl = \"{}\"\n", redis.url()),
    ] {
        let upstream = Upstream::start(|_| Reply::json(200, chat_answer(60, 40))).await;
        let limit = "[[accounts.limits]]\non = \"tokens\"\nmax = 1000000\nper = \"month\"\n";
        let parent = "[[accounts]]\nid = \"group\"\nplan = \"pro\"\nsince = 2026-01-01\n";
        let alone = config(
            &upstream,
            &format!("{quota}\n{ACME}\n{limit}{parent}{limit}"),
        );
        let below = alone.replace("keys = [", "parent = \"group\"\nkeys = [");
        let gateway = Gateway::start(&alone).await;
        for (reloaded, (text, before)) in [(&below, 100), (&alone, 200), (&below, 300)]
            .into_iter()
            .enumerate()
        {
            let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
            assert_eq!(answer.status, 200);
            gateway.rewrite(text);
            reloads(&gateway, "accepted", (reloaded + 1) as f64).await;
            uses(&gateway, "acme", before, &quota).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_changes_while_postgres_is_away_takes_force_when_it_is_back() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let first = config(
        &upstream,
        &format!("[store]\nurl = \"{}\"\n{ACME}", postgres.url()),
    );
    let gateway = Gateway::start(&first).await;
    postgres.stop();
    let ask = async |key: &str| {
        let client = Client::new(gateway.address, key);
        client.post("/v1/chat/completions", CHAT).await.status
    };
    assert_eq!(ask("sk-acme").await, 200);
    gateway.rewrite(&first.replace(
        "keys = [",
        "keys = [{ id = \"acme-new\", secret = \"sk-new\" }, ",
    ));
    reloads(&gateway, "refused", 1.0).await;
    assert_eq!(ask("sk-new").await, 401);
    // Nor can an operator change anything, which is no conflict with what is there.
    let admin = Client::new(gateway.admin, "admin-token");
    let body = r#"{"id":"late","plan":"team"}"#;
    let answer = admin.post("/api/v1/accounts", body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "unavailable"),
        "{}",
        answer.text()
    );

    postgres.go_on();
    reloads(&gateway, "accepted", 1.0).await;
    assert_eq!(ask("sk-new").await, 200);
    let back = "the store is back, and takes";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !gateway.said().contains(back) {
        assert!(tokio::time::Instant::now() < deadline, "{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let said = gateway.said();
    for told in [
        "the changed configuration waits for the store",
        "the changed configuration is in force",
    ] {
        assert_eq!(said.matches(told).count(), 1, "{told}: {said}");
    }
    assert!(!said.contains("does not start without its store"), "{said}");
}
