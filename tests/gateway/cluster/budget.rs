//! A budget holds for all gateways together.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir::money::Money;

use super::{Cluster, End, KINDS, tree, turn};

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
