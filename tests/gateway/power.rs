//! The power goes: what was not forced to the disk is gone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{ACME, CHAT, Client, Reply, Upstream, chat_answer, config, misfortune};

/// Power cuts; the long form of this test sets more.
fn cuts() -> usize {
    std::env::var("WEIR_POWER_CUTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_the_last_interval_at_most_and_leaves_a_consistent_file() {
    // The copying of the disk model takes time of its own, which belongs to no interval.
    cut_the_power("50ms", Duration::from_millis(50 + 250)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_where_each_record_is_forced() {
    cut_the_power("always", Duration::ZERO).await;
}

async fn cut_the_power(fsync: &str, may_be_lost: Duration) {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(5, 3))).await;
    let store = format!(
        "[store]\nurl = \"sqlite:DIRECTORY/data/weir.db\"\nfsync = \"{fsync}\"\n{}",
        config(&upstream, ACME)
    );
    let disk = ["MISFORTUNE_DISK=DIRECTORY/data"];
    let Some(mut gateway) = misfortune::prepare(&disk, &store) else {
        return;
    };
    std::fs::create_dir(gateway.directory().join("data")).unwrap();
    let seen: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
    let mut forgiven = HashSet::new();
    let mut oldest = Duration::ZERO;
    let mut lost = 0;
    for round in 0..cuts() {
        gateway.restart().await;
        // Every other time nothing reaches the database, whose own flushes would save the journal's records from a cut.
        let held = (round % 2 == 1).then(|| {
            let held =
                rusqlite::Connection::open(gateway.directory().join("data/weir.db")).unwrap();
            held.execute_batch("BEGIN IMMEDIATE").unwrap();
            held
        });
        let mut load = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (client, seen) = (Client::new(gateway.address, "sk-acme"), Arc::clone(&seen));
            load.spawn(async move {
                loop {
                    let Ok(answer) = client.start("/v1/chat/completions", CHAT, &[]).await else {
                        return;
                    };
                    let id = answer.headers()["x-weir-request-id"]
                        .to_str()
                        .unwrap()
                        .to_owned();
                    if http_body_util::BodyExt::collect(answer.into_body())
                        .await
                        .is_err()
                    {
                        return;
                    }
                    seen.lock().unwrap().push((id, Instant::now()));
                }
            });
        }
        // The moment is random on purpose: the rule must hold at every one.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..1200))).await;
        gateway.kill().await;
        let cut = Instant::now();
        load.shutdown().await;
        drop(held);
        let (data, disk) = (
            gateway.directory().join("data"),
            gateway.directory().join("data.disk"),
        );
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&disk, &data).unwrap();
        let _ = std::fs::remove_dir_all(gateway.directory().join("data.disk.inodes"));

        // What the next start makes of it.
        gateway.restart().await;
        let entries = gateway.ledger();
        let ids: HashSet<&str> = entries
            .iter()
            .map(|entry| entry["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), entries.len(), "an entry stands twice");
        for (id, at) in seen.lock().unwrap().iter() {
            if !ids.contains(id.as_str()) && forgiven.insert(id.clone()) {
                lost += 1;
                let age = cut.saturating_duration_since(*at);
                oldest = oldest.max(age);
            }
        }
        let database = rusqlite::Connection::open(data.join("weir.db")).unwrap();
        let verdict: String = database
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        drop(database);
        assert_eq!(gateway.stop().await, Some(0));
        // An orderly end forces everything; the disk model has it under its own names.
        std::fs::remove_dir_all(&disk).unwrap_or_default();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([&data, &disk])
            .status()
            .unwrap();
        assert!(copied.success());
        let _ = std::fs::remove_dir_all(gateway.directory().join("data.disk.inodes"));
    }
    let seen = seen.lock().unwrap().len();
    eprintln!(
        "{} power cuts, fsync {fsync}: {seen} answers seen to their end, {lost} not in the ledger, the oldest of them {oldest:?} before the cut",
        cuts()
    );
    assert!(seen > 5 * cuts(), "the load was no load");
    assert!(oldest <= may_be_lost, "{oldest:?}");
}
