//! Limits that come and go, with several gateways.

use super::*;

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
    let past = ledger
        .used(&HashSet::from([root.clone()]), &HashSet::new())
        .unwrap();
    a.seed(&past, now()).await.unwrap();
    assert_eq!(cost(&b, &chain).await, (6, 0));
    assert_eq!(b.adopt(tree(&[&limit]), now()).await.unwrap(), []);
}
