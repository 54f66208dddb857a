//! The figures agree wherever they are read.

use std::sync::atomic::{AtomicU64, Ordering};

use weir::money::Money;

use crate::support::{ACME, CHAT, Client, Gateway, Reply, Upstream, chat_answer, config};

#[tokio::test(flavor = "multi_thread")]
async fn ledger_metrics_and_an_independent_sum_agree() {
    let number = AtomicU64::new(0);
    let upstream = Upstream::start(move |_| {
        let n = number.fetch_add(1, Ordering::Relaxed);
        Reply::json(200, chat_answer(1 + n * 37 % 991, 1 + n * 53 % 499))
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.post("/v1/chat/completions", CHAT).await.status, 200);
    }
    // 0.15 and 0.60 dollars per million tokens are 150,000 and 600,000 pico-dollars a token.
    let picos: u64 = (0..100)
        .map(|n: u64| (1 + n * 37 % 991) * 150_000 + (1 + n * 53 % 499) * 600_000)
        .sum();
    let expected = Money::from_picos(i128::from(picos));
    let exported: Money = gateway
        .ledger_of(100)
        .await
        .iter()
        .map(|entry| Money::parse(entry["cost_usd"].as_str().unwrap()).unwrap())
        .sum();
    assert_eq!(exported, expected);
    let metric = gateway.metric("weir_cost_usd_total").await;
    assert!(
        (metric - expected.to_f64()).abs() < 1e-12,
        "{metric} against {expected}"
    );
    let margin: serde_json::Value =
        serde_json::from_str(&gateway.run(&["margin", "--format", "json"])).unwrap();
    assert_eq!(margin["total"]["cost_usd"], expected.to_string());
    assert_eq!(margin["total"]["requests"], 100);

    // Another upstream asks half: the command line and the admin API say what that would have been.
    let offer = "[[models]]\nmodel = \"gpt-4o-mini\"\n[[models.prices]]\nfrom = 2024-01-01\ninput = \"0.075\"\n\
        output = \"0.30\"\nsource = \"an offer\"\n";
    std::fs::write(gateway.directory().join("offer.toml"), offer).unwrap();
    let options = ["whatif", "--price-table", "offer.toml", "--format", "json"];
    let told: serde_json::Value = serde_json::from_str(&gateway.run(&options)).unwrap();
    let admin = Client::new(gateway.admin, "admin-token");
    let body = serde_json::json!({ "price_table": offer }).to_string();
    let answered = admin.post("/api/v1/whatif", body).await.json();
    let half = Money::from_picos(i128::from(picos / 2)).to_string();
    for answer in [told, answered] {
        assert_eq!(answer["actual"]["total"]["cost_usd"], expected.to_string());
        assert_eq!(answer["whatif"]["total"]["cost_usd"], half);
    }
    let unreadable = serde_json::json!({ "price_table": "[[models]]" }).to_string();
    let refused = admin.post("/api/v1/whatif", unreadable).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["where"], "price_table");
}
