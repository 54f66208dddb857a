//! A machine that fails in parts: the gateway never hangs, never serves what it cannot record, and says what is wrong.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::support::raw::Raw;
use crate::support::{
    ACME, Body, CHAT, Client, Gateway, Reply, Upstream, chat_answer, config, misfortune,
};

const CHAT_PATH: &str = "/v1/chat/completions";

async fn quick() -> Upstream {
    Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await
}

/// The usual configuration with a small disk of its own under the ledger.
fn on_a_small_disk(upstream: &Upstream) -> String {
    format!(
        "[store]\nurl = \"sqlite:DIRECTORY/disk/weir.db\"\n{}",
        config(upstream, ACME)
    )
}

const SMALL_DISK: [&str; 5] = [
    "unshare",
    "-Urm",
    "sh",
    "-c",
    "mkdir -p DIRECTORY/disk && mount -t tmpfs -o size=6m tmpfs DIRECTORY/disk && exec \"$0\" \"$@\"",
];

/// Leaves no byte free on the gateway's disk; the file that takes the room.
fn fill_the_disk(gateway: &Gateway) -> PathBuf {
    // The disk is the gateway's alone; this is how another process sees it.
    let disk = PathBuf::from(format!(
        "/proc/{}/root{}/disk",
        gateway.process_id(),
        gateway.directory().display()
    ));
    let ballast = disk.join("ballast");
    let mut bytes = 8 << 20;
    while bytes > 0 {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&ballast)
            .unwrap();
        if std::io::Write::write_all(&mut file, &vec![1; bytes]).is_err() {
            bytes /= 2;
        }
    }
    ballast
}

/// Completed entries in the database and the journals, as the command line finds them on the gateway's disk.
fn completed_on_its_disk(gateway: &Gateway) -> usize {
    let exported = std::process::Command::new("nsenter")
        .args([
            "-t",
            &gateway.process_id().to_string(),
            "-U",
            "-m",
            "--preserve-credentials",
        ])
        .arg(env!("CARGO_BIN_EXE_weir"))
        .args(["ledger", "export", "-c"])
        .arg(gateway.directory().join("weir.toml"))
        .output()
        .unwrap();
    assert!(
        exported.status.success(),
        "{}",
        String::from_utf8_lossy(&exported.stderr)
    );
    let lines = String::from_utf8(exported.stdout).unwrap();
    lines
        .lines()
        .filter(|line| line.contains("\"outcome\":\"completed\""))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_when_the_disk_fills_up_ends_and_is_recorded_on_the_full_disk() {
    if !misfortune::can_mount() {
        return;
    }
    let (tell, told) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |asked| match asked.json()["user"] == "slow" {
        true => Reply {
            body: Body::When(told.clone(), chat_answer(1, 1).into_bytes()),
            ..Reply::json(200, "")
        },
        false => Reply::json(200, chat_answer(1, 1)),
    })
    .await;
    let gateway = Gateway::start_under(&SMALL_DISK, &on_a_small_disk(&upstream)).await;
    const OPEN: usize = 64;
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..OPEN {
        let client = gateway.client();
        let slow = CHAT.replace("\"messages\"", "\"user\":\"slow\",\"messages\"");
        open.spawn(async move { client.post(CHAT_PATH, slow).await.status });
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while upstream.asked().len() < OPEN {
        assert!(Instant::now() < deadline, "they are not asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fill_the_disk(&gateway);
    // Others take all the room that is left; what the open ones need is not for them.
    let client = gateway.client();
    let (mut served, mut in_a_row) = (0, 0);
    while in_a_row < 10 {
        match client.post(CHAT_PATH, CHAT).await.status.as_u16() {
            200 => (served, in_a_row) = (served + 1, 0),
            status => {
                assert_eq!(status, 503);
                in_a_row += 1;
            }
        }
    }
    tell.send(true).unwrap();
    for status in open.join_all().await {
        assert_eq!(status, 200);
    }
    // Nothing was freed: they are in the journal, and a kill at this moment would lose none.
    assert_eq!(completed_on_its_disk(&gateway), served + OPEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_requests_and_is_over_when_there_is_space_again() {
    if !misfortune::can_mount() {
        return;
    }
    let upstream = quick().await;
    // What is refused for want of room gives back what it had reserved: else five of them would be in flight for ever.
    let limited = on_a_small_disk(&upstream).replace(
        "period = \"month\"\n",
        "period = \"month\"\nlimits = [{ on = \"concurrent\", max = 5 }]\n",
    );
    let gateway = Gateway::start_under(&SMALL_DISK, &limited).await;
    let client = gateway.client();
    let admin = Client::new(gateway.admin, "");
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    let ballast = fill_the_disk(&gateway);
    // Now and then one more fits into the room that an earlier one gave back; in the end none does.
    let (mut served, mut in_a_row, mut recovered) = (1, 0, 0);
    while in_a_row < 10 {
        let began = Instant::now();
        let answer = client.post(CHAT_PATH, CHAT).await;
        assert!(began.elapsed() < Duration::from_secs(5), "it hangs");
        if answer.status == 200 {
            recovered += usize::from(in_a_row > 0);
            (served, in_a_row) = (served + 1, 0);
            assert!(served < 20_000, "a full disk is no reason to stop");
            continue;
        }
        in_a_row += 1;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "overloaded")
        );
    }
    let said = gateway.said();
    let again = said.matches("the journal takes records again").count();
    assert_eq!(
        again, recovered,
        "only a request that begins ends it: {said}"
    );
    let asked = upstream.asked().len();
    assert_eq!(asked, served, "what was refused was not served");
    // However often it is asked, and whatever a refused request's own entry finds room for.
    for _ in 0..10 {
        let ready = admin.get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert_eq!(ready.text(), "not ready: the disk of the journal is full\n");
        assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 503);
    }
    let events = gateway.metrics().await;
    let refused_at = "event=\"journal_failed\",subject=\"begin\"";
    assert!(events.contains(refused_at), "{events}");
    // The database says of itself that it is full, too.
    let refused = gateway.said().lines().any(|line| {
        line.contains("requests are refused")
            && line.contains("journal")
            && line.contains("is full")
    });
    assert!(refused, "{}", gateway.said());

    std::fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while admin.get("/readyz").await.status != 200 {
        assert!(
            Instant::now() < deadline,
            "it does not find out that there is space"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    served += 1;
    let deadline = Instant::now() + Duration::from_secs(20);
    let completed = loop {
        let completed = completed_on_its_disk(&gateway);
        if completed >= served || Instant::now() > deadline {
            break completed;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(completed, served, "each served request has its entry");
    eprintln!("a full disk: {served} served and recorded, the others refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_written_refuses_the_start_and_says_so() {
    if !misfortune::can_mount() {
        return;
    }
    let upstream = quick().await;
    let mut gateway =
        Gateway::start(&on_a_small_disk(&upstream).replace("/disk/weir.db", "/weir.db")).await;
    assert_eq!(gateway.stop().await, Some(0));
    gateway.wrap(&[
        "unshare",
        "-Urm",
        "sh",
        "-c",
        "mount --bind DIRECTORY DIRECTORY && mount -o remount,bind,ro DIRECTORY && exec \"$0\" \"$@\"",
    ]);
    let (code, said) = gateway.refused_start().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("weir.db") || said.contains("readonly") || said.contains("Read-only"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_none_refuses_the_start_and_says_so() {
    let upstream = quick().await;
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
    let upstream = quick().await;
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
    let deadline = Instant::now() + Duration::from_secs(10);
    while !gateway.said().contains("the store must be repaired") {
        assert!(Instant::now() < deadline, "{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    let upstream = quick().await;
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
    assert!(gateway.said().contains("damaged"), "{}", gateway.said());
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

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_take_the_files_that_requests_need() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: Body::Later(Duration::from_millis(300), chat_answer(1, 1).into_bytes()),
    })
    .await;
    let bounds = "header_timeout = \"2s\"\n[admin]";
    let gateway = Gateway::start_under(
        &["sh", "-c", "ulimit -n 120; exec \"$0\" \"$@\""],
        &config(&upstream, ACME).replacen("[admin]", bounds, 1),
    )
    .await;
    assert!(
        gateway.said().contains("limit of open files"),
        "{}",
        gateway.said()
    );
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
    let upstream = quick().await;
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
    let upstream = quick().await;
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
    assert!(
        gateway.said().contains("cannot accept connections"),
        "{}",
        gateway.said()
    );
    may_open(1000);
    let served = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(served.expect("it is accepted in the end").unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_as_far_as_it_may() {
    let upstream = quick().await;
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
    let Some(wrapper) = misfortune::under(&["MISFORTUNE_CLOCK=DIRECTORY/clock"]) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let gateway = Gateway::start_under(&wrapper, &config(&upstream, ACME)).await;
    clock.set(gateway.directory().join("clock")).unwrap();
    std::fs::write(clock.get().unwrap(), "0").unwrap();
    assert_eq!(gateway.client().post(CHAT_PATH, CHAT).await.status, 200);
    let entry = &gateway.ledger_of(1).await[0];
    let time = |name: &str| -> jiff::Timestamp { entry[name].as_str().unwrap().parse().unwrap() };
    assert!(time("ended_at") >= time("started_at"), "{entry}");
    assert!(entry["duration_ms"].as_u64().unwrap() < 60_000, "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_turns_no_time_round_in_what_is_refused_or_cut_off() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![],
        body: Body::Silence,
    })
    .await;
    let Some(wrapper) = misfortune::under(&["MISFORTUNE_CLOCK=DIRECTORY/clock"]) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut gateway = Gateway::prepare(&wrapper, &config(&upstream, ACME));
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
    for entry in gateway.ledger_of(2).await {
        let time =
            |name: &str| -> jiff::Timestamp { entry[name].as_str().unwrap().parse().unwrap() };
        assert!(time("ended_at") >= time("started_at"), "{entry}");
        assert!(entry["duration_ms"].as_u64().unwrap() < 60_000, "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_gives_nobody_a_limit_anew() {
    let upstream = quick().await;
    let Some(wrapper) = misfortune::under(&["MISFORTUNE_CLOCK=DIRECTORY/clock"]) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let limited = ACME.replace(
        "period = \"month\"\n",
        "period = \"month\"\nlimits = [{ on = \"requests\", max = 4, per = \"1h\" }, { on = \"requests\", max = 100, per = \"day\" }]\n",
    );
    let mut gateway = Gateway::start_under(&wrapper, &config(&upstream, &limited)).await;
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
    let entries = gateway.ledger_of(6).await;
    for entry in &entries {
        let time =
            |name: &str| -> jiff::Timestamp { entry[name].as_str().unwrap().parse().unwrap() };
        assert!(time("ended_at") >= time("started_at"), "{entry}");
        assert!(entry["duration_ms"].as_u64().unwrap() < 60_000, "{entry}");
    }
    gateway.kill_and_restart().await;
    assert_eq!(
        gateway.client().post(CHAT_PATH, CHAT).await.status,
        429,
        "nor does a restart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_slows_the_ledger_and_not_the_requests() {
    let upstream = quick().await;
    let Some(wrapper) = misfortune::under(&["MISFORTUNE_SYNC_MS=400"]) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut gateway = Gateway::start_under(&wrapper, &config(&upstream, ACME)).await;
    let client = gateway.client();
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("each forced write takes 400 ms: the slowest request took {slowest:?}");
    assert!(slowest < Duration::from_millis(400), "{slowest:?}");
    assert_eq!(gateway.ledger_of(50).await.len(), 50);
    assert_eq!(gateway.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_flushed_refuses_requests_until_it_can_be_flushed_again() {
    let upstream = quick().await;
    let Some(wrapper) = misfortune::under(&["MISFORTUNE_SYNC_FAILS=DIRECTORY/broken"]) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let forced = format!(
        "[store]\nurl = \"sqlite:DIRECTORY/weir.db\"\nfsync = \"always\"\n{}",
        config(&upstream, ACME)
    );
    let gateway = Gateway::start_under(&wrapper, &forced).await;
    let (client, admin) = (gateway.client(), Client::new(gateway.admin, ""));
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    let broken = gateway.directory().join("broken");
    std::fs::write(&broken, "").unwrap();
    for _ in 0..5 {
        assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 503);
        assert_eq!(admin.get("/readyz").await.status, 503, "it takes writes");
    }
    std::fs::remove_file(&broken).unwrap();
    assert_eq!(admin.get("/readyz").await.status, 200);
    assert_eq!(client.post(CHAT_PATH, CHAT).await.status, 200);
    assert_eq!(upstream.asked().len(), 2, "what was refused was not served");
    let said = gateway.said();
    let again = said.matches("the journal takes records again").count();
    assert_eq!(again, 1, "{said}");
}

/// The rule of `deploy/OPERATIONS.md`: `max_body_memory` is a quarter of what the process may have above 256 MiB. The limit is
/// the kernel's own (`RLIMIT_DATA`): a gateway that asked for more would end.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bodies_stays_within_the_limit_of_memory() {
    let upstream = Upstream::start(|asked| {
        let large = asked.body.len() > 100_000;
        let time = Duration::from_millis(if large { 1_500 } else { 1 });
        Reply {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: Body::Later(time, chat_answer(1, 1).into_bytes()),
        }
    })
    .await;
    let quarter = "max_body_memory = \"64MiB\"\n[admin]";
    let gateway = Gateway::start_under(
        &["sh", "-c", "ulimit -d 524288; exec \"$0\" \"$@\""],
        &config(&upstream, ACME).replacen("[admin]", quarter, 1),
    )
    .await;
    assert_eq!(gateway.client().post(CHAT_PATH, CHAT).await.status, 200);
    let large = bytes::Bytes::from(CHAT.replace("hello", &"hello ".repeat(170_000)));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (client, large) = (gateway.client(), large.clone());
        flood.spawn(async move {
            let answer = client.post(CHAT_PATH, large).await;
            match (answer.status.as_u16(), answer.code().as_str()) {
                (200, _) => true,
                (503, "overloaded") => false,
                other => panic!("{other:?}: {}", answer.text()),
            }
        });
    }
    let mut served = 1;
    while let Some(answered) = flood.join_next().await {
        served += usize::from(answered.unwrap());
    }
    assert!((40..300).contains(&served), "{served} were served");
    assert_eq!(gateway.client().post(CHAT_PATH, CHAT).await.status, 200);
    let entries = gateway.ledger_of(301 + 1).await;
    let completed = entries
        .iter()
        .filter(|entry| entry["outcome"] == "completed");
    assert_eq!(completed.count(), served + 1);
}
