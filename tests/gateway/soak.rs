//! Mixed load for a long time: nothing grows, nothing leaks, and the ledger is exact at the end.
//!
//! `tests/soak SECONDS` runs it; by itself it takes a few seconds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;

use crate::support::gateway::Vitals;
use crate::support::{
    ACME, Body, CHAT, CHAT_PATH, Client, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
};

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn time() -> Duration {
    let seconds = std::env::var("WEIR_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(8))
}

/// What the load did.
#[derive(Default)]
struct Done {
    stop: AtomicBool,
    /// Requests that must have an entry.
    sent: AtomicUsize,
    /// Answers seen to their end, with what the ledger must say of them.
    whole: Mutex<Vec<String>>,
    aborted: AtomicUsize,
    failed: AtomicUsize,
    refused: AtomicUsize,
    mistakes: AtomicUsize,
    faults: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_and_the_ledger_is_exact_after_a_long_mixed_load() {
    let upstream = Upstream::start(|asked| {
        let words: Vec<String> = (0..20).map(|number| format!("word{number} ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let chunks = || -> Vec<Vec<u8>> {
            let chunks = chat_chunks(&words, Some((7, 20)));
            chunks.into_iter().map(String::into_bytes).collect()
        };
        let body = asked.json();
        match body["model"].as_str().unwrap_or_default() {
            "breaks" => Reply::stream(Body::BreaksOff(chunks().split_off(15))),
            "closes" => Reply {
                status: 200,
                headers: vec![],
                body: Body::Nothing,
            },
            "fails" => Reply::json(500, "{\"error\":{\"message\":\"no\"}}"),
            _ if body["stream"] == true => {
                Reply::stream(Body::Paced(Duration::from_millis(2), chunks()))
            }
            _ => Reply::json(200, chat_answer(7, 20)),
        }
    })
    .await;
    let limited = ACME.replace(
        "period = \"month\"\n",
        "period = \"month\"\nlimits = [{ on = \"concurrent\", max = 32 }, { on = \"cost\", max = \"100000.00\", per = \"month\" }]\n",
    );
    // Few places of each kind: what is not given back is soon missed.
    let text = config(&upstream, &limited)
        .replacen(
            "[admin]",
            "drain_after_close = \"200ms\"\nmax_requests = 96\n[admin]",
            1,
        )
        .replacen("timeouts = ", "max_concurrent = 48\ntimeouts = ", 1);
    let mut gateway = Gateway::start(&text).await;
    let idle_tasks = gateway.metric("weir_tasks").await;
    let done = Arc::new(Done::default());
    let mut load = tokio::task::JoinSet::new();
    for worker in 0..8 {
        load.spawn(work(gateway.address, worker, Arc::clone(&done)));
    }
    let warm_up = time() / 4;
    let began = Instant::now();
    let mut warm: Option<Vitals> = None;
    let mut memory = Vec::new();
    let mut behind = 0.0_f64;
    let mut reloads = 0_u32;
    let mut next_reload = Instant::now();
    while began.elapsed() < time() {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if next_reload <= Instant::now() {
            // Another price and another key each time; now and then one that is refused.
            reloads += 1;
            let price = format!("price = \"{}.00\"", 200 + reloads % 50);
            let key = format!(
                "secret = \"sk-acme\" }}, {{ id = \"k{reloads}\", secret = \"sk-{reloads}\" }}]"
            );
            let mut churned = text
                .replace("price = \"200.00\"", &price)
                .replace("secret = \"sk-acme\" }]", &key);
            if reloads.is_multiple_of(7) {
                churned += "\nbroken";
            }
            gateway.rewrite(&churned);
            behind = behind.max(gateway.metric("weir_ledger_queue").await);
            next_reload = Instant::now() + Duration::from_secs(2);
        }
        let now = gateway.vitals();
        if began.elapsed() > warm_up {
            warm.get_or_insert(now);
            memory.push(now.memory_kib);
        }
    }
    // The last change may have been one that is refused; the commands below read the file too.
    gateway.rewrite(&text);
    done.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let warm = warm.unwrap();
    let sent = done.sent.load(Ordering::Relaxed);
    // Said before anything is checked: a check that fails ends the test.
    eprintln!(
        "{:?}: {sent} requests ({} whole, {} left by the client, {} failed by the upstream, {} refused), {reloads} reloads",
        time(),
        done.whole.lock().unwrap().len(),
        done.aborted.load(Ordering::Relaxed),
        done.failed.load(Ordering::Relaxed),
        done.refused.load(Ordering::Relaxed),
    );

    // Everything that was held is given back, everything that was closed is in the store, and no task is left but those
    // of a gateway at rest, and the one that closes idle connections.
    let ended = Instant::now();
    let at_rest = [
        ("weir_in_flight_requests", 0.0),
        ("weir_ledger_queue", 0.0),
        ("weir_tasks", idle_tasks + 1.0),
    ];
    for (metric, most) in at_rest {
        loop {
            let left = gateway.metric(metric).await;
            if left <= most {
                break;
            }
            assert!(
                ended.elapsed() < Duration::from_secs(60),
                "a minute after the load {metric} is {left}, not {most}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let settled = ended.elapsed();
    let entries = gateway.ledger_of(sent).await;
    let last = gateway.vitals();
    // One look tells little: what is held at a moment swings by a tenth with every reload.
    let share = memory.len() / 8;
    let first_kib = median(&memory[..=share]);
    let last_kib = median(&memory[memory.len() - 1 - share..]);
    let growth = i64::try_from(last_kib).unwrap() - i64::try_from(first_kib).unwrap();
    eprintln!(
        "memory {first_kib} KiB once warm, {last_kib} in the end, {} to {} at any moment, {} after the load; files {} and {}; threads {} and {}; \
         the ledger at most {behind} entries behind, {settled:?} after the load not at all",
        memory.iter().min().unwrap(),
        memory.iter().max().unwrap(),
        last.memory_kib,
        warm.descriptors,
        last.descriptors,
        warm.threads,
        last.threads,
    );
    // A short run is not warm when it is measured: the first minute fills pools and caches, the first ten do not.
    let percent = match time().as_secs() {
        0..60 => i64::MAX,
        60..600 => 10,
        _ => 5,
    };
    assert!(
        growth.saturating_mul(100) / i64::try_from(first_kib).unwrap() < percent,
        "memory grew by {growth} KiB"
    );
    assert!(
        last.descriptors <= warm.descriptors + 8,
        "files: {warm:?} {last:?}"
    );
    assert!(
        last.threads <= warm.threads + 8,
        "threads: {warm:?} {last:?}"
    );

    // At most 32 at once may be admitted: had reservations been left, right requests would have been refused in the end.
    assert_eq!(
        done.refused.load(Ordering::Relaxed),
        done.mistakes.load(Ordering::Relaxed),
        "more was refused than mistakes"
    );
    assert_eq!(
        done.failed.load(Ordering::Relaxed),
        done.faults.load(Ordering::Relaxed),
        "more failed than the upstream's faults"
    );

    // The ledger is exact: each answer seen to its end stands once, with the upstream's own figures.
    let by_id: std::collections::HashMap<&str, &serde_json::Value> = entries
        .iter()
        .map(|entry| (entry["id"].as_str().unwrap(), entry))
        .collect();
    assert_eq!(by_id.len(), entries.len());
    for id in done.whole.lock().unwrap().iter() {
        let entry = by_id[id.as_str()];
        assert_eq!(
            (
                entry["outcome"].as_str(),
                entry["usage"]["input_tokens"].as_u64(),
                entry["usage"]["output_tokens"].as_u64()
            ),
            (Some("completed"), Some(7), Some(20)),
            "{entry}"
        );
    }
    assert_eq!(gateway.stop().await, Some(0));
}

/// One client: whole answers, streams, streams that it leaves, upstreams that fail, mistakes of its own.
async fn work(address: std::net::SocketAddr, worker: usize, done: Arc<Done>) {
    let mut client = Client::new(address, "sk-acme");
    let mut turn = worker;
    while !done.stop.load(Ordering::Relaxed) {
        turn += 1;
        if turn.is_multiple_of(50) {
            client = Client::new(address, "sk-acme");
        }
        let (model, stream) = match turn % 12 {
            0 => ("breaks", true),
            1 => ("closes", false),
            2 => ("fails", false),
            3..=7 => ("gpt-4o-mini", true),
            _ => ("gpt-4o-mini", false),
        };
        let body = CHAT.replace("gpt-4o-mini", model);
        let body = if stream {
            body.replacen('{', "{\"stream\":true,", 1)
        } else {
            body
        };
        let body = if turn.is_multiple_of(31) {
            done.mistakes.fetch_add(1, Ordering::Relaxed);
            "{".to_owned()
        } else {
            if turn % 12 < 3 {
                done.faults.fetch_add(1, Ordering::Relaxed);
            }
            body
        };
        done.sent.fetch_add(1, Ordering::Relaxed);
        let answer = client
            .start(CHAT_PATH, body, &[])
            .await
            .expect("the gateway answers");
        let id = answer.headers()["x-weir-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        let status = answer.status();
        let mut incoming = answer.into_body();
        if status == 200 && stream && turn % 12 == 5 {
            let _ = incoming.frame().await;
            done.aborted.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let whole = incoming.collect().await.is_ok();
        let counter = match (status.as_u16(), whole) {
            (200, true) => {
                done.whole.lock().unwrap().push(id);
                continue;
            }
            (200, false) | (500..=504, _) => &done.failed,
            _ => &done.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
