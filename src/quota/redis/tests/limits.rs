//! Limits that come and go, with several gateways.

use super::*;
use crate::quota::redis::past::built_arguments;
use crate::quota::redis::rebuild::Step;

#[tokio::test]
async fn a_limit_that_comes_back_has_what_was_used_since_and_another_gateway_keeps_it_meanwhile() {
    let Some(server) = Server::start().await else {
        return;
    };
    let ledger = Arc::new(Ledger::default());
    let a = server.node(&ledger, QuotaFailure::Closed);
    let b = server.node(&ledger, QuotaFailure::Closed);
    let chain = budget(10);
    let limit = Arc::clone(chain.rules("gpt-4o").next().unwrap());
    let root = chain.root().unwrap();
    let tree = |rules: &[&Arc<Rule>]| {
        HashMap::from([(root.clone(), rules.iter().copied().cloned().collect())])
    };
    ledger.write(RequestId::new(), &chain, &usd(3), now());
    // Built from the ledger: it has its past.
    assert_eq!(a.adopt(tree(&[&limit]), now()).await.unwrap(), []);
    assert_eq!(cost(&a, &chain).await, (3, 0));

    // Gone from this gateway's file, and still in the other one's.
    assert_eq!(a.adopt(tree(&[]), now()).await.unwrap(), []);
    let id = reserve(&b, &chain, &usd(2)).await.unwrap();
    b.settle(id, &usd(2), now()).await.unwrap();
    ledger.write(id, &chain, &usd(2), now());
    assert_eq!(cost(&b, &chain).await, (5, 0));
    // What this gateway served meanwhile did not count there.
    ledger.write(RequestId::new(), &chain, &usd(1), now());

    // Back, at both at the same time: one of them gives it its past.
    let (found, other) = tokio::join!(
        a.adopt(tree(&[&limit]), now()),
        b.adopt(tree(&[&limit]), now())
    );
    let found = [found.unwrap(), other.unwrap()].concat();
    assert_eq!(found, [Arc::clone(&limit)]);
    let past = ledger.used(&HashSet::from([root.clone()]), &HashSet::new());
    a.seed(&past, now()).await.unwrap();
    assert_eq!(cost(&b, &chain).await, (6, 0));
    assert_eq!(b.adopt(tree(&[&limit]), now()).await.unwrap(), []);
}

#[tokio::test]
async fn limits_are_not_taken_into_force_while_another_gateway_builds_their_tree() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (ledger, chain) = (Arc::default(), budget(100));
    let builder = server.node(&ledger, QuotaFailure::Closed);
    let other = server.node(&ledger, QuotaFailure::Closed);
    let root = chain.root().unwrap();
    let limit = Arc::clone(chain.rules("gpt-4o").next().unwrap());
    let tree = || HashMap::from([(root.clone(), vec![Arc::clone(&limit)])]);
    let open = reserve(&builder, &chain, &usd(10)).await.unwrap();
    let flushed: Result<String, _> = builder.link.command(&redis::cmd("FLUSHALL")).await;
    flushed.unwrap();
    // What this gateway has open is registered at the beginning.
    let Ok(Step::Seed(epoch)) = builder.step(root).await else {
        panic!("it is not this gateway's to build");
    };
    other.raise(root);
    until("the other gateway has met the tree", || {
        other.lock().epochs.get(root) == Some(&epoch)
    })
    .await;

    let adopting = other.adopt(tree(), now());
    tokio::pin!(adopting);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut adopting).await;
    assert!(early.is_err(), "{early:?}");
    builder.phase(root, &epoch, "reading").await.unwrap();
    let built = built_arguments(&epoch, now().as_millisecond(), [&limit].into_iter());
    builder.call(root, &SCRIPTS.built, &built).await.unwrap();
    builder.phase(root, &epoch, "ready").await.unwrap();
    assert_eq!(adopting.await.unwrap(), []);
    // Begun anew earlier, the counter would lack what the builder holds.
    assert_eq!(cost(&other, &chain).await, (0, 10));
    builder.settle(open, &usd(9), now()).await.unwrap();
    assert_eq!(cost(&other, &chain).await, (9, 0));
}
