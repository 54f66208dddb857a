//! Sums of entries.

use super::{everything, rollup};
use crate::ids::RequestId;
use crate::ledger::entry::{Entry, Outcome, WAS_UNPRICED};
use crate::ledger::samples::{any_entry, sample};
use crate::ledger::store::{Grain, INPUT_BANDS, RollupRow, Store};
use crate::money::Money;
use crate::tokens::UsageSource;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;

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
