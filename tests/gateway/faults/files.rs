//! Too few files, and more connections than there are places for.

use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{
    ACME, CHAT, CHAT_PATH, Client, Gateway, Reply, Upstream, chat_answer, config,
};

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_take_the_files_that_requests_need() {
    let upstream =
        Upstream::start(|_| Reply::later(Duration::from_millis(300), chat_answer(1, 1))).await;
    let bounds = "header_timeout = \"2s\"\n[admin]";
    let gateway = Gateway::start_under(
        &["sh", "-c", "ulimit -n 120; exec \"$0\" \"$@\""],
        &config(&upstream, ACME).replacen("[admin]", bounds, 1),
    )
    .await;
    gateway.heard("limit of open files").await;
    // Clients that are there already, one after the other: the gateway has one connection to the upstream.
    let clients = [(); 8].map(|()| gateway.client());
    for client in &clients {
        assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    }
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(Raw::connect(gateway.address).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    // All at once they need more connections to the upstream, which must be had.
    let mut together = tokio::task::JoinSet::new();
    for client in clients.clone() {
        together.spawn(async move { client.post(CHAT_PATH, CHAT).await });
    }
    let mut served = clients.len();
    while let Some(answer) = together.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        served += 1;
    }
    assert!(gateway.vitals().descriptors < 120, "{:?}", gateway.vitals());
    // Idle ones are dropped for newcomers in turn.
    let newcomer = Client::new(gateway.address, "sk-acme");
    let answer =
        tokio::time::timeout(Duration::from_secs(20), newcomer.post(CHAT_PATH, CHAT)).await;
    assert_eq!(answer.expect("newcomers get their turn").status, 200);
    drop(idle);
    assert_eq!(gateway.ledger_of(served + 1).await.len(), served + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_the_configuration_allows_wait_for_a_place() {
    let upstream = Upstream::quick().await;
    let few = "max_connections = 3\n[admin]";
    let gateway = Gateway::start(&config(&upstream, ACME).replacen("[admin]", few, 1)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Raw::connect(gateway.address).await);
    }
    // Time for the gateway to accept them.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let client = gateway.client();
    let waiting = tokio::spawn(async move { client.post(CHAT_PATH, CHAT).await.status });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "a fourth connection was served");
    held.pop();
    let served = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(served.expect("a place was free").unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_cannot_be_accepted_wait_and_are_counted() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let (client, admin) = (gateway.client(), Client::new(gateway.admin, ""));
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    assert_eq!(admin.get("/healthz").await.status, 200);
    // From now on the process gets no further file: whatever it has is numbered from 0 on.
    let may_open = |files: u32| {
        let limited = std::process::Command::new("prlimit")
            .arg(format!("--pid={}", gateway.process_id()))
            .arg(format!("--nofile={files}:"))
            .status();
        assert!(limited.unwrap().success());
    };
    may_open(5);
    let newcomer = Client::new(gateway.address, "sk-acme");
    let waiting = tokio::spawn(async move { newcomer.post(CHAT_PATH, CHAT).await.status });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "it was accepted, or refused");
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    let events = admin.get("/metrics").await.text();
    assert!(events.contains("event=\"accept_failed\""), "{events}");
    gateway.heard("cannot accept connections").await;
    may_open(1000);
    let served = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(served.expect("it is accepted in the end").unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_as_far_as_it_may() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start_under(
        &["sh", "-c", "ulimit -S -n 120; exec \"$0\" \"$@\""],
        &config(&upstream, ACME),
    )
    .await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.process_id())).unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let files: Vec<&str> = files.unwrap().split_whitespace().collect();
    assert_eq!(
        files[0], files[1],
        "the soft limit is the hard one: {files:?}"
    );
}
