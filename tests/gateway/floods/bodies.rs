//! Bodies that are large, packed, or made to be hard to read.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;

use super::{at_rest, grown_kib, head, server, still_serves};
use crate::support::raw::Raw;
use crate::support::{ACME, CHAT, CHAT_PATH, Gateway, Reply, Upstream, chat_answer, config};

const GZIP: [(&str, &str); 1] = [("content-encoding", "gzip")];

/// A MiB that packs well.
const SPACES: &[u8] = &[b' '; 1 << 20];

fn packed<'a>(level: Compression, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), level);
    for piece in pieces {
        packer.write_all(piece).unwrap();
    }
    packer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bodies_of_all_requests_together_have_a_bound() {
    let upstream =
        Upstream::start(|_| Reply::later(Duration::from_secs(2), chat_answer(1, 1))).await;
    let gateway = Gateway::start(&server(
        &upstream,
        "max_body_memory = \"1MiB\"\nmax_request_bytes = \"1MiB\"",
    ))
    .await;
    let client = gateway.client();
    let large = CHAT.replace("hello", &"hello ".repeat(110_000));
    let first = tokio::spawn({
        let (client, large) = (client.clone(), large.clone());
        async move { client.post(CHAT_PATH, large).await.status }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let second = client.post(CHAT_PATH, large.clone()).await;
    assert_eq!(
        (second.status.as_u16(), second.code().as_str()),
        (503, "overloaded")
    );
    // Packed it is small, but it must be unpacked to be read.
    let packed = packed(Compression::fast(), [large.as_bytes()]);
    let packed = client.post_with(CHAT_PATH, packed, &GZIP).await;
    assert_eq!(
        (packed.status.as_u16(), packed.code().as_str()),
        (503, "overloaded")
    );
    assert_eq!(
        client.post(CHAT_PATH, CHAT).await.status,
        200,
        "a small one fits"
    );
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(
        client.post(CHAT_PATH, large).await.status,
        200,
        "the memory is given back"
    );
}

/// The rule of `deploy/OPERATIONS.md`: `max_body_memory` is a quarter of what the process may have above 256 MiB. The limit is
/// the kernel's own (`RLIMIT_DATA`): a gateway that asked for more would end.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bodies_stays_within_the_limit_of_memory() {
    let upstream = Upstream::start(|asked| {
        let large = asked.body.len() > 100_000;
        let time = Duration::from_millis(if large { 1_500 } else { 1 });
        Reply::later(time, chat_answer(1, 1))
    })
    .await;
    let gateway = Gateway::start_under(
        &["sh", "-c", "ulimit -d 524288; exec \"$0\" \"$@\""],
        &server(&upstream, "max_body_memory = \"64MiB\""),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_refused_when_its_length_says_too_much_and_when_it_turns_out_to_be_too_long() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&server(&upstream, "max_request_bytes = \"1MiB\"")).await;
    // Nothing of it is sent, and nothing of it is waited for.
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(head(64 << 20)).await;
    let heard = raw.hear_until("too_large", Duration::from_secs(10)).await;
    assert_eq!(heard.statuses(), [413], "{heard:?}");
    // Chunks do not say how many there will be.
    let mut raw = Raw::connect(gateway.address).await;
    raw.send(head(0).replacen("Content-Length: 0", "Transfer-Encoding: chunked", 1))
        .await;
    let chunk = [&b"10000\r\n"[..], &[b' '; 1 << 16], b"\r\n"].concat();
    for _ in 0..32 {
        raw.send(&chunk).await;
    }
    raw.send("0\r\n\r\n").await;
    let heard = raw.hear_until("too_large", Duration::from_secs(10)).await;
    assert_eq!(heard.statuses(), [413], "{heard:?}");
    assert!(upstream.asked().is_empty());
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_that_unpacks_to_a_huge_one_is_refused() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let before = at_rest(&gateway).await;
    let bomb = packed(Compression::fast(), [SPACES; 256]);
    let client = gateway.client();
    for _ in 0..4 {
        let answer = client.post_with(CHAT_PATH, bomb.clone(), &GZIP).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (413, "request_too_large")
        );
    }
    let grown = grown_kib(&gateway, &before);
    eprintln!(
        "a gzip bomb of {} bytes for 256 MiB, 4 times: {grown} KiB more",
        bomb.len()
    );
    assert!(grown < 32 << 10, "{grown} KiB");
    // This one would unpack to 25 GiB: nobody counts that far.
    let endless = packed(Compression::best(), [SPACES; 64]).repeat(400);
    let began = Instant::now();
    let answer = client.post_with(CHAT_PATH, endless, &GZIP).await;
    assert_eq!(answer.status, 413);
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_unpacks_to_a_huge_one_passes_and_costs_no_memory() {
    let text = [&[b'x'; 1 << 20][..]; 256];
    let bomb = packed(
        Compression::fast(),
        [&b"{\"id\":\""[..]].into_iter().chain(text),
    );
    let sent = bomb.clone();
    let upstream =
        Upstream::start(move |_| Reply::json(200, bomb.clone()).header("content-encoding", "gzip"))
            .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let before = at_rest(&gateway).await;
    let began = Instant::now();
    let answer = gateway.client().post(CHAT_PATH, CHAT).await;
    assert_eq!(answer.body, sent, "the client gets the upstream's bytes");
    let grown = grown_kib(&gateway, &before);
    eprintln!(
        "an answer of {} bytes for 256 MiB: {grown} KiB more, {:?}",
        sent.len(),
        began.elapsed()
    );
    assert!(grown < 100 << 10, "{grown} KiB");
    let entry = &gateway.ledger_of(1).await[0];
    assert_ne!(entry["usage_source"], "reported", "{entry}");
    assert_ne!(entry["usage_source"], "none", "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_passed_or_refused_and_never_an_error_of_ours() {
    let upstream = Upstream::quick().await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    let with = |member: &str| CHAT.replacen('{', &format!("{{{member},"), 1);
    let bodies = [
        (
            "deep and closed",
            with(&format!(
                "\"x\":{}{}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            )),
        ),
        (
            "deep objects",
            with(&format!(
                "\"x\":{}1{}",
                "{\"a\":".repeat(100_000),
                "}".repeat(100_000)
            )),
        ),
        (
            "deep inside messages",
            CHAT.replace(
                "\"Say hello.\"",
                &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            ),
        ),
        ("a number beyond range", with("\"max_tokens\":1e999")),
        (
            "a long number",
            with(&format!("\"max_tokens\":{}", "9".repeat(10_000))),
        ),
        ("a negative maximum", with("\"max_tokens\":-1")),
        ("a lone surrogate", CHAT.replace("Say", "\\ud800")),
        (
            "a lone surrogate as the model",
            CHAT.replace("gpt-4o-mini", "\\udfff"),
        ),
        (
            "a long model",
            CHAT.replace("gpt-4o-mini", &"m".repeat(1_000_000)),
        ),
        (
            "a million members",
            with(
                &(0..200_000)
                    .map(|n| format!("\"k{n}\":0"))
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        ),
        ("the model twice", with("\"model\":\"gpt-4o\"")),
        ("the model in other letters", with("\"Model\":\"gpt-4o\"")),
        (
            "the model with an escape",
            with("\"mod\\u0065l\":\"gpt-4o\""),
        ),
    ];
    for (name, body) in bodies {
        let began = Instant::now();
        let answer = client.post(CHAT_PATH, body).await;
        assert!(answer.status.as_u16() < 500, "{name}: {}", answer.text());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{name}: {:?}",
            began.elapsed()
        );
        if name.starts_with("the model") {
            assert_eq!(answer.status, 400, "{name}: two readers may see two models");
        }
    }
    still_serves(&gateway).await;
}
