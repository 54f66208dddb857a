//! What gateways do while Redis or PostgreSQL is away.

use std::time::{Duration, Instant};

use super::{Cluster, GATEWAYS, ask, reply, tree};
use crate::support::{CHAT_PATH, Upstream, config};

/// Asks `count` times in turn at all gateways; statuses, and the median time in milliseconds.
async fn ask_all(cluster: &Cluster, count: usize) -> (Vec<u16>, u128) {
    let (mut statuses, mut took) = (Vec::new(), Vec::new());
    for number in 0..count {
        let began = Instant::now();
        let answer = cluster.client(number).post(CHAT_PATH, ask("whole")).await;
        took.push(began.elapsed().as_millis());
        statuses.push(answer.status.as_u16());
    }
    took.sort_unstable();
    (statuses, took[took.len() / 2])
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_closed_quota_refuses_at_once_in_the_dialects_shape() {
    let limit = "on = \"requests\"\nmax = 1000\nper = \"month\"";
    let Some(cluster) = Cluster::start("fail = \"closed\"", &tree(limit)).await else {
        return;
    };
    let (_, usual) = ask_all(&cluster, 12).await;
    cluster.redis.hang();
    let (statuses, median) = ask_all(&cluster, 30).await;
    println!("median {usual} ms with Redis, {median} ms without");
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    assert!(median < usual + 50, "{median} ms, {usual} ms before");
    let client = cluster.client(0);
    let refused = client.post(CHAT_PATH, ask("whole")).await;
    assert_eq!(refused.code(), "overloaded");
    assert!(refused.json()["error"]["type"].is_string());
    let message = r#"{"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let headers = [("anthropic-version", "2023-06-01")];
    let refused = client.post_with("/v1/messages", message, &headers).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["type"], "error");
    assert_eq!(refused.json()["error"]["type"], "overloaded_error");
    assert_eq!(cluster.gateways[0].metric("weir_quota_up").await, 0.0);

    cluster.redis.go_on();
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.post(CHAT_PATH, ask("whole")).await.status != 200 {
        assert!(
            Instant::now() < deadline,
            "Redis is back and requests are not"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.gateways[0].metric("weir_quota_up").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_an_open_quota_goes_on_with_each_gateways_share_and_is_booked_later() {
    let limit = "on = \"requests\"\nmax = 60\nper = \"month\"";
    let Some(cluster) = Cluster::start("fail = \"open\"", &tree(limit)).await else {
        return;
    };
    let (statuses, usual) = ask_all(&cluster, 12).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    cluster.redis.hang();
    let (statuses, median) = ask_all(&cluster, 90).await;
    println!("median {usual} ms with Redis, {median} ms without");
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(median < usual + 50, "{median} ms, {usual} ms before");
    // What each gateway last heard is a request or two old: its share is of that.
    assert!((40..=48 + GATEWAYS).contains(&admitted), "{admitted} of 48");
    cluster.redis.go_on();
    cluster.at_rest().await;
    let entries = cluster.entries();
    let counted = entries
        .iter()
        .filter(|entry| entry["outcome"] != "rejected");
    let counted = counted.count();
    for gateway in 0..GATEWAYS {
        assert_eq!(cluster.limit(gateway).await.0, counted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_does_not_start_without_its_postgres_and_says_why() {
    let upstream = Upstream::start(reply).await;
    let gone = "[store]\nurl = \"postgres://weir:hunter2@127.0.0.1:1/weir\"\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, config(&upstream, gone)).unwrap();
    let began = Instant::now();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "-c"])
        .arg(&path)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not start without its store"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20));
}
