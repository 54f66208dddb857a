//! A changed configuration takes force while requests are served; a broken one does not.

use std::time::Duration;

use crate::support::{ACME, CHAT, Client, Gateway, Reply, Upstream, chat_answer, config};

/// Waits until so many reloads had that result.
async fn reloads(gateway: &Gateway, result: &str, count: f64) {
    let sample = format!("weir_config_reloads_total{{result=\"{result}\"}} {count}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !gateway.metrics().await.contains(&sample) {
        assert!(tokio::time::Instant::now() < deadline, "no {sample}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_works_after_a_change_and_goes_on_working_after_a_broken_one() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let first = config(&upstream, ACME);
    let gateway = Gateway::start(&first).await;
    let newcomer = Client::new(gateway.address, "sk-new");
    assert_eq!(
        newcomer.post("/v1/chat/completions", CHAT).await.status,
        401
    );

    let second = first.replace(
        "keys = [",
        "keys = [{ id = \"acme-new\", secret = \"sk-new\" }, ",
    );
    gateway.rewrite(&second);
    reloads(&gateway, "accepted", 1.0).await;
    assert_eq!(
        newcomer.post("/v1/chat/completions", CHAT).await.status,
        200
    );

    gateway.rewrite(&second.replace("price = \"200.00\"", "price = 200"));
    reloads(&gateway, "refused", 1.0).await;
    assert_eq!(
        newcomer.post("/v1/chat/completions", CHAT).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_and_revoked_on_the_command_line_holds_within_a_second() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let secret = gateway.run(&["key", "create", "--account", "acme", "--id", "by-hand"]);
    let client = Client::new(gateway.address, secret.trim());
    let becomes = async |status: u16| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        while client
            .post("/v1/chat/completions", CHAT)
            .await
            .status
            .as_u16()
            != status
        {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no {status} within a second"
            );
        }
    };
    becomes(200).await;
    gateway.run(&["key", "revoke", "by-hand"]);
    becomes(401).await;
    let listed = gateway.run(&["key", "list"]);
    assert!(listed.contains("by-hand") && !listed.contains(secret.trim()));
}
