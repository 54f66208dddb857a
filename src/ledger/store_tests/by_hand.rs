//! What operators made, and what is kept beside entries.

use super::everything;
use crate::account::Key;
use crate::ledger::samples::{MARCH_MS, sample};
use crate::ledger::store::{
    AccountChange, AccountEvent, AuditLine, PlanEvent, Store, StoreError, StoredKey,
};
use crate::money::Money;
use crate::plan::{
    Account, Action, Amount, Limit, Measure, ModelPattern, Overage, OverageCharge, PaymentFee,
    Period, Plan, Window,
};
use crate::secret::KeyDigest;
use jiff::{SignedDuration, Timestamp};

fn audit(action: &str, subject: &str) -> AuditLine {
    AuditLine {
        at: Timestamp::from_millisecond(MARCH_MS).unwrap(),
        actor: "cli".into(),
        action: action.into(),
        subject: subject.into(),
        detail: r#"{"by":"hand"}"#.into(),
    }
}

fn a_limit() -> Limit {
    Limit {
        on: Measure::Cost,
        max: Amount::Money(Money::parse("150").unwrap()),
        per: Some(Window::Rolling(18_000_000)),
        models: vec![ModelPattern::new("gpt-4*")],
        then: Action::Downgrade("gpt-4o-mini".into()),
        warn_at_ppm: vec![800_000, 950_000],
        queue_ms: 2_000,
    }
}

fn a_plan() -> Plan {
    Plan {
        id: "pro".into(),
        price: Money::parse("200.00").unwrap(),
        currency: "EUR".into(),
        period: Period::Month,
        limits: vec![
            a_limit(),
            Limit {
                on: Measure::Concurrent,
                max: Amount::Count(8),
                per: None,
                models: Vec::new(),
                then: Action::CapOutput(256),
                warn_at_ppm: Vec::new(),
                queue_ms: 0,
            },
        ],
        fixed_cost: Money::parse("1.25").unwrap(),
        payment_fee: PaymentFee {
            ppm: 29_000,
            fixed: Money::parse("0.30").unwrap(),
        },
        overage: Some(Overage {
            above: Amount::Money(Money::parse("150").unwrap()),
            charge: OverageCharge::MarkupPpm(1_200_000),
        }),
        trial_days: 14,
    }
}

fn an_account() -> Account {
    Account {
        id: "acme".into(),
        plan: "pro".into(),
        parent: Some("holding".into()),
        since: jiff::civil::date(2025, 1, 31),
        until: None,
        name: Some("Acme Ltd".into()),
        currency: Some("CHF".into()),
        tags: vec![("country".into(), "de".into())],
        limits: vec![a_limit()],
    }
}

fn a_key(id: &str, digest: u8) -> StoredKey {
    StoredKey {
        key: Key {
            id: id.into(),
            account: "acme".into(),
            digest: KeyDigest([digest; 32]),
            models: vec![ModelPattern::new("gpt-*")],
            networks: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            expires_at: Some(Timestamp::from_second(1_900_000_000).unwrap()),
            revoked_at: None,
            limits: vec![a_limit()],
        },
        created_at: Timestamp::from_millisecond(MARCH_MS + 5).unwrap(),
    }
}

pub(crate) fn what_was_made_by_hand_comes_back(store: &dyn Store) {
    assert_eq!(store.stored_version().unwrap(), 0);
    store
        .put_plan(&a_plan(), None, &audit("plan.create", "pro"))
        .unwrap();
    store
        .put_account(&an_account(), None, &audit("account.create", "acme"))
        .unwrap();
    store
        .put_key(&a_key("app", 1), None, &audit("key.create", "app"))
        .unwrap();
    let mut cheaper = a_plan();
    cheaper.price = Money::from_usd(20);
    store
        .put_plan(&cheaper, None, &audit("plan.change", "pro"))
        .unwrap();
    let stored = store.stored().unwrap();
    assert_eq!(stored.plans, [cheaper]);
    assert_eq!(stored.accounts, [an_account()]);
    assert_eq!(stored.keys, [a_key("app", 1)]);
    assert_eq!(stored.version, 4);
    assert_eq!(store.stored_version().unwrap(), 4);
    let version = store.stored_version().unwrap();
    let overtaken = store.put_account(
        &an_account(),
        Some(version - 1),
        &audit("account.change", "acme"),
    );
    assert!(
        matches!(overtaken, Err(StoreError::Overtaken)),
        "{overtaken:?}"
    );
    assert_eq!(store.stored_version().unwrap(), version);
    store
        .put_account(
            &an_account(),
            Some(version),
            &audit("account.change", "acme"),
        )
        .unwrap();
    let same_secret = store.put_key(&a_key("other", 1), None, &audit("key.create", "other"));
    assert!(matches!(same_secret, Err(StoreError::Refused(_))));
    assert_eq!(store.stored_version().unwrap(), 5);
    let lines = store.audit(2).unwrap();
    let actions: Vec<_> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["account.change", "plan.change"]);
    assert_eq!(lines[1], audit("plan.change", "pro"));
}

pub(crate) fn a_revocation_reaches_keys_of_the_file_too(store: &dyn Store) {
    let at = Timestamp::from_millisecond(MARCH_MS + 9).unwrap();
    let line = audit("key.revoke", "app");
    store
        .put_key(&a_key("app", 1), None, &audit("key.create", "app"))
        .unwrap();
    store
        .revoke_key(&"app".into(), &KeyDigest([1; 32]), at, &line)
        .unwrap();
    store
        .revoke_key(&"in-the-file".into(), &KeyDigest([2; 32]), at, &line)
        .unwrap();
    // Again, later: the first time stands.
    let later = at + SignedDuration::from_secs(1);
    store
        .revoke_key(&"app".into(), &KeyDigest([1; 32]), later, &line)
        .unwrap();
    let stored = store.stored().unwrap();
    assert_eq!(stored.keys[0].key.revoked_at, Some(at));
    let revoked: Vec<_> = stored
        .revocations
        .iter()
        .map(|revocation| {
            (
                revocation.key.as_str(),
                revocation.digest.0[0],
                revocation.at,
            )
        })
        .collect();
    assert_eq!(revoked, [("app", 1, at), ("in-the-file", 2, at)]);
}

pub(crate) fn account_events_and_audit_lines_are_kept(store: &dyn Store) {
    let event = |ms, change| AccountEvent {
        account: "acme".into(),
        at: Timestamp::from_millisecond(MARCH_MS + ms).unwrap(),
        change,
    };
    let plan = AccountChange::Plan {
        plan: "pro".into(),
        since: jiff::civil::date(2025, 3, 1),
    };
    let later = [
        event(20, AccountChange::Refund(Money::parse("12.50").unwrap())),
        event(30, AccountChange::Closed),
    ];
    store.add_account_events(&later).unwrap();
    store
        .add_account_events(&[event(10, plan.clone())])
        .unwrap();
    let [refund, closed] = later;
    assert_eq!(
        store.account_events().unwrap(),
        [event(10, plan), refund, closed]
    );
    let other = AccountEvent {
        account: "other".into(),
        ..event(15, AccountChange::Closed)
    };
    store
        .add_account_events(std::slice::from_ref(&other))
        .unwrap();
    assert_eq!(store.account_events().unwrap().len(), 4);
    assert_eq!(store.account_events_of(&"other".into()).unwrap(), [other]);
    assert_eq!(store.account_events_of(&"nobody".into()).unwrap(), []);
    store.add_audit(&audit("reprice", "2025-03")).unwrap();
    assert_eq!(store.audit(10).unwrap(), [audit("reprice", "2025-03")]);
}

pub(crate) fn terms_of_plans_are_kept_in_order(store: &dyn Store) {
    let event = |ms, price: &str| PlanEvent {
        at: Timestamp::from_millisecond(MARCH_MS + ms).unwrap(),
        terms: Plan {
            price: Money::parse(price).unwrap(),
            ..a_plan().terms()
        },
    };
    let dearer = event(20, "220.00");
    store
        .add_plan_events(std::slice::from_ref(&dearer))
        .unwrap();
    store.add_plan_events(&[event(10, "200.00")]).unwrap();
    let mut kept = Vec::new();
    store.plan_events(&mut |event| kept.push(event)).unwrap();
    assert_eq!(kept, [event(10, "200.00"), dearer]);
}

pub(crate) fn the_pepper_is_made_once(store: &dyn Store) {
    let pepper = store.pepper().unwrap();
    assert_eq!(pepper.len(), 32);
    assert_ne!(pepper, [0; 32]);
    assert_eq!(store.pepper().unwrap(), pepper);
}

pub(crate) fn migrating_twice_changes_nothing(store: &dyn Store) {
    store.append(&[sample(1)]).unwrap();
    store.migrate().unwrap();
    assert_eq!(everything(store), [sample(1)]);
    store.make_durable().unwrap();
}
