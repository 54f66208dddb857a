//! What every store must do, run against each of them: see [`suite`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::entry::{Entry, Outcome, WAS_UNPRICED};
use super::samples::{MARCH_MS, any_entry, sample};
use super::store::{
    AccountChange, AccountEvent, AuditLine, EntryFilter, Grain, INPUT_BANDS, PlanEvent, RollupRow,
    Store, StoreError, StoredKey, TimeRange,
};
use crate::account::Key;
use crate::ids::RequestId;
use crate::money::Money;
use crate::plan::{
    Account, Action, Amount, Limit, Measure, ModelPattern, Overage, OverageCharge, PaymentFee,
    Period, Plan, Window,
};
use crate::secret::KeyDigest;
use crate::tokens::UsageSource;

/// Makes one test of each rule for a store that `$open` makes: `None` skips.
macro_rules! suite {
    ($open:expr) => {
        $crate::ledger::store_tests::suite!($open;
            an_entry_comes_back_as_it_was_written
            entries_of_a_batch_come_back_as_they_were_written
            entries_come_in_order_whatever_the_order_of_writing
            an_entry_that_is_given_twice_is_kept_and_counted_once
            rollups_are_the_sums_of_the_entries
            a_correction_changes_cost_and_no_count
            a_late_price_takes_an_entry_out_of_the_unpriced
            sums_beyond_64_bits_stay_exact
            filters_choose_entries
            pages_follow_each_other_in_both_directions
            what_was_made_by_hand_comes_back
            a_revocation_reaches_keys_of_the_file_too
            account_events_and_audit_lines_are_kept
            terms_of_plans_are_kept_in_order
            the_pepper_is_made_once
            migrating_twice_changes_nothing
        );
    };
    ($open:expr; $($rule:ident)*) => {
        $(#[test]
        fn $rule() {
            if let Some(store) = $open {
                store.migrate().unwrap();
                $crate::ledger::store_tests::$rule(&*store);
            }
        })*
    };
}
pub(crate) use suite;

fn all(store: &dyn Store, filter: &EntryFilter) -> Vec<Entry> {
    let mut entries = Vec::new();
    store
        .scan(filter, &mut |entry| {
            entries.push(entry);
            true
        })
        .unwrap();
    entries
}

fn everything(store: &dyn Store) -> Vec<Entry> {
    all(store, &EntryFilter::default())
}

fn ids(entries: &[Entry]) -> Vec<RequestId> {
    entries.iter().map(|entry| entry.id).collect()
}

fn rollup(store: &dyn Store, grain: Grain) -> Vec<RollupRow> {
    let mut rows = Vec::new();
    let range = TimeRange {
        since: Timestamp::from_millisecond(-3_000_000_000_000).unwrap(),
        until: Timestamp::from_millisecond(5_000_000_000_000).unwrap(),
    };
    store
        .rollup(grain, range, &mut |row| rows.push(row.clone()))
        .unwrap();
    rows
}

pub(crate) fn an_entry_comes_back_as_it_was_written(store: &dyn Store) {
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&any_entry(), |entry| {
            prop_assert_eq!(store.append(std::slice::from_ref(&entry)).unwrap(), 1);
            let found = all(
                store,
                &EntryFilter {
                    since: Some(entry.started_at),
                    until: Some(entry.started_at + SignedDuration::from_millis(1)),
                    ..EntryFilter::default()
                },
            );
            prop_assert!(found.contains(&entry), "{found:?}\n{entry:?}");
            Ok(())
        })
        .unwrap();
}

pub(crate) fn entries_of_a_batch_come_back_as_they_were_written(store: &dyn Store) {
    // A column that is other than before, of another kind, absent, and as before again: in statements of several entries,
    // and in those of one for the rest.
    let batch: Vec<Entry> = (0..35)
        .map(|number| {
            let mut entry = sample(number * 10);
            match number % 4 {
                1 => {
                    entry.cost.output = Money::from_usd(50_000_000);
                    entry.reason = Some("broke off".into());
                    entry.end_user = Some("u1".into());
                    entry.priced_by = Vec::new();
                }
                3 => {
                    entry.first_token_ms = None;
                    entry.model = None;
                    entry.tags = Vec::new();
                    entry.corrects = Some(sample(1).id);
                }
                _ => {}
            }
            entry
        })
        .collect();
    store.append(&batch).unwrap();
    assert_eq!(everything(store), batch);
}

pub(crate) fn entries_come_in_order_whatever_the_order_of_writing(store: &dyn Store) {
    let mut entries: Vec<Entry> = (0..50).map(sample).collect();
    // Two in the same millisecond are ordered by id.
    entries[7].started_at = entries[9].started_at;
    let mut sorted = entries.clone();
    sorted.sort_by_key(|entry| (entry.started_at, entry.id));
    entries.reverse();
    for batch in entries.chunks(7) {
        store.append(batch).unwrap();
    }
    assert_eq!(everything(store), sorted);
    assert_eq!(store.approximate_entries().unwrap(), 50);
}

pub(crate) fn an_entry_that_is_given_twice_is_kept_and_counted_once(store: &dyn Store) {
    let entries: Vec<Entry> = (0..10).map(sample).collect();
    let doubled: Vec<Entry> = entries.iter().chain(&entries).cloned().collect();
    assert_eq!(store.append(&doubled).unwrap(), 10);
    assert_eq!(store.append(&entries).unwrap(), 0);
    // The same id under another time is the same entry still.
    let mut moved = entries[3].clone();
    moved.started_at += SignedDuration::from_hours(5);
    assert_eq!(store.append(&[moved]).unwrap(), 0);
    assert_eq!(everything(store), entries);
    for grain in [Grain::Hour, Grain::Day] {
        let rows = rollup(store, grain);
        assert_eq!(rows.iter().map(|row| row.sums.requests).sum::<u64>(), 10);
        let cost: Money = rows.iter().map(|row| row.sums.cost.total()).sum();
        assert_eq!(cost, entries.iter().map(Entry::cost_usd).sum());
    }
    assert_eq!(store.approximate_entries().unwrap(), 10);
}

/// Everything that tells rollup rows apart, as text.
fn label(row: &RollupRow) -> String {
    format!(
        "{} {:?} {} {:?} {:?} {:?} {:?} {:?} {}",
        row.start,
        row.lineage,
        row.plan,
        row.key,
        row.model,
        row.served_model,
        row.upstream,
        row.service_tier,
        row.input_band
    )
}

/// The rows as they must be, computed the slow way.
fn naive(entries: &[Entry], grain: Grain) -> BTreeMap<String, RollupRow> {
    let mut rows: BTreeMap<String, RollupRow> = BTreeMap::new();
    for entry in entries {
        let hour = grain == Grain::Hour;
        let unit_ms = if hour { 3_600_000 } else { 86_400_000 };
        let start = entry.started_at.as_millisecond().div_euclid(unit_ms) * unit_ms;
        let band = INPUT_BANDS
            .iter()
            .position(|edge| entry.usage.input_tokens <= *edge)
            .unwrap_or(INPUT_BANDS.len());
        let empty = RollupRow {
            start: Timestamp::from_millisecond(start).unwrap(),
            lineage: Arc::clone(&entry.lineage),
            plan: entry.plan.clone(),
            key: hour.then(|| entry.key.clone()),
            model: entry.model.clone(),
            served_model: entry.served_model.clone(),
            upstream: entry.upstream.clone().filter(|_| hour),
            service_tier: entry.service_tier.clone(),
            input_band: u8::try_from(band).unwrap(),
            sums: Default::default(),
        };
        let row = rows.entry(label(&empty)).or_insert(empty);
        if entry.corrects.is_none() {
            row.sums.requests += 1;
            let unpriced = entry.priced_by.is_empty() && entry.usage_source != UsageSource::None;
            row.sums.unpriced_requests += i64::from(unpriced);
            let outcome = Outcome::ALL
                .iter()
                .position(|outcome| *outcome == entry.outcome)
                .unwrap();
            row.sums.outcomes[outcome] += 1;
            row.sums.retries += u64::from(entry.retries);
        }
        row.sums.usage += entry.usage;
        row.sums.cost += entry.cost;
        row.sums.undiscounted += entry.undiscounted;
        match entry.outcome {
            Outcome::ClientClosed => row.sums.client_closed_cost += entry.cost.total(),
            Outcome::UpstreamFailed | Outcome::Interrupted => {
                row.sums.failed_cost += entry.cost.total();
            }
            Outcome::Completed | Outcome::Rejected => {}
        }
    }
    rows
}

pub(crate) fn rollups_are_the_sums_of_the_entries(store: &dyn Store) {
    let mut runner = TestRunner::new(Config {
        cases: 4,
        failure_persistence: None,
        ..Config::default()
    });
    let written = std::cell::RefCell::new(Vec::new());
    let batches = proptest::collection::vec(any_entry(), 1..30);
    runner
        .run(&(batches, 0_u64..5), |(mut entries, crowd)| {
            // Arbitrary entries hardly ever share a row; samples nearly always do.
            entries.extend((0..40).map(|number| {
                let mut entry = sample(number * 137 + crowd);
                entry.id = RequestId::new();
                entry.usage.input_tokens = 100_000 + number * 5_000;
                entry.outcome = Outcome::ALL[usize::try_from(number % 5).unwrap()];
                entry
            }));
            for batch in entries.chunks(13) {
                prop_assert_eq!(store.append(batch).unwrap(), batch.len());
            }
            written.borrow_mut().extend(entries);
            Ok(())
        })
        .unwrap();
    let written = written.into_inner();
    for grain in [Grain::Hour, Grain::Day] {
        let rows = rollup(store, grain);
        let count = rows.len();
        let found: BTreeMap<String, RollupRow> =
            rows.into_iter().map(|row| (label(&row), row)).collect();
        assert_eq!(found.len(), count, "a row was given twice");
        assert_eq!(found, naive(&written, grain));
    }
}

pub(crate) fn a_correction_changes_cost_and_no_count(store: &dyn Store) {
    let entry = sample(1);
    let mut correction = sample(2);
    correction.corrects = Some(entry.id);
    correction.started_at = entry.started_at;
    correction.lineage = Arc::clone(&entry.lineage);
    correction.key = entry.key.clone();
    correction.usage = Default::default();
    correction.cost.input = -entry.cost.input;
    correction.cost.cache_read_input = Money::ZERO;
    correction.cost.output = Money::ZERO;
    correction.cost.reasoning_output = Money::ZERO;
    store.append(&[entry.clone(), correction]).unwrap();
    let rows = rollup(store, Grain::Day);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].sums.requests, 1);
    assert_eq!(rows[0].sums.usage, entry.usage);
    assert_eq!(
        rows[0].sums.cost.total(),
        entry.cost_usd() - entry.cost.input
    );
}

pub(crate) fn a_late_price_takes_an_entry_out_of_the_unpriced(store: &dyn Store) {
    let mut entry = sample(1);
    entry.priced_by = Vec::new();
    entry.cost = Default::default();
    store.append(std::slice::from_ref(&entry)).unwrap();
    assert_eq!(rollup(store, Grain::Day)[0].sums.unpriced_requests, 1);
    let mut correction = sample(1);
    correction.id = RequestId::new();
    correction.corrects = Some(entry.id);
    correction.reason = Some(format!("{WAS_UNPRICED}: repriced").into());
    correction.usage = Default::default();
    store.append(&[correction]).unwrap();
    for grain in [Grain::Hour, Grain::Day] {
        let rows = rollup(store, grain);
        assert_eq!(
            (rows[0].sums.requests, rows[0].sums.unpriced_requests),
            (1, 0)
        );
        assert_eq!(rows[0].sums.cost, sample(1).cost);
    }
}

pub(crate) fn sums_beyond_64_bits_stay_exact(store: &dyn Store) {
    // 64 bits of pico-dollars end at 9.2 million dollars.
    let entries: Vec<Entry> = (0..4)
        .map(|number| {
            let mut entry = sample(number * 10);
            entry.cost.output = Money::from_usd(8_000_000) + Money::from_picos(1);
            if number == 3 {
                entry.cost.output = Money::from_usd(-50_000_000);
            }
            entry
        })
        .collect();
    for entry in &entries {
        store.append(std::slice::from_ref(entry)).unwrap();
    }
    assert_eq!(everything(store), entries);
    for grain in [Grain::Hour, Grain::Day] {
        let sum: Money = rollup(store, grain)
            .iter()
            .map(|row| row.sums.cost.output)
            .sum();
        assert_eq!(sum.to_string(), "-25999999.999999999997");
    }
}

pub(crate) fn filters_choose_entries(store: &dyn Store) {
    let mut entries: Vec<Entry> = (0..20).map(sample).collect();
    entries[3].outcome = Outcome::ClientClosed;
    entries[4].model = Some("o3".into());
    entries[5].served_model = Some("o3".into());
    entries[6].model = None;
    store.append(&entries).unwrap();
    let second = |number: i64| Timestamp::from_millisecond(MARCH_MS + number * 1000).unwrap();
    let check = |filter: EntryFilter, expected: &[u64]| {
        let found = all(store, &filter);
        let expected: Vec<_> = expected.iter().map(|number| sample(*number).id).collect();
        assert_eq!(ids(&found), expected, "{filter:?}");
        for entry in &entries {
            assert_eq!(filter.passes(entry), expected.contains(&entry.id));
        }
    };
    check(
        EntryFilter {
            since: Some(second(5)),
            until: Some(second(8)),
            ..EntryFilter::default()
        },
        &[5, 6, 7],
    );
    check(
        EntryFilter {
            account: Some("acme-3".into()),
            ..EntryFilter::default()
        },
        &[3, 13],
    );
    // An account's entries are its own, not its descendants'.
    check(
        EntryFilter {
            account: Some("acme".into()),
            ..EntryFilter::default()
        },
        &[],
    );
    check(
        EntryFilter {
            key: Some("key-9".into()),
            ..EntryFilter::default()
        },
        &[9, 19],
    );
    check(
        EntryFilter {
            model: Some("o3".into()),
            ..EntryFilter::default()
        },
        &[4, 5],
    );
    check(
        EntryFilter {
            outcome: Some(Outcome::ClientClosed),
            ..EntryFilter::default()
        },
        &[3],
    );
    check(
        EntryFilter {
            account: Some("nobody".into()),
            ..EntryFilter::default()
        },
        &[],
    );
}

pub(crate) fn pages_follow_each_other_in_both_directions(store: &dyn Store) {
    let entries: Vec<Entry> = (0..5000)
        .map(|number| {
            let mut entry = sample(number);
            // Many in one millisecond.
            entry.started_at = sample(number / 7).started_at;
            entry
        })
        .collect();
    store.append(&entries).unwrap();
    let mut forward = ids(&entries);
    for descending in [false, true] {
        let mut found = Vec::new();
        loop {
            let mut page = Vec::new();
            let filter = EntryFilter {
                after: found.last().copied(),
                descending,
                ..EntryFilter::default()
            };
            store
                .scan(&filter, &mut |entry| {
                    page.push(entry.id);
                    page.len() < 900
                })
                .unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, forward);
        forward.reverse();
    }
    assert_eq!(everything(store).len(), 5000, "across chunks");
    let unknown = EntryFilter {
        after: Some(RequestId::new()),
        ..EntryFilter::default()
    };
    assert!(matches!(
        store.scan(&unknown, &mut |_| true),
        Err(StoreError::Refused(_))
    ));
}

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
