//! A clock that steps back.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::raw::Raw;
use crate::support::{
    ACME, Body, CHAT, CHAT_PATH, Reply, Upstream, chat_answer, config, misfortune,
};

/// The gateway's clock is off by what this file says, in seconds.
const CLOCK: [&str; 1] = ["MISFORTUNE_CLOCK=DIRECTORY/clock"];

/// An entry ends no earlier than it begins, and took no longer than the test.
fn goes_forward(entry: &Value) {
    let time = |name: &str| -> jiff::Timestamp { entry[name].as_str().unwrap().parse().unwrap() };
    assert!(time("ended_at") >= time("started_at"), "{entry}");
    assert!(entry["duration_ms"].as_u64().unwrap() < 60_000, "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_during_a_request_turns_no_time_round() {
    let clock: Arc<OnceLock<PathBuf>> = Arc::default();
    let steps = Arc::clone(&clock);
    let upstream = Upstream::start(move |_| {
        // An hour back, between the request and its answer.
        std::fs::write(steps.get().unwrap(), "-3600").unwrap();
        Reply::json(200, chat_answer(1, 1))
    })
    .await;
    let Some(gateway) = misfortune::start(&CLOCK, &config(&upstream, ACME)).await else {
        return;
    };
    clock.set(gateway.directory().join("clock")).unwrap();
    std::fs::write(clock.get().unwrap(), "0").unwrap();
    assert_eq!(gateway.client().post(CHAT_PATH, CHAT).await.status, 200);
    let entry = &gateway.ledger_of(1).await[0];
    goes_forward(entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_turns_no_time_round_in_what_is_refused_or_cut_off() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![],
        body: Body::Silence,
    })
    .await;
    let Some(mut gateway) = misfortune::prepare(&CLOCK, &config(&upstream, ACME)) else {
        return;
    };
    let clock = gateway.directory().join("clock");
    // An hour ahead, and back by two hours between the beginning of a request and the end of its body.
    std::fs::write(&clock, "3600").unwrap();
    gateway.restart().await;
    let mut raw = Raw::connect(gateway.address).await;
    let head = format!(
        "POST {CHAT_PATH} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-acme\r\nContent-Length: 7\r\n\r\n"
    );
    raw.send(head + "no ").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::write(&clock, "-3600").unwrap();
    raw.send("json").await;
    let heard = raw.hear_until("error", Duration::from_secs(5)).await;
    assert_eq!(heard.statuses(), [400], "{heard:?}");
    // What is in flight at a kill ends, for the next process, when the journal was written: by the system's clock, which
    // is an hour behind the one by which the request began.
    std::fs::write(&clock, "3600").unwrap();
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.start(CHAT_PATH, CHAT, &[]).await.is_ok() });
    let deadline = Instant::now() + Duration::from_secs(10);
    while upstream.asked().is_empty() {
        assert!(Instant::now() < deadline, "it is not asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.kill_and_restart().await;
    assert!(!asking.await.unwrap());
    for entry in &gateway.ledger_of(2).await {
        goes_forward(entry);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_gives_nobody_a_limit_anew() {
    let upstream = Upstream::quick().await;
    let limited = ACME.replace(
        "period = \"month\"\n",
        "period = \"month\"\nlimits = [{ on = \"requests\", max = 4, per = \"1h\" }, { on = \"requests\", max = 100, per = \"day\" }]\n",
    );
    let Some(mut gateway) = misfortune::start(&CLOCK, &config(&upstream, &limited)).await else {
        return;
    };
    let clock = gateway.directory().join("clock");
    let client = gateway.client();
    let mut statuses = Vec::new();
    for step in ["0", "0", "-30", "-30", "-30", "-60"] {
        std::fs::write(&clock, step).unwrap();
        statuses.push(client.post(CHAT_PATH, CHAT).await.status.as_u16());
    }
    assert_eq!(
        statuses,
        [200, 200, 200, 200, 429, 429],
        "half a minute back and forth"
    );
    std::fs::write(&clock, "-20").unwrap();
    for entry in &gateway.ledger_of(6).await {
        goes_forward(entry);
    }
    gateway.kill_and_restart().await;
    assert_eq!(
        gateway.client().post(CHAT_PATH, CHAT).await.status,
        429,
        "nor does a restart"
    );
}
