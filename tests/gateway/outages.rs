//! Redis is away while gateways start, stop and die: afterwards its counters have what the ledger has.

use std::time::{Duration, Instant};

use crate::support::{
    ACME, Body, CHAT, CHAT_PATH, Gateway, Redis, Reply, Upstream, chat_answer, config,
};

const LIMIT: &str = "[[accounts.limits]]\non = \"requests\"\nmax = 10\nper = \"month\"\n";

/// A gateway that goes on without Redis, alone, with ten requests a month.
struct Scene {
    gateway: Gateway,
    redis: Redis,
    /// Answers, but what has a `user`.
    upstream: Upstream,
}

impl Scene {
    /// `None`, with a printed line, where there is no Redis.
    async fn start() -> Option<Scene> {
        let redis = Redis::start()?;
        let upstream = Upstream::start(|asked| match asked.json()["user"].is_string() {
            true => Reply {
                body: Body::Silence,
                ..Reply::json(200, "")
            },
            false => Reply::json(200, chat_answer(5, 3)),
        })
        .await;
        let quota = format!(
            "[quota]\nurl = \"{}\"\nfail = \"open\"\ngateways = 1\n",
            redis.url()
        );
        let text = config(&upstream, &format!("{quota}{ACME}{LIMIT}"));
        Some(Scene {
            gateway: Gateway::start(&text).await,
            redis,
            upstream,
        })
    }

    /// Asks so many times; the statuses.
    async fn ask(&self, count: usize) -> Vec<u16> {
        let client = self.gateway.client();
        let mut statuses = Vec::new();
        for _ in 0..count {
            let answer = client.post(CHAT_PATH, CHAT).await;
            statuses.push(answer.status.as_u16());
        }
        statuses
    }

    /// Waits until the limit has used so much, and holds nothing.
    async fn used(&self, expected: u64) {
        let began = Instant::now();
        loop {
            let page = self.gateway.admin_page("/api/v1/limits?account=acme").await;
            let limit = &page["items"][0];
            if limit["used"] == expected && limit["reserved"] == 0 {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{page}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until everything is in the store, and the journal says so: from then on no start finds it there.
    async fn at_rest(&self) {
        let began = Instant::now();
        while self.gateway.metric("weir_ledger_queue").await > 0.0 {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_without_redis_knows_what_the_ledger_says_was_used() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    assert_eq!(scene.ask(6).await, [200; 6]);
    assert_eq!(scene.gateway.stop().await, Some(0));
    scene.redis.hang();
    scene.gateway.restart().await;
    assert_eq!(scene.ask(6).await, [200, 200, 200, 200, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_with_settlements_that_redis_lacks_says_so_and_the_next_counts_them() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    assert_eq!(scene.ask(2).await, [200; 2]);
    // Redis is told behind the answers.
    scene.used(2).await;
    scene.redis.hang();
    assert_eq!(scene.ask(3).await, [200; 3]);
    assert_eq!(
        scene.gateway.stop().await,
        Some(1),
        "{}",
        scene.gateway.said()
    );
    let said = scene.gateway.said();
    assert!(
        said.contains("shared counters were not told") && said.contains("settlements=3"),
        "{said}"
    );

    scene.redis.go_on();
    scene.gateway.restart().await;
    scene.used(5).await;
    let told = "quota counters lack settlements that Redis was not told of";
    assert_eq!(scene.gateway.said().matches(told).count(), 1);
    assert_eq!(scene.ask(6).await, [200, 200, 200, 200, 200, 429]);
    // Once is enough.
    assert_eq!(
        scene.gateway.stop().await,
        Some(0),
        "{}",
        scene.gateway.said()
    );
    scene.gateway.restart().await;
    scene.used(10).await;
    assert!(!scene.gateway.said().contains(told));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_owed_redis_is_counted_once_redis_is_back() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    assert_eq!(scene.ask(2).await, [200; 2]);
    scene.redis.hang();
    assert_eq!(scene.ask(3).await, [200; 3]);
    scene.at_rest().await;
    scene.gateway.kill_and_restart().await;
    // The next one meets no Redis either, admits by what the ledger says, and is killed in its turn.
    assert_eq!(scene.ask(2).await, [200; 2]);
    scene.at_rest().await;
    scene.gateway.kill_and_restart().await;
    scene.redis.go_on();
    scene.used(7).await;
    assert_eq!(scene.ask(4).await, [200, 200, 200, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_had_open_counts_though_the_next_one_stops_before_redis_is_back() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    assert_eq!(scene.ask(1).await, [200]);
    scene.used(1).await;
    let client = scene.gateway.client();
    let body = CHAT.replacen('{', "{\"user\":\"me\",", 1);
    let asking = tokio::spawn(async move { client.start(CHAT_PATH, body, &[]).await });
    let began = Instant::now();
    while scene.upstream.asked().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.redis.hang();
    scene.gateway.kill_and_restart().await;
    assert!(asking.await.unwrap().is_err());
    scene.gateway.stop().await;
    scene.redis.go_on();
    scene.gateway.restart().await;
    scene.used(2).await;
}
