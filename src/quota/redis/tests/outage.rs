//! Redis is away.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn closed_counters_that_hang_refuse_in_time_and_late_settlements_count_once() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (journal, chain) = (Journal::of(&Arc::default()), budget(100));
    let node = server.node_on(&journal, QuotaFailure::Closed);
    let open = reserve(&node, &chain, &usd(10)).await.unwrap();
    assert_eq!(journal.owed(), []);
    server.signal("STOP");
    let asked = Instant::now();
    assert_eq!(
        reserve(&node, &chain, &usd(10)).await,
        Err(ReserveError::Unavailable)
    );
    assert!(asked.elapsed() < Duration::from_millis(900));
    // It was just found to be away: the next request does not wait for it at all.
    let asked = Instant::now();
    assert_eq!(
        reserve(&node, &chain, &usd(10)).await,
        Err(ReserveError::Unavailable)
    );
    assert!(asked.elapsed() < Duration::from_millis(50));
    assert!(node.settle(open, &usd(8), now()).await.is_ok());
    assert_eq!(
        node.settle(open, &usd(8), now()).await,
        Err(SettleError::AlreadyEnded)
    );
    assert_eq!(node.backlog(), (0, 1));
    assert_eq!(journal.owed().first(), chain.root());

    server.signal("CONT");
    deliver(&node).await;
    assert_eq!(journal.owed(), []);
    assert_eq!(cost(&node, &chain).await.0, 8);
}

#[tokio::test]
async fn open_counters_that_hang_admit_this_gateways_share_and_book_it_later() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(100));
    let node = server.node(&ledger, QuotaFailure::Open);
    let open = reserve(&node, &chain, &usd(20)).await.unwrap();
    server.signal("STOP");
    // 80 dollars were left, of which half is this gateway's.
    let shared = reserve(&node, &chain, &usd(30)).await.unwrap();
    assert!(matches!(
        reserve(&node, &chain, &usd(11)).await,
        Err(ReserveError::Denied(_))
    ));
    let still_open = reserve(&node, &chain, &usd(10)).await.unwrap();
    node.settle(shared, &usd(25), now()).await.unwrap();
    node.settle(open, &usd(20), now()).await.unwrap();

    server.signal("CONT");
    deliver(&node).await;
    // The refused request was asked of a Redis that hung: what it then held ends with its lease.
    let later = now()
        .saturating_add(jiff::SignedDuration::from_secs(11))
        .unwrap();
    node.tick(now()).await;
    node.tick(later).await;
    assert_eq!(cost(&node, &chain).await, (45, 10));
    node.settle(still_open, &usd(9), later).await.unwrap();
    assert_eq!(cost(&node, &chain).await, (54, 0));
}

#[tokio::test]
async fn what_was_admitted_before_open_counters_hang_goes_on_within_this_gateways_share() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(100));
    let node = server.node(&ledger, QuotaFailure::Open);
    let open = reserve(&node, &chain, &usd(20)).await.unwrap();
    server.signal("STOP");
    // 80 dollars were left, of which half is this gateway's.
    node.top_up(open, &usd(30), now()).await.unwrap();
    node.top_up(open, &usd(10), now()).await.unwrap();
    let denied = node.top_up(open, &usd(1), now()).await;
    assert!(matches!(denied, Err(ReserveError::Denied(_))), "{denied:?}");
    node.settle(open, &usd(55), now()).await.unwrap();

    server.signal("CONT");
    deliver(&node).await;
    assert_eq!(cost(&node, &chain).await, (55, 0));
}

#[tokio::test]
async fn a_gateway_that_starts_while_redis_is_away_goes_by_what_the_ledger_says() {
    let Some(server) = Server::start().await else {
        return;
    };
    let chain = budget(100);
    let node = server.node(&Arc::default(), QuotaFailure::Open);
    server.signal("STOP");
    node.start(Vec::new(), now()).await;
    assert!(!node.is_up());
    let past = Use {
        rule: Arc::clone(chain.rules("gpt-4o").next().unwrap()),
        at: now(),
        units: usd(60).units(Measure::Cost),
    };
    node.remember(&[past], now());
    // 40 dollars are left, of which half is this gateway's.
    let denied = reserve(&node, &chain, &usd(21)).await;
    assert!(matches!(denied, Err(ReserveError::Denied(_))), "{denied:?}");
    assert!(reserve(&node, &chain, &usd(20)).await.is_ok());
    server.signal("CONT");
}

/// Ticks until Redis has taken everything.
async fn deliver(node: &Arc<RedisQuota>) {
    for _ in 0..200 {
        node.tick(now()).await;
        if node.backlog().1 == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} is still owed", node.backlog());
}
