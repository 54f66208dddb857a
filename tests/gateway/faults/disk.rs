//! A disk that is full, slow, or takes no writes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{
    ACME, Body, CHAT, CHAT_PATH, Client, Gateway, Reply, Upstream, chat_answer, config, misfortune,
};

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
    // They stay open for as long as it takes to fill the disk, however busy the machine is.
    let patient = on_a_small_disk(&upstream).replace("first_byte = \"5s\"", "first_byte = \"60s\"");
    let gateway = Gateway::start_under(&SMALL_DISK, &patient).await;
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
    let upstream = Upstream::quick().await;
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
    let said = gateway.heard("requests are refused").await;
    let refused = said.lines().any(|line| {
        line.contains("requests are refused")
            && line.contains("journal")
            && line.contains("is full")
    });
    assert!(refused, "{said}");

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
    let upstream = Upstream::quick().await;
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
async fn a_slow_disk_slows_the_ledger_and_not_the_requests() {
    let upstream = Upstream::quick().await;
    let Some(mut gateway) =
        misfortune::start(&["MISFORTUNE_SYNC_MS=400"], &config(&upstream, ACME)).await
    else {
        return;
    };
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
    let upstream = Upstream::quick().await;
    let forced = format!(
        "[store]\nurl = \"sqlite:DIRECTORY/weir.db\"\nfsync = \"always\"\n{}",
        config(&upstream, ACME)
    );
    let Some(gateway) =
        misfortune::start(&["MISFORTUNE_SYNC_FAILS=DIRECTORY/broken"], &forced).await
    else {
        return;
    };
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
    let told = "the journal takes records again";
    let said = gateway.heard(told).await;
    assert_eq!(said.matches(told).count(), 1, "{said}");
}
