//! What gateways owed Redis when they ended.

use super::*;

#[tokio::test]
async fn what_a_gateway_owed_when_it_died_counts_once_and_what_another_one_holds_stays() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let journal = Journal::of(&ledger);
    let dead = server.node_on(&journal, QuotaFailure::Closed);
    let others = Journal::of(&ledger);
    let alive = server.node_on(&others, QuotaFailure::Closed);
    alive.tick(now()).await;
    let told = reserve(&dead, &chain, &usd(20)).await.unwrap();
    ledger.write(told, &chain, &usd(15), now());
    dead.settle(told, &usd(15), now()).await.unwrap();
    let open = reserve(&dead, &chain, &usd(7)).await.unwrap();
    let owed = reserve(&dead, &chain, &usd(10)).await.unwrap();
    // The other one has a request open, and one whose entry is on its way.
    let held = reserve(&alive, &chain, &usd(3)).await.unwrap();
    let ended = reserve(&alive, &chain, &usd(2)).await.unwrap();
    others.spooled.write(ended, &chain, &usd(1), now());
    alive.settle(ended, &usd(1), now()).await.unwrap();

    server.signal("STOP");
    journal.spooled.write(owed, &chain, &usd(8), now());
    dead.settle(owed, &usd(8), now()).await.unwrap();
    assert_eq!(dead.owed(), 1);
    // A gateway begins its work on a Redis that is still away: nothing is forgotten.
    journal.spooled.write(open, &chain, &usd(4), now());
    drop(dead);
    let journal = journal.heir();
    let heir = server.node_on(&journal, QuotaFailure::Closed);
    heir.start(chain.root().cloned().into_iter().collect(), now())
        .await;
    assert_eq!(journal.left().first(), chain.root());

    server.signal("CONT");
    let _running = [running(&heir), running(&alive)];
    until("the tree is given up", || journal.left().is_empty()).await;
    assert_eq!(cost(&heir, &chain).await, (15 + 1 + 8 + 4, 3));
    ledger.write(held, &chain, &usd(3), now());
    alive.settle(held, &usd(3), now()).await.unwrap();
    assert_eq!(cost(&heir, &chain).await, (31, 0));
    assert_eq!(ledger.sum(Measure::Cost), 31_000_000_000_000);
}

#[tokio::test]
async fn what_was_admitted_before_a_gateway_first_heard_of_redis_is_counted_once() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let early = server.node(&ledger, QuotaFailure::Open);
    let id = reserve(&early, &chain, &usd(20)).await.unwrap();
    ledger.write(id, &chain, &usd(20), now());
    early.settle(id, &usd(20), now()).await.unwrap();

    server.signal("STOP");
    let journal = Journal::of(&ledger);
    let late = server.node_on(&journal, QuotaFailure::Open);
    late.start(Vec::new(), now()).await;
    let id = reserve(&late, &chain, &usd(30)).await.unwrap();
    let open = reserve(&late, &chain, &usd(10)).await.unwrap();
    assert_eq!(journal.owed().first(), chain.root());
    journal.spooled.write(id, &chain, &usd(25), now());
    late.settle(id, &usd(25), now()).await.unwrap();
    assert_eq!(late.owed(), 1);

    server.signal("CONT");
    let _running = [running(&early), running(&late)];
    until("nothing is owed", || late.owed() == 0).await;
    assert_eq!(cost(&early, &chain).await, (45, 10));
    ledger.write(open, &chain, &usd(9), now());
    late.settle(open, &usd(9), now()).await.unwrap();
    until("nothing is noted", || journal.owed().is_empty()).await;
    assert_eq!(cost(&early, &chain).await, (54, 0));
}

#[tokio::test]
async fn a_tree_is_not_given_up_as_long_as_the_ledger_lacks_its_entries() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::new(Ledger::default()), budget(100));
    let before = server.node(&ledger, QuotaFailure::Closed);
    let id = reserve(&before, &chain, &usd(5)).await.unwrap();
    ledger.write(id, &chain, &usd(5), now());
    before.settle(id, &usd(5), now()).await.unwrap();

    let journal = Journal::of(&ledger);
    let node = server.node_on(&journal, QuotaFailure::Closed);
    journal.left.lock().unwrap().extend(chain.root().cloned());
    journal.store_is_away.store(true, Ordering::SeqCst);
    node.tick(now()).await;
    node.tick(now()).await;
    assert_eq!(journal.left().first(), chain.root());
    assert_eq!(cost(&node, &chain).await, (5, 0));
    journal.store_is_away.store(false, Ordering::SeqCst);
    node.tick(now()).await;
    assert_eq!(journal.left(), []);
    assert_eq!(cost(&node, &chain).await, (5, 0));
}
