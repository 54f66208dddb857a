//! Gateways, Redis and PostgreSQL break under load, in turn: afterwards entries and counters are whole.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Cluster, End, GATEWAYS, KINDS, tree, turn};

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
