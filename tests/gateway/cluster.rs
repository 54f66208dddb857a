//! Several gateways on one PostgreSQL and one Redis: a budget holds for all of them together, and neither a killed gateway
//! nor a lost Redis nor a stopped PostgreSQL loses an entry, books one twice or leaves a counter wrong.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde_json::Value;
use weir::money::Money;

use crate::support::{
    Body, Client, Gateway, Postgres, Redis, Reply, Upstream, chat_answer, chat_chunks, config,
};

const GATEWAYS: usize = 3;
const ACCOUNTS: usize = 12;

/// A tree of one company with 12 teams, `sk-0` to `sk-11`.
fn tree(limit: &str) -> String {
    let mut text = format!(
        "[[plans]]\nid = \"company\"\nprice = \"0.00\"\nperiod = \"month\"\n[[plans.limits]]\n{limit}\n[[plans]]\nid = \"team\"\nprice = \"0.00\"\nperiod = \"month\"\n[[accounts]]\nid = \"company\"\nplan = \"company\"\nsince = 2026-01-01\n"
    );
    for number in 0..ACCOUNTS {
        text += &format!(
            "[[accounts]]\nid = \"team-{number}\"\nplan = \"team\"\nparent = \"company\"\nsince = 2026-01-01\nkeys = [{{ id = \"key-{number}\", secret = \"sk-{number}\" }}]\n"
        );
    }
    text
}

/// Three gateways, and what they share.
struct Cluster {
    gateways: Vec<Gateway>,
    postgres: Postgres,
    redis: Redis,
}

impl Cluster {
    /// `None`, with a printed line, where a service is not installed.
    async fn start(quota: &str, accounts: &str) -> Option<Cluster> {
        let (postgres, redis) = (Postgres::start()?, Redis::start()?);
        let upstream = Upstream::start(reply).await;
        let more = format!(
            "[store]\nurl = \"{}\"\n[quota]\nurl = \"{}\"\ngateways = {GATEWAYS}\n{quota}\n{accounts}",
            postgres.url(),
            redis.url()
        );
        let config = config(&upstream, &more).replacen(
            "[server]",
            "[server]\ndrain_after_close = \"100ms\"",
            1,
        );
        let mut gateways = Vec::new();
        for _ in 0..GATEWAYS {
            gateways.push(Gateway::start(&config).await);
        }
        Some(Cluster {
            gateways,
            postgres,
            redis,
        })
    }

    fn client(&self, number: usize) -> Client {
        let gateway = &self.gateways[number % GATEWAYS];
        Client::new(gateway.address, &format!("sk-{}", number % ACCOUNTS))
    }

    /// Waits until nothing is on its way any more: no request, no entry, no reservation.
    async fn at_rest(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut moving = 0.0;
            for gateway in &self.gateways {
                moving += gateway.metric("weir_in_flight_requests").await;
                moving += gateway.metric("weir_ledger_queue").await;
                moving += gateway.metric("weir_ledger_spooled_entries").await;
            }
            let held = self.limit(0).await.1;
            if moving == 0.0 && is_zero(&held) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{moving} on their way, {held} held"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the company's limit has used, and what is held, as one gateway sees it.
    async fn limit(&self, gateway: usize) -> (Value, Value) {
        let path = "/api/v1/limits?account=company";
        let page = self.gateways[gateway].admin_page(path).await;
        let limit = &page["items"][0];
        (limit["used"].clone(), limit["reserved"].clone())
    }

    /// The ledger's entries, each of which stands there once.
    fn entries(&self) -> Vec<Value> {
        let entries = self.gateways[0].ledger();
        let ids: HashSet<&str> = entries
            .iter()
            .map(|entry| entry["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), entries.len(), "an entry stands twice");
        entries
    }

    /// Waits until counters that are built anew have what the entries say.
    async fn counted(&self, entries: &[Value]) {
        let spent: Money = entries.iter().map(cost).sum();
        let deadline = Instant::now() + Duration::from_secs(20);
        for gateway in 0..GATEWAYS {
            while Money::parse(self.limit(gateway).await.0.as_str().unwrap()) != Ok(spent) {
                assert!(Instant::now() < deadline, "gateway {gateway}: not {spent}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Counters, entries and the rollups of the reports say the same; how much.
    async fn agree(&self, entries: &[Value]) -> Money {
        let spent: Money = entries.iter().map(cost).sum();
        for gateway in 0..GATEWAYS {
            let used = self.limit(gateway).await.0;
            assert_eq!(
                Money::parse(used.as_str().unwrap()).unwrap(),
                spent,
                "what gateway {gateway} counts, and the ledger's sum"
            );
        }
        let margin: Value =
            serde_json::from_str(&self.gateways[1].run(&["margin", "--format", "json"])).unwrap();
        let reported = margin["total"]["cost_usd"].as_str().unwrap();
        assert_eq!(Money::parse(reported).unwrap(), spent, "what reports say");
        let limits = ["limits", "--account", "company", "--format", "json"];
        let listed: Value = serde_json::from_str(&self.gateways[2].run(&limits)).unwrap();
        let used = listed[0]["used"].as_str().unwrap();
        assert_eq!(Money::parse(used).unwrap(), spent, "what weir limits says");
        spent
    }
}

fn cost(entry: &Value) -> Money {
    Money::parse(entry["cost_usd"].as_str().unwrap()).unwrap()
}

fn is_zero(amount: &Value) -> bool {
    amount
        .as_str()
        .map_or(amount == 0, |money| Money::parse(money) == Ok(Money::ZERO))
}

/// What the upstream does is what the request's `user` says. A whole answer costs a cent.
fn reply(asked: &crate::support::Asked) -> Reply {
    let asked = asked.json();
    let plain = |text: String| text.replace("gpt-4o-mini", "gpt-4o");
    let chunks = |words: &[&str], usage| -> Vec<Vec<u8>> {
        let chunks = chat_chunks(words, usage).into_iter();
        chunks.map(|chunk| plain(chunk).into_bytes()).collect()
    };
    match asked["user"].as_str().unwrap_or_default() {
        "streamed" => Reply::stream(Body::Pieces(chunks(&["a", "b", "c"], Some((5, 995))))),
        "fails" => Reply::json(500, r#"{"error":{"message":"no","type":"server_error"}}"#),
        "breaks" => Reply::stream(Body::BreaksOff(chunks(&["a", "b"], None)[..2].to_vec())),
        "hangs" => Reply::stream(Body::Hangs(chunks(&["a", "b"], None)[..2].to_vec())),
        _ => Reply::json(200, plain(chat_answer(5, 995))),
    }
}

/// The turns of a client: most are whole answers.
const KINDS: [&str; 8] = [
    "whole", "streamed", "whole", "fails", "streamed", "breaks", "whole", "hangs",
];

fn ask(kind: &str) -> String {
    let streams = matches!(kind, "streamed" | "breaks" | "hangs");
    format!(
        r#"{{"model":"gpt-4o","max_tokens":995,"stream":{streams},"user":"{kind}","messages":[{{"role":"user","content":"Say hello."}}]}}"#
    )
}

/// How a request ended, for its client.
#[derive(Debug)]
enum End {
    /// The head came, and the body to its end (or to where this client left).
    Answered {
        status: u16,
        code: String,
        id: Option<String>,
        whole: bool,
    },
    /// No head: the gateway was killed.
    Lost,
}

/// One request of that kind to its end.
async fn turn(client: &Client, kind: &str) -> End {
    let Ok(response) = client.start("/v1/chat/completions", ask(kind), &[]).await else {
        return End::Lost;
    };
    let status = response.status().as_u16();
    let id = response.headers().get("x-weir-request-id");
    let id = id.map(|id| id.to_str().unwrap().to_owned());
    let mut body = response.into_body();
    if kind == "hangs" && status == 200 {
        let _ = body.frame().await;
        return End::Answered {
            status,
            code: String::new(),
            id,
            whole: false,
        };
    }
    let bytes = body.collect().await.map(|body| body.to_bytes());
    let json = bytes
        .as_ref()
        .ok()
        .map(|bytes| serde_json::from_slice(bytes));
    let json: Value = json.and_then(Result::ok).unwrap_or_default();
    let code = json["error"]["code"].as_str().unwrap_or_default();
    End::Answered {
        status,
        code: code.to_owned(),
        id,
        whole: bytes.is_ok(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_six_clients_of_three_gateways_never_spend_more_than_five_dollars() {
    // The machine may be busy with other tests: a call of Redis gets more time than the default.
    let limit = "on = \"cost\"\nmax = \"5.00\"\nper = \"month\"";
    let Some(cluster) = Cluster::start("timeout = \"2s\"", &tree(limit)).await else {
        return;
    };
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..96 {
        let client = cluster.client(number);
        clients.spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(150);
            let mut at = number;
            while Instant::now() < deadline {
                at += 1;
                match turn(&client, KINDS[at % KINDS.len()]).await {
                    End::Answered {
                        status: 429, code, ..
                    } if code == "insufficient_quota" => {
                        return;
                    }
                    End::Answered {
                        status: 200 | 500, ..
                    } => {}
                    End::Answered {
                        status: 429 | 503, ..
                    } => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    end => panic!("{end:?}"),
                }
            }
        });
    }
    clients.join_all().await;
    cluster.at_rest().await;
    let entries = cluster.entries();
    let spent = cluster.agree(&entries).await;
    let of = |outcome: &str| {
        let of_outcome = |entry: &&Value| entry["outcome"] == outcome;
        entries.iter().filter(of_outcome).count()
    };
    println!(
        "{spent} of 5.00: {} completed, {} failed, {} left by their clients, {} rejected",
        of("completed"),
        of("upstream_failed"),
        of("client_closed"),
        of("rejected")
    );
    assert!(of("upstream_failed") > 0 && of("client_closed") > 0 && of("completed") > 0);
    assert!(spent <= Money::from_usd(5), "{spent} of 5.00");
    assert!(
        spent >= Money::parse("4.75").unwrap(),
        "only {spent} of 5.00"
    );
}

/// What clients saw while things broke.
#[derive(Default)]
struct Seen {
    /// Answers seen to their end.
    whole: Mutex<HashSet<String>>,
    answered: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    slowest_ms: AtomicU64,
    stop: AtomicBool,
}

/// Clients that ask again and again, of whichever gateway is there.
fn load(cluster: &Cluster, seen: &Arc<Seen>) -> tokio::task::JoinSet<()> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..9 {
        let (client, seen) = (cluster.client(number), Arc::clone(seen));
        clients.spawn(async move {
            let mut at = number;
            while !seen.stop.load(Ordering::Relaxed) {
                at += 1;
                let began = Instant::now();
                match turn(&client, KINDS[at % KINDS.len()]).await {
                    End::Answered {
                        status, id, whole, ..
                    } => {
                        assert!(matches!(status, 200 | 500 | 503), "{status}");
                        let count = if status == 503 {
                            &seen.refused
                        } else {
                            &seen.answered
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                        if let Some(id) = id.filter(|_| whole) {
                            seen.whole.lock().unwrap().insert(id);
                        }
                        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
                        seen.slowest_ms.fetch_max(took, Ordering::Relaxed);
                    }
                    End::Lost => {
                        seen.lost.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    clients
}

/// A number from the environment: the long form of this test sets more.
fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_gateways_a_lost_redis_and_a_stopped_postgres_lose_nothing_and_double_nothing() {
    let rounds = setting("WEIR_ROUNDS", 4);
    let away = Duration::from_secs(setting("WEIR_POSTGRES_AWAY_S", 4));
    let limit = "on = \"cost\"\nmax = \"100000.00\"\nper = \"month\"";
    let Some(mut cluster) = Cluster::start("timeout = \"1s\"", &tree(limit)).await else {
        return;
    };
    let seen = Arc::new(Seen::default());
    for round in 0..rounds {
        seen.stop.store(false, Ordering::Relaxed);
        let clients = load(&cluster, &seen);
        // The moment is random on purpose: the rule must hold at every one.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(300..900))).await;
        let what = match round % 4 {
            0 => {
                let victim = fastrand::usize(0..GATEWAYS);
                cluster.gateways[victim].kill().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                cluster.gateways[victim].restart().await;
                "a gateway was killed"
            }
            1 => {
                cluster.redis.restart();
                tokio::time::sleep(Duration::from_secs(2)).await;
                "Redis lost its data"
            }
            2 => {
                let victim = fastrand::usize(0..GATEWAYS);
                cluster.redis.hang();
                // What is open ends meanwhile, and is owed.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..900))).await;
                cluster.gateways[victim].kill().await;
                cluster.gateways[victim].restart().await;
                cluster.redis.go_on();
                "a gateway was killed while Redis was away"
            }
            _ => {
                let before = seen.answered.load(Ordering::Relaxed);
                cluster.postgres.stop();
                tokio::time::sleep(away).await;
                let mut spooled = 0.0;
                for gateway in &cluster.gateways {
                    spooled += gateway.metric("weir_ledger_spooled_entries").await;
                }
                let after = seen.answered.load(Ordering::Relaxed);
                assert!(after > before, "no request while PostgreSQL was away");
                assert!(spooled > 0.0, "nothing is spooled");
                cluster.postgres.go_on();
                "PostgreSQL was away"
            }
        };
        seen.stop.store(true, Ordering::Relaxed);
        clients.join_all().await;
        cluster.at_rest().await;
        let entries = cluster.entries();
        cluster.counted(&entries).await;
        let spent = cluster.agree(&entries).await;
        let ids: HashSet<&str> = entries
            .iter()
            .map(|entry| entry["id"].as_str().unwrap())
            .collect();
        let whole = seen.whole.lock().unwrap();
        let missing = whole.iter().filter(|id| !ids.contains(id.as_str())).count();
        assert_eq!(missing, 0, "of {} answers seen to their end", whole.len());
        println!(
            "round {round}, {what}: {} entries, ${spent}; {} answered, {} refused, {} lost, slowest {} ms",
            entries.len(),
            seen.answered.load(Ordering::Relaxed),
            seen.refused.load(Ordering::Relaxed),
            seen.lost.load(Ordering::Relaxed),
            seen.slowest_ms.load(Ordering::Relaxed)
        );
    }
    // An answer may take what its upstream may take (5 s until it begins) and what a rebuild may take.
    assert!(seen.slowest_ms.load(Ordering::Relaxed) < 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_another_plan_hold_on_every_gateway_within_a_second() {
    let limit = "on = \"requests\"\nmax = 100000\nper = \"month\"";
    let tight = format!(
        "{}[[plans]]\nid = \"tight\"\nprice = \"0.00\"\nperiod = \"month\"\n[[plans.limits]]\non = \"requests\"\nmax = 3\nper = \"month\"\n",
        tree(limit)
    );
    let Some(cluster) = Cluster::start("timeout = \"2s\"", &tight).await else {
        return;
    };
    let first = &cluster.gateways[0];
    first.run(&["account", "create", "late", "--plan", "team"]);
    let secret = first.run(&["key", "create", "--account", "late", "--id", "late-key"]);
    let secret = secret.split_whitespace().last().unwrap().to_owned();
    let clients: Vec<Client> = cluster
        .gateways
        .iter()
        .map(|gateway| Client::new(gateway.address, &secret))
        .collect();
    within_a_second(&clients, |status| status == 200).await;
    // Three requests were made under the old plan: they count under the new one.
    first.run(&["account", "set", "late", "--plan", "tight"]);
    within_a_second(&clients, |status| status == 429).await;
    first.run(&["account", "set", "late", "--plan", "team"]);
    within_a_second(&clients, |status| status == 200).await;
    first.run(&["key", "revoke", "late-key"]);
    within_a_second(&clients, |status| status == 401).await;
    // A key of the file too.
    cluster.gateways[1].run(&["key", "revoke", "key-3"]);
    let clients: Vec<Client> = cluster
        .gateways
        .iter()
        .map(|gateway| Client::new(gateway.address, "sk-3"))
        .collect();
    within_a_second(&clients, |status| status == 401).await;
}

/// Asks every gateway until each answers as it should, for at most a second from now on.
async fn within_a_second(clients: &[Client], is_right: impl Fn(u16) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(1);
    for client in clients {
        loop {
            let asked = Instant::now();
            let answer = client.post("/v1/chat/completions", ask("whole")).await;
            if is_right(answer.status.as_u16()) {
                break;
            }
            assert!(asked < deadline, "{}: {}", answer.status, answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks `count` times in turn at all gateways; statuses, and the median time in milliseconds.
async fn ask_all(cluster: &Cluster, count: usize) -> (Vec<u16>, u128) {
    let (mut statuses, mut took) = (Vec::new(), Vec::new());
    for number in 0..count {
        let began = Instant::now();
        let answer = cluster
            .client(number)
            .post("/v1/chat/completions", ask("whole"))
            .await;
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
    let refused = client.post("/v1/chat/completions", ask("whole")).await;
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
    while client
        .post("/v1/chat/completions", ask("whole"))
        .await
        .status
        != 200
    {
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
