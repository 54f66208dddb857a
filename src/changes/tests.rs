//! Changes against a store on disk.

use std::sync::Arc;

use super::*;
use crate::config::FixedEnvironment;
use crate::ledger::sqlite::SqliteStore;
use crate::money::Money;
use crate::snapshot;

const CONFIG: &str = "[[plans]]\nid = \"pro\"\nprice = \"20.00\"\n[[plans]]\nid = \"team\"\nprice = \"0\"\n\
    [[accounts]]\nid = \"acme\"\nplan = \"pro\"\nsince = 2025-03-01\n\
    keys = [{ id = \"acme-app\", secret = \"wr-acme\" }]\n";

struct Office {
    config: Config,
    store: Arc<SqliteStore>,
    pepper: Pepper,
    _folder: tempfile::TempDir,
}

impl Office {
    fn new() -> Office {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("weir.db")).unwrap();
        store.migrate().unwrap();
        let environment = FixedEnvironment::default();
        Office {
            config: crate::config::parse(CONFIG.as_bytes(), "weir.toml", &environment).unwrap(),
            store: Arc::new(store),
            pepper: Pepper::new(b"pepper"),
            _folder: folder,
        }
    }

    fn directory(&self) -> Directory {
        snapshot::directory(&self.config, &self.store.stored().unwrap(), &self.pepper)
    }

    fn change<T>(&self, change: impl FnOnce(&Changes<'_>) -> T) -> T {
        let stored = self.store.stored().unwrap();
        change(&Changes {
            config: &self.config,
            directory: &snapshot::directory(&self.config, &stored, &self.pepper),
            version: stored.version,
            store: self.store.as_ref(),
            pepper: &self.pepper,
            actor: "test".to_owned(),
        })
    }

    fn create(&self, id: &str, parent: Option<&str>) -> Result<Account, ChangeError> {
        let new = NewAccount {
            id: id.to_owned(),
            plan: "team".to_owned(),
            parent: parent.map(ToOwned::to_owned),
            ..NewAccount::default()
        };
        self.change(|changes| changes.create_account(new))
    }
}

#[test]
fn what_the_file_declares_is_changed_there() {
    let office = Office::new();
    let patch = AccountPatch::default();
    let changed = office.change(|changes| changes.change_account("acme", patch));
    assert!(matches!(changed, Err(ChangeError::Declared { .. })));
    let closed = office.change(|changes| changes.close_account("acme"));
    assert!(matches!(closed, Err(ChangeError::Declared { .. })));
}

#[test]
fn of_two_changes_at_the_same_moment_the_second_is_refused() {
    let office = Office::new();
    let create = |changes: &Changes<'_>, parent: &str| {
        changes.create_account(NewAccount {
            id: "team-a".to_owned(),
            plan: "team".to_owned(),
            parent: (!parent.is_empty()).then(|| parent.to_owned()),
            ..NewAccount::default()
        })
    };
    // Both see a store without it.
    let overtaken = office.change(|first| {
        create(first, "").unwrap();
        let second = Changes {
            config: first.config,
            actor: "another".to_owned(),
            ..first.clone()
        };
        create(&second, "acme")
    });
    assert!(matches!(
        overtaken,
        Err(ChangeError::Store(StoreError::Overtaken))
    ));
    let directory = office.directory();
    assert_eq!(
        directory.member(&"team-a".into()).unwrap().account.parent,
        None
    );
}

#[test]
fn a_key_of_the_file_can_be_revoked_and_stays_so() {
    let office = Office::new();
    office
        .change(|changes| changes.revoke_key("acme-app"))
        .unwrap();
    let directory = office.directory();
    let key = directory.keys().next().unwrap();
    assert!(key.revoked_at.is_some());
}

#[test]
fn no_account_comes_to_lie_below_itself_or_too_deep() {
    let office = Office::new();
    office.create("a0", None).unwrap();
    for depth in 1..Directory::MAX_DEPTH {
        let (id, parent) = (format!("a{depth}"), format!("a{}", depth - 1));
        office.create(&id, Some(&parent)).unwrap();
    }
    let deepest = format!("a{}", Directory::MAX_DEPTH - 1);
    assert!(office.create("deeper", Some(&deepest)).is_err());
    let below_itself = AccountPatch {
        parent: Some(deepest),
        ..AccountPatch::default()
    };
    let moved = office.change(|changes| changes.change_account("a0", below_itself));
    assert!(moved.is_err());
    let one_deeper = AccountPatch {
        parent: Some("acme".to_owned()),
        ..AccountPatch::default()
    };
    let moved = office.change(|changes| changes.change_account("a0", one_deeper));
    assert!(moved.is_err(), "all that lies below it would be too deep");
}

#[test]
fn a_rotated_key_works_until_the_overlap_ends_and_its_successor_from_now_on() {
    let office = Office::new();
    let new = NewKey {
        account: "acme".to_owned(),
        id: Some("first".to_owned()),
        ..NewKey::default()
    };
    office.change(|changes| changes.create_key(new)).unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    let (made, ends) = office
        .change(|changes| changes.rotate_key("first", hour))
        .unwrap();
    let directory = office.directory();
    let key = |id: &str| directory.keys().find(|key| key.id.as_str() == id).cloned();
    assert_eq!(key("first").unwrap().expires_at, Some(ends));
    let successor = key(made.key.id.as_str()).unwrap();
    assert_eq!(successor.expires_at, None);
    let digest = office.pepper.digest(&crate::secret::SecretSha256::of(
        made.secret.expose().as_bytes(),
    ));
    assert_eq!(successor.digest, digest);
}

#[test]
fn every_change_leaves_a_line_and_no_line_holds_a_secret() {
    let office = Office::new();
    office.create("team-a", Some("acme")).unwrap();
    let made = office
        .change(|changes| {
            changes.create_key(NewKey {
                account: "team-a".to_owned(),
                ..NewKey::default()
            })
        })
        .unwrap();
    let refund = Money::from_usd(3);
    office
        .change(|changes| changes.refund("team-a", refund))
        .unwrap();
    office
        .change(|changes| changes.close_account("team-a"))
        .unwrap();
    let lines = office.store.audit(10).unwrap();
    let actions: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "account.close",
            "account.refund",
            "key.create",
            "account.create"
        ]
    );
    assert!(lines.iter().all(|line| line.actor == "test"));
    assert!(
        !lines
            .iter()
            .any(|line| line.detail.contains(made.secret.expose()))
    );
    let late = office.change(|changes| {
        changes.create_key(NewKey {
            account: "team-a".to_owned(),
            ..NewKey::default()
        })
    });
    assert!(late.is_err(), "a closed account gets no keys");
}

/// The revenue of a stretch of time, as the store has its history.
fn revenue(office: &Office, since: &str, until: &str) -> Money {
    let store = office.store.as_ref();
    let books = crate::margin::Books::read(&office.config, store).unwrap();
    let range = crate::ledger::store::TimeRange {
        since: since.parse().unwrap(),
        until: until.parse().unwrap(),
    };
    let now = "2099-01-01T00:00:00Z".parse().unwrap();
    let by = crate::margin::By::Plan;
    let report = crate::margin::report(store, &books, by, range, now, &|_, _| {}).unwrap();
    report.total.revenue_usd
}

#[test]
fn an_account_made_by_hand_keeps_its_first_plan_s_revenue_without_any_gateway() {
    let office = Office::new();
    let new = NewAccount {
        id: "shop".to_owned(),
        plan: "pro".to_owned(),
        since: Some("2025-03-01".parse().unwrap()),
        ..NewAccount::default()
    };
    office
        .change(|changes| changes.create_account(new))
        .unwrap();
    let events = office.store.account_events_of(&"shop".into()).unwrap();
    assert_eq!(events.len(), 1);
    let march = ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z");
    let both = revenue(&office, march.0, march.1);
    assert_eq!(both, Money::from_usd(40), "acme of the file, and the shop");
    let patch = AccountPatch {
        plan: Some("team".to_owned()),
        ..AccountPatch::default()
    };
    office
        .change(|changes| changes.change_account("shop", patch))
        .unwrap();
    assert_eq!(revenue(&office, march.0, march.1), both);
}

#[test]
fn a_replaced_plan_earns_its_new_price_from_then_on_and_what_it_earned_stays() {
    let office = Office::new();
    let plan = |price| crate::plan::Plan {
        id: "seat".into(),
        price: Money::from_usd(price),
        ..crate::plan::Plan::clone(office.directory().plan(&"pro".into()).unwrap())
    };
    office
        .change(|changes| changes.create_plan(&plan(10)))
        .unwrap();
    let new = NewAccount {
        id: "desk".to_owned(),
        plan: "seat".to_owned(),
        since: Some("2025-03-01".parse().unwrap()),
        ..NewAccount::default()
    };
    office
        .change(|changes| changes.create_account(new))
        .unwrap();
    let past = ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z");
    let future = ("2098-03-01T00:00:00Z", "2098-04-01T00:00:00Z");
    let acme = Money::from_usd(20);
    assert_eq!(revenue(&office, past.0, past.1), acme + Money::from_usd(10));
    office
        .change(|changes| changes.replace_plan(&plan(30)))
        .unwrap();
    assert_eq!(revenue(&office, past.0, past.1), acme + Money::from_usd(10));
    assert_eq!(
        revenue(&office, future.0, future.1),
        acme + Money::from_usd(30)
    );
}

#[test]
fn a_price_of_the_file_that_a_gateway_takes_up_holds_from_then_on() {
    let mut office = Office::new();
    let moment = |text: &str| text.parse::<Timestamp>().unwrap();
    let record = |office: &Office, at: &str| {
        let directory = office.directory();
        history::record(office.store.as_ref(), &directory, None, moment(at)).unwrap();
    };
    record(&office, "2025-03-05T00:00:00Z");
    let text = CONFIG.replace("20.00", "62.00");
    let environment = FixedEnvironment::default();
    office.config = crate::config::parse(text.as_bytes(), "weir.toml", &environment).unwrap();
    let march = ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z");
    // Nobody has taken it up yet.
    assert_eq!(revenue(&office, march.0, march.1), Money::from_usd(20));
    record(&office, "2025-03-16T12:00:00Z");
    // Taken up once, and again at the next start.
    record(&office, "2025-03-20T00:00:00Z");
    let halves = Money::from_usd(10) + Money::from_usd(31);
    assert_eq!(revenue(&office, march.0, march.1), halves);
    let first_half = revenue(&office, march.0, "2025-03-16T12:00:00Z");
    assert_eq!(first_half, Money::from_usd(10));
}

#[test]
fn a_gateway_whose_file_did_not_change_leaves_another_gateway_s_new_price_alone() {
    let mut office = Office::new();
    let now = |text: &str| text.parse::<Timestamp>().unwrap();
    let old = office.directory();
    let store = Arc::clone(&office.store);
    history::record(store.as_ref(), &old, None, now("2025-03-05T00:00:00Z")).unwrap();
    // Another gateway has the new file already.
    let text = CONFIG.replace("20.00", "62.00");
    let environment = FixedEnvironment::default();
    office.config = crate::config::parse(text.as_bytes(), "weir.toml", &environment).unwrap();
    let new = office.directory();
    let moment = now("2025-03-16T12:00:00Z");
    history::record(store.as_ref(), &new, Some(&old), moment).unwrap();
    // This one still has the old file, and learns of an account that was made by hand.
    office.create("team-a", None).unwrap();
    office.config = crate::config::parse(CONFIG.as_bytes(), "weir.toml", &environment).unwrap();
    let learned = office.directory();
    let moment = now("2025-03-17T00:00:00Z");
    history::record(store.as_ref(), &learned, Some(&old), moment).unwrap();
    let march = ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z");
    let halves = Money::from_usd(10) + Money::from_usd(31);
    assert_eq!(revenue(&office, march.0, march.1), halves);
}

#[test]
fn an_account_that_leaves_the_file_has_paid_until_then_and_pays_again_when_it_is_back() {
    let mut office = Office::new();
    let store = Arc::clone(&office.store);
    let environment = FixedEnvironment::default();
    let with = office.directory();
    let [head, _] = CONFIG.splitn(2, "[[accounts]]").collect::<Vec<_>>()[..] else {
        panic!("no account in {CONFIG}")
    };
    office.config = crate::config::parse(head.as_bytes(), "weir.toml", &environment).unwrap();
    let without = office.directory();
    let take_up = |new: &Directory, old: Option<&Directory>, at: &str| {
        history::record(store.as_ref(), new, old, at.parse().unwrap()).unwrap();
    };
    let march = ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z");

    take_up(&with, None, "2025-03-02T00:00:00Z");
    take_up(&without, Some(&with), "2025-03-16T12:00:00Z");
    // The next start has nothing to add.
    take_up(&without, None, "2025-03-20T00:00:00Z");
    assert_eq!(revenue(&office, march.0, march.1), Money::from_usd(10));

    take_up(&with, Some(&without), "2025-03-31T00:00:00Z");
    office.config = crate::config::parse(CONFIG.as_bytes(), "weir.toml", &environment).unwrap();
    let day = Money::from_usd(20).mul_ratio(1, 31).unwrap();
    let earned = revenue(&office, march.0, march.1);
    assert!(
        (earned - Money::from_usd(10) - day).picos().abs() <= 1,
        "{earned}"
    );
}

#[test]
fn a_key_that_ended_before_it_was_made_is_refused() {
    let office = Office::new();
    let create = |expires_at: Timestamp| {
        let new = NewKey {
            account: "acme".to_owned(),
            expires_at: Some(expires_at),
            ..NewKey::default()
        };
        office.change(|changes| changes.create_key(new))
    };
    let hour = jiff::SignedDuration::from_hours(1);
    let refused = create(Timestamp::now() - hour).unwrap_err().to_string();
    assert!(refused.contains("in the past"), "{refused}");
    assert!(create(Timestamp::now() + hour).is_ok());
}
