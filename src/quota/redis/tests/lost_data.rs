//! Redis loses its data.

use std::time::Instant;

use super::*;
use crate::quota::redis::rebuild::Step;

#[tokio::test]
async fn lost_data_is_built_again_and_every_request_counts_once() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let one = server.node(&ledger, QuotaFailure::Closed);
    let two = server.node(&ledger, QuotaFailure::Closed);
    let ended = reserve(&one, &chain, &usd(20)).await.unwrap();
    ledger.write(ended, &chain, &usd(15), now());
    one.settle(ended, &usd(15), now()).await.unwrap();
    let open = reserve(&one, &chain, &usd(10)).await.unwrap();
    let ends_first = reserve(&one, &chain, &usd(7)).await.unwrap();

    server.restart().await;
    // Gateway one, which has requests open, notices at a tick; gateway two is asked meanwhile.
    let asked = tokio::spawn({
        let (two, chain) = (Arc::clone(&two), chain.clone());
        async move {
            for _ in 0..200 {
                match reserve(&two, &chain, &usd(1)).await {
                    Err(ReserveError::Unavailable) => {
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                    answer => return answer,
                }
            }
            panic!("no answer");
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..3 {
        one.tick(now()).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // It ends while the counters are rebuilt, its entry in the ledger before that reads it.
    ledger.write(ends_first, &chain, &usd(5), now());
    one.settle(ends_first, &usd(5), now()).await.unwrap();
    let third = asked.await.unwrap().unwrap();
    one.tick(now()).await;
    assert_eq!(cost(&two, &chain).await, (20, 11));

    for (node, id, actual) in [(&one, open, 9), (&two, third, 1)] {
        ledger.write(id, &chain, &usd(actual), now());
        node.settle(id, &usd(actual), now()).await.unwrap();
    }
    assert_eq!(cost(&one, &chain).await, (30, 0));
    assert_eq!(ledger.sum(Measure::Cost), 30_000_000_000_000);
}

#[tokio::test]
async fn while_counters_are_built_again_requests_wait_no_longer_than_a_call_may_take() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let node = |fail| {
        let mut node = Arc::into_inner(server.node(&ledger, fail)).unwrap();
        node.wait = Duration::from_millis(40);
        node.gather = Duration::from_millis(1_500);
        Arc::new(node)
    };
    let (closed, open) = (node(QuotaFailure::Closed), node(QuotaFailure::Open));
    let roots: Vec<AccountId> = chain.root().cloned().into_iter().collect();
    for node in [&closed, &open] {
        node.start(roots.clone(), now()).await;
    }
    let id = reserve(&open, &chain, &usd(20)).await.unwrap();
    ledger.write(id, &chain, &usd(20), now());
    open.settle(id, &usd(20), now()).await.unwrap();
    assert!(reserve(&closed, &chain, &usd(1)).await.is_ok());

    server.restart().await;
    // Nobody asks: they notice by themselves.
    while !closed.is_up() || closed.since_ms().await.is_none() {
        closed.tick(now()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    closed.tick(now()).await;
    let asked = Instant::now();
    let refused = reserve(&closed, &chain, &usd(1)).await;
    assert_eq!(refused, Err(ReserveError::Unavailable));
    // By the share of what was left when Redis was last heard of.
    let shared = reserve(&open, &chain, &usd(30)).await;
    assert!(shared.is_ok(), "{shared:?}");
    let denied = reserve(&open, &chain, &usd(30)).await;
    assert!(matches!(denied, Err(ReserveError::Denied(_))), "{denied:?}");
    assert!(
        asked.elapsed() < Duration::from_millis(800),
        "{:?}",
        asked.elapsed()
    );

    let began = Instant::now();
    let admitted = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        closed.tick(now()).await;
        open.tick(now()).await;
        match reserve(&closed, &chain, &usd(1)).await {
            Err(ReserveError::Unavailable) if began.elapsed() < Duration::from_secs(10) => {}
            answer => break answer,
        }
    };
    assert!(admitted.is_ok(), "{admitted:?}");
    assert_eq!(cost(&closed, &chain).await.0, 20);
}

#[tokio::test]
async fn entries_on_their_way_are_in_the_ledger_before_another_gateway_builds_the_counters() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let journal = Journal::of(&ledger);
    let one = server.node_on(&journal, QuotaFailure::Closed);
    let mut two = Arc::into_inner(server.node(&ledger, QuotaFailure::Closed)).unwrap();
    // Time for the first gateway to notice.
    two.gather = Duration::from_secs(2);
    let two = Arc::new(two);
    let root = chain.root().unwrap();
    one.tick(now()).await;
    let id = reserve(&one, &chain, &usd(20)).await.unwrap();
    journal.spooled.write(id, &chain, &usd(15), now());
    one.settle(id, &usd(15), now()).await.unwrap();

    let flushed: Result<String, _> = one.link.command(&redis::cmd("FLUSHALL")).await;
    flushed.unwrap();
    two.meet_store(now()).await;
    let building = tokio::spawn({
        let (two, root) = (Arc::clone(&two), root.clone());
        async move { two.raise_all([root]).await }
    });
    until("the second gateway builds", || two.rising().is_building).await;
    one.tick(now()).await;
    building.await.unwrap();
    assert_eq!(cost(&two, &chain).await, (15, 0));
}

#[tokio::test]
async fn counters_are_not_built_without_entries_that_cannot_reach_the_ledger_yet() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let journal = Journal::of(&ledger);
    let mut node = Arc::into_inner(server.node_on(&journal, QuotaFailure::Closed)).unwrap();
    node.wait = Duration::from_millis(400);
    let node = Arc::new(node);
    node.tick(now()).await;
    let id = reserve(&node, &chain, &usd(20)).await.unwrap();
    journal.spooled.write(id, &chain, &usd(15), now());
    node.settle(id, &usd(15), now()).await.unwrap();

    journal.store_is_away.store(true, Ordering::SeqCst);
    let flushed: Result<String, _> = node.link.command(&redis::cmd("FLUSHALL")).await;
    flushed.unwrap();
    // It notices at a tick, which cannot flush, and neither can the rebuild.
    let _running = running(&node);
    until("a rebuild has failed", || {
        journal.refused.load(Ordering::SeqCst) >= 2
    })
    .await;
    let refused = reserve(&node, &chain, &usd(1)).await;
    assert_eq!(refused, Err(ReserveError::Unavailable));

    journal.store_is_away.store(false, Ordering::SeqCst);
    let began = Instant::now();
    let admitted = loop {
        match reserve(&node, &chain, &usd(1)).await {
            Err(ReserveError::Unavailable) if began.elapsed() < Duration::from_secs(20) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => break answer,
        }
    };
    assert!(admitted.is_ok(), "{admitted:?}");
    assert_eq!(cost(&node, &chain).await, (15, 1));
}

#[tokio::test]
async fn while_counters_are_built_a_look_at_them_shows_what_they_last_held() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let mut node = Arc::into_inner(server.node(&ledger, QuotaFailure::Closed)).unwrap();
    node.wait = Duration::from_millis(400);
    let node = Arc::new(node);
    let builder = server.node(&ledger, QuotaFailure::Closed);
    let root = chain.root().unwrap();
    let id = reserve(&node, &chain, &usd(20)).await.unwrap();
    node.settle(id, &usd(15), now()).await.unwrap();
    reserve(&node, &chain, &usd(1)).await.unwrap();

    let flushed: Result<String, _> = node.link.command(&redis::cmd("FLUSHALL")).await;
    flushed.unwrap();
    let Ok(Step::Seed(epoch)) = builder.step(root).await else {
        panic!("it is not this gateway's to build");
    };
    node.raise(root);
    until("the gateway has met the tree", || {
        node.lock().epochs.get(root) == Some(&epoch)
    })
    .await;
    assert_eq!(cost(&node, &chain).await, (15, 1));
}
