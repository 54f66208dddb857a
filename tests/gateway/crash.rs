//! A killed process loses no entry and books none twice.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::money::Money;

use crate::support::{
    ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
};

/// Rounds of load and kill; the long form of this test sets more.
fn rounds() -> usize {
    std::env::var("WEIR_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_seen_to_its_end_has_one_entry_after_kills_at_random_moments() {
    let upstream = Upstream::start(|asked| {
        if asked.json()["stream"] == true {
            Reply::events(chat_chunks(&["a", "b", "c"], Some((5, 3))))
        } else {
            Reply::json(200, chat_answer(5, 3))
        }
    })
    .await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    let sent = Arc::new(AtomicUsize::new(0));
    for _ in 0..rounds() {
        let mut load = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (client, seen) = (Client::new(gateway.address, "sk-acme"), Arc::clone(&seen));
            let sent = Arc::clone(&sent);
            load.spawn(async move {
                let body = if number % 2 == 0 {
                    CHAT.to_owned()
                } else {
                    CHAT.replacen('{', "{\"stream\":true,", 1)
                };
                loop {
                    sent.fetch_add(1, Ordering::Relaxed);
                    let Ok(response) = client
                        .start("/v1/chat/completions", body.clone(), &[])
                        .await
                    else {
                        return;
                    };
                    let id = response.headers()["x-weir-request-id"]
                        .to_str()
                        .unwrap()
                        .to_owned();
                    let Ok(_) = http_body_util::BodyExt::collect(response.into_body()).await else {
                        return;
                    };
                    seen.lock().unwrap().insert(id);
                }
            });
        }
        // The configuration changes meanwhile, so that some kills meet a reload.
        let price = format!("price = \"{}.00\"", fastrand::u64(100..999));
        let text = config(&upstream, ACME).replace("price = \"200.00\"", &price);
        gateway.rewrite(&text);
        // The moment is random on purpose: the rule must hold at every one.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..150))).await;
        gateway.kill().await;
        load.shutdown().await;
        gateway.kill_and_restart().await;
    }
    let entries = gateway.ledger();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for entry in &entries {
        *times.entry(entry["id"].as_str().unwrap()).or_default() += 1;
    }
    assert!(
        times.values().all(|times| *times == 1),
        "an entry stands twice"
    );
    let sent = sent.load(Ordering::Relaxed);
    assert!(
        entries.len() <= sent,
        "{} entries of {sent} requests",
        entries.len()
    );
    let margin: serde_json::Value =
        serde_json::from_str(&gateway.run(&["margin", "--format", "json"])).unwrap();
    let cost: Money = entries
        .iter()
        .map(|entry| Money::parse(entry["cost_usd"].as_str().unwrap()).unwrap())
        .sum();
    assert_eq!(margin["total"]["requests"], entries.len(), "{margin}");
    assert_eq!(margin["total"]["cost_usd"], cost.to_string(), "{margin}");
    let seen = seen.lock().unwrap();
    let missing = seen
        .iter()
        .filter(|id| !times.contains_key(id.as_str()))
        .count();
    assert_eq!(missing, 0, "of {} answers seen to their end", seen.len());
    assert!(
        seen.len() > rounds(),
        "the load was no load: {} answers",
        seen.len()
    );
    for entry in entries
        .iter()
        .filter(|entry| entry["outcome"] == "interrupted")
    {
        assert!(
            !seen.contains(entry["id"].as_str().unwrap()),
            "an answer seen to its end is called interrupted"
        );
    }
    let interrupted = entries
        .iter()
        .filter(|entry| entry["outcome"] == "interrupted")
        .count();
    eprintln!(
        "{} kills: {} answers seen to their end, {} entries, {interrupted} interrupted",
        rounds(),
        seen.len(),
        entries.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_was_asked_before_a_kill_is_booked_with_the_cost_that_was_foreseen() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![],
        body: Body::Silence,
    })
    .await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.start("/v1/chat/completions", CHAT, &[]).await });
    // From the moment at which the upstream has the request it may cost something, so the journal must know it by then.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while upstream.asked().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it is not asked");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gateway.kill_and_restart().await;
    assert!(asking.await.unwrap().is_err());
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "interrupted", "{entry}");
    assert_eq!(entry["usage_source"], "estimated", "{entry}");
    assert_ne!(entry["cost_usd"], "0.00", "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_starts_leaves_files_that_the_next_one_can_use() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(5, 3))).await;
    let mut kept = 0;
    for round in 0..rounds() {
        let mut gateway = Gateway::prepare(&[], &config(&upstream, ACME));
        // The first start makes the tables; the moment is anywhere from before main to the first request.
        for _ in 0..3 {
            gateway.start_and_kill(Duration::from_millis(fastrand::u64(1..60)));
        }
        gateway.restart().await;
        let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
        assert_eq!(answer.status, 200, "round {round}");
        gateway.kill_and_restart().await;
        kept += gateway.ledger_of(1).await.len();
        let leftovers = std::fs::read_dir(gateway.directory().join("weir.journal"))
            .unwrap()
            .count();
        assert!(
            leftovers <= 4,
            "{leftovers} journals of dead processes are left"
        );
    }
    eprintln!(
        "{} kills while starting: {kept} of {kept} entries kept",
        3 * rounds()
    );
}
