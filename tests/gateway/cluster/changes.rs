//! Changes by hand at one gateway hold at all of them.

use std::time::{Duration, Instant};

use super::{Cluster, ask, tree};
use crate::support::{CHAT_PATH, Client};

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
            let answer = client.post(CHAT_PATH, ask("whole")).await;
            if is_right(answer.status.as_u16()) {
                break;
            }
            assert!(asked < deadline, "{}: {}", answer.status, answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
