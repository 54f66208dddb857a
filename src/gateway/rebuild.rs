//! Counters of limits from the ledger: at start, and for limits that are new.
//!
//! Long windows are summed from rollups, and only what is younger than the last full hour from entries, so that a start
//! costs the same with a thousand entries and with ten million.

use std::sync::Arc;

use jiff::Timestamp;

use super::{FLUSH_TIMEOUT, Gateway, StartError};
use crate::ledger::Outcome;
use crate::ledger::store::{EntryFilter, Grain, RollupRow, StoreError, TimeRange};
use crate::plan::{Measure, Window};
use crate::quota::chain::{Chains, Rule};
use crate::quota::{Bound, Demand, Owner, Use};
use crate::snapshot::Snapshot;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A rolling window of at least this length is summed from hours: its own parts are about as long.
const ROLLING_BY_HOUR_MS: u64 = 48 * 3_600_000;

/// Seeds every counter.
pub(super) async fn all(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    now: Timestamp,
) -> Result<(), StartError> {
    let rules: Vec<Arc<Rule>> = snapshot
        .chains
        .rules()
        .filter(|rule| rule.counts && rule.counter.per().is_some())
        .cloned()
        .collect();
    seed(gateway, snapshot, rules, now).await
}

/// Seeds the counters that a new snapshot has and the old one had not.
pub(super) async fn added(
    gateway: &Arc<Gateway>,
    older: &Snapshot,
    newer: &Arc<Snapshot>,
    now: Timestamp,
) -> Result<(), StartError> {
    let rules = newer.chains.new_since(&older.chains, now);
    seed(gateway, newer, rules, now).await
}

async fn seed(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    rules: Vec<Arc<Rule>>,
    now: Timestamp,
) -> Result<(), StartError> {
    if rules.is_empty() {
        return Ok(());
    }
    let (owner, newer) = (Arc::clone(gateway), Arc::clone(snapshot));
    let summed = tokio::task::spawn_blocking(move || {
        if let Err(error) = owner.ledger.flush(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "counters are rebuilt without the entries that have not reached the store");
        }
        sum(&owner, &newer.chains, &rules, now)
    });
    let uses = summed.await.map_err(|_| StartError::Interrupted)??;
    if let Err(error) = gateway.quota.seed(&uses, now).await {
        tracing::warn!(%error, "counters of new limits begin without what was used so far");
    }
    Ok(())
}

/// From which rows a rule's use is summed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Days, then today's hours, then entries.
    Days,
    /// Hours, then entries.
    Hours,
    /// Entries.
    Entries,
}

fn source(rule: &Rule) -> Source {
    // Rollups by day do not tell keys apart.
    let by_key = matches!(rule.counter.owner(), Owner::Key(_));
    match rule.counter.per() {
        Some(Window::Day | Window::Week | Window::Month | Window::Period) if by_key => {
            Source::Hours
        }
        Some(Window::Day | Window::Week | Window::Month | Window::Period) => Source::Days,
        Some(Window::Rolling(ms)) if ms >= ROLLING_BY_HOUR_MS => Source::Hours,
        _ => Source::Entries,
    }
}

/// Reads the use of some limits in their present windows. Blocks.
pub(super) fn sum(
    gateway: &Gateway,
    chains: &Chains,
    rules: &[Arc<Rule>],
    now: Timestamp,
) -> Result<Vec<Use>, StoreError> {
    let now_ms = now.as_millisecond();
    let (today, this_hour) = (
        now_ms - now_ms.rem_euclid(DAY_MS),
        now_ms - now_ms.rem_euclid(HOUR_MS),
    );
    let wanted: std::collections::HashSet<_> =
        rules.iter().map(|rule| Arc::clone(&rule.counter)).collect();
    let earliest = |kind: Source, from: i64| {
        let starts = rules
            .iter()
            .filter(|rule| source(rule) == kind)
            .map(|rule| Bound::new(rule, now).window.start_ms);
        starts.min().unwrap_or(from).min(from)
    };
    let mut seeds = Vec::new();
    let mut add = |from: Source,
                   start_ms: i64,
                   lineage: &[_],
                   key: Option<&_>,
                   model: &str,
                   demand: &Demand,
                   requests: u64| {
        for rule in chains
            .rules_of(lineage, key, model)
            .filter(|rule| wanted.contains(&rule.counter))
        {
            // A rule is summed from its own kind of rows, and what those do not cover from the finer kinds.
            let fits = match (source(rule), from) {
                (Source::Days, Source::Hours) => start_ms >= today,
                (Source::Days | Source::Hours, Source::Entries) => start_ms >= this_hour,
                (own, from) => own == from,
            };
            if !fits || !Bound::new(rule, now).window.contains(start_ms) {
                continue;
            }
            let on = rule.counter.on();
            let units = if on == Measure::Requests {
                i128::from(requests)
            } else {
                demand.units(on)
            };
            let Ok(at) = Timestamp::from_millisecond(start_ms) else {
                continue;
            };
            if units != 0 {
                seeds.push(Use {
                    rule: Arc::clone(rule),
                    at,
                    units,
                });
            }
        }
    };
    let mut by_row = |from: Source, row: &RollupRow| {
        let demand = Demand {
            cost: row.cost.total(),
            input_tokens: row.usage.input_tokens,
            output_tokens: row.usage.output_tokens,
        };
        let rejected = row.outcomes.last().copied().unwrap_or_default();
        let model = row.model.as_ref().map_or("", |model| model.as_str());
        add(
            from,
            row.start.as_millisecond(),
            &row.lineage,
            row.key.as_ref(),
            model,
            &demand,
            row.requests.saturating_sub(rejected),
        );
    };
    let range = |since_ms: i64, until_ms: i64| -> Option<TimeRange> {
        let since = Timestamp::from_millisecond(since_ms - since_ms.rem_euclid(HOUR_MS)).ok()?;
        let until = Timestamp::from_millisecond(until_ms).ok()?;
        (since < until).then_some(TimeRange { since, until })
    };
    let days_from = earliest(Source::Days, today);
    if let Some(range) = range(days_from - days_from.rem_euclid(DAY_MS), today) {
        gateway
            .store
            .rollup(Grain::Day, range, &mut |row| by_row(Source::Days, row))?;
    }
    let has_days = rules.iter().any(|rule| source(rule) == Source::Days);
    let hours_from = earliest(Source::Hours, if has_days { today } else { this_hour });
    if let Some(range) = range(hours_from, this_hour) {
        gateway
            .store
            .rollup(Grain::Hour, range, &mut |row| by_row(Source::Hours, row))?;
    }
    let entries_from = earliest(Source::Entries, this_hour);
    let filter = EntryFilter {
        since: Timestamp::from_millisecond(entries_from).ok(),
        ..EntryFilter::default()
    };
    gateway.store.scan(&filter, &mut |entry| {
        let demand = Demand::settled(entry.cost_usd(), &entry.usage);
        let counted = entry.outcome != Outcome::Rejected && entry.corrects.is_none();
        let model = entry.model.as_ref().map_or("", |model| model.as_str());
        let at = entry.started_at.as_millisecond();
        add(
            Source::Entries,
            at,
            &entry.lineage,
            Some(&entry.key),
            model,
            &demand,
            u64::from(counted),
        );
        true
    })?;
    Ok(seeds)
}
