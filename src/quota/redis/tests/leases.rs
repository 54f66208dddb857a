//! Gateways that die, and clocks.

use super::*;

#[tokio::test]
async fn a_clock_that_is_far_from_the_stores_is_noticed_until_it_is_right_again() {
    let Some(server) = Server::start().await else {
        return;
    };
    let node = server.node(&Arc::default(), QuotaFailure::Closed);
    let ahead = jiff::SignedDuration::from_secs(15);
    for (clock, is_off) in [(now(), false), (now() + ahead, true), (now(), false)] {
        node.tick(clock).await;
        assert_eq!(node.clock_is_off.load(Ordering::Relaxed), is_off, "{clock}");
    }
}

#[tokio::test]
async fn what_a_dead_gateway_held_is_free_after_its_lease() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(10));
    let (dead, alive) = (
        server.node(&ledger, QuotaFailure::Closed),
        server.node(&ledger, QuotaFailure::Closed),
    );
    let kept = reserve(&alive, &chain, &usd(2)).await.unwrap();
    reserve(&dead, &chain, &usd(8)).await.unwrap();
    drop(dead);
    assert!(
        matches!(reserve(&alive, &chain, &usd(8)).await, Err(ReserveError::Denied(denied)) if !denied.settled)
    );
    for seconds in 1..=12 {
        alive
            .tick(
                now()
                    .saturating_add(jiff::SignedDuration::from_secs(seconds))
                    .unwrap(),
            )
            .await;
    }
    assert_eq!(cost(&alive, &chain).await, (0, 2));
    assert!(reserve(&alive, &chain, &usd(8)).await.is_ok());
    alive.settle(kept, &usd(2), now()).await.unwrap();
    assert_eq!(cost(&alive, &chain).await, (2, 8));
}
