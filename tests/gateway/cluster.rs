//! Several gateways on one PostgreSQL and one Redis: a budget holds for all of them together, and neither a killed gateway
//! nor a lost Redis nor a stopped PostgreSQL loses an entry, books one twice or leaves a counter wrong.

mod breakage;
mod budget;
mod changes;
mod services_away;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde_json::Value;
use weir::money::Money;

use crate::support::{
    Asked, Body, CHAT_PATH, Client, Gateway, Postgres, Redis, Reply, Upstream, chat_answer,
    chat_chunks, config,
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
fn reply(asked: &Asked) -> Reply {
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
    let Ok(response) = client.start(CHAT_PATH, ask(kind), &[]).await else {
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
