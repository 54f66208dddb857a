//! A database and a journal that were damaged.

use std::time::{Duration, Instant};

use crate::support::{ACME, CHAT, CHAT_PATH, Gateway, Upstream, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_none_refuses_the_start_and_says_so() {
    let upstream = Upstream::quick().await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    gateway.client().post(CHAT_PATH, CHAT).await;
    assert_eq!(gateway.stop().await, Some(0));
    let database = gateway.directory().join("weir.db");
    std::fs::write(&database, "this was a ledger once\n".repeat(1000)).unwrap();
    let (code, said) = gateway.refused_start().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not a database"), "{said}");
    assert!(
        std::fs::read_to_string(&database)
            .unwrap()
            .starts_with("this was"),
        "it is left as it was found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_damaged_while_it_is_used_costs_no_entry() {
    let upstream = Upstream::quick().await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    let database = gateway.directory().join("weir.db");
    // All of it is in the file itself, and what the gateway has read of it is old: it must read it again.
    let other = rusqlite::Connection::open(&database).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let entries: i64 = other
            .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
            .unwrap();
        let busy: bool = other
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .unwrap();
        if entries == 1 && !busy {
            break;
        }
        assert!(Instant::now() < deadline, "the database is not at rest");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(other);
    let length = usize::try_from(std::fs::metadata(&database).unwrap().len()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&database);
    let rubbish = vec![0xa5; length - 4096];
    std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &rubbish, 4096).unwrap();

    let mut ids = Vec::new();
    for _ in 0..20 {
        let answer = client.post(CHAT_PATH, CHAT).await;
        assert_eq!(answer.status, 200, "requests go on");
        ids.push(answer.header("x-weir-request-id").unwrap().to_owned());
    }
    gateway.heard("the store must be repaired").await;
    assert_eq!(gateway.metric("weir_ledger_spooled_entries").await, 20.0);
    // Time for the journal to be told that they are in the store, if somebody thinks so.
    tokio::time::sleep(Duration::from_secs(1)).await;
    gateway.kill().await;
    for name in ["weir.db", "weir.db-wal", "weir.db-shm"] {
        let _ = std::fs::remove_file(gateway.directory().join(name));
    }
    gateway.restart().await;
    let entries = gateway.ledger();
    for id in &ids {
        let times = entries.iter().filter(|entry| entry["id"] == id.as_str());
        assert_eq!(times.count(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_loses_what_is_damaged_and_nothing_else() {
    let upstream = Upstream::quick().await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    // Nothing reaches the database, so that the journal alone has what is damaged.
    let held = rusqlite::Connection::open(gateway.directory().join("weir.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut ids = Vec::new();
    for _ in 0..40 {
        let answer = gateway.client().post(CHAT_PATH, CHAT).await;
        ids.push(answer.header("x-weir-request-id").unwrap().to_owned());
    }
    gateway.kill().await;
    drop(held);
    // One page of the journal had not reached the disk.
    for name in ["weir.db", "weir.db-wal", "weir.db-shm"] {
        let _ = std::fs::remove_file(gateway.directory().join(name));
    }
    let root = gateway.directory().join("weir.journal");
    let set = std::fs::read_dir(&root)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let segment = set.join("0000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8_192..8_704].fill(0xa5);
    std::fs::write(&segment, bytes).unwrap();
    // And beside it things that are no journals.
    std::fs::write(root.join("notes.txt"), "not a journal").unwrap();
    std::fs::create_dir(root.join("foreign")).unwrap();
    std::fs::write(
        root.join("foreign/0000000001.journal"),
        "weirlog9 from the future",
    )
    .unwrap();
    std::fs::write(root.join("foreign/lock"), "").unwrap();
    gateway.restart().await;
    let entries = gateway.ledger();
    let missing = ids
        .iter()
        .filter(|id| !entries.iter().any(|entry| entry["id"] == id.as_str()))
        .count();
    eprintln!(
        "512 damaged bytes of a journal: {missing} of {} entries lost",
        ids.len()
    );
    assert!(missing <= 3, "{missing} entries lost");
    gateway.heard("damaged").await;
    let events = gateway.metrics().await;
    assert!(events.contains("event=\"journal_damaged\""), "{events}");
    for (name, text) in [
        ("notes.txt", "not a journal"),
        (
            "foreign.foreign/0000000001.journal",
            "weirlog9 from the future",
        ),
    ] {
        assert_eq!(std::fs::read_to_string(root.join(name)).unwrap(), text);
    }
    assert_eq!(gateway.client().post(CHAT_PATH, CHAT).await.status, 200);
}
