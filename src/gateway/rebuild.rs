//! Counters of limits from the ledger: at start, for limits that are new.
//!
//! Long windows are summed from rollups, and only what is younger than the last full hour from entries, so that a start
//! costs the same with a thousand entries and with ten million.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{FLUSH_TIMEOUT, Gateway, StartError};
use crate::exchange::is_bill;
use crate::ids::{AccountId, KeyId, RequestId};
use crate::ledger::store::{EntryFilter, Grain, RollupRow, Store, StoreError, TimeRange};
use crate::ledger::{Entry, Outcome};
use crate::period::WindowSpan;
use crate::plan::{Measure, Window};
use crate::quota::chain::{Chains, Rule};
use crate::quota::{Bound, CounterId, Demand, Owner, Past, Use};
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
    let rules = snapshot.chains.rules().filter(|rule| is_summed(rule));
    let rules = rules.cloned().collect();
    seed(gateway, snapshot, rules, Apart::default(), now).await
}

/// Has every limit's use remembered, for a start without shared counters.
pub(super) async fn remembered(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    now: Timestamp,
) -> Result<(), StartError> {
    let (owner, snapshot) = (Arc::clone(gateway), Arc::clone(snapshot));
    let summed = tokio::task::spawn_blocking(move || {
        let rules = snapshot.chains.rules().filter(|rule| is_summed(rule));
        let rules: Vec<_> = rules.cloned().collect();
        let apart = Apart::default();
        sum(owner.store.as_ref(), &snapshot.chains, &rules, &apart, now)
    });
    let uses = summed.await.map_err(|_| StartError::Interrupted)??;
    gateway.quota.remember(&uses, now);
    Ok(())
}

/// Entries that are not to be summed: their requests are counted otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apart {
    /// These.
    pub(crate) except: HashSet<RequestId>,
    /// And those that ended later.
    pub(crate) ended_by: Option<Timestamp>,
}

impl Apart {
    fn has(&self, entry: &Entry) -> bool {
        // The ledger keeps milliseconds.
        let late = |by: Timestamp| entry.ended_at.as_millisecond() > by.as_millisecond();
        self.except.contains(&entry.id) || self.ended_by.is_some_and(late)
    }

    /// The excepted entries that the ledger has already.
    fn entries(&self, store: &dyn Store) -> Result<Vec<Entry>, StoreError> {
        let mut found = Vec::new();
        let Some(since) = self.except.iter().filter_map(made_at).min() else {
            return Ok(found);
        };
        let filter = EntryFilter {
            since: Some(since),
            ..EntryFilter::default()
        };
        store.scan(&filter, &mut |entry| {
            if self.except.contains(&entry.id) {
                found.push(entry);
            }
            true
        })?;
        Ok(found)
    }
}

/// A little before a request was given its id.
fn made_at(id: &RequestId) -> Option<Timestamp> {
    Timestamp::from_millisecond(id.began_ms()?.saturating_sub(5_000)).ok()
}

/// Seeds the counters of some limits from the ledger.
pub(super) async fn seed(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    rules: Vec<Arc<Rule>>,
    apart: Apart,
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
        let uses = sum(owner.store.as_ref(), &newer.chains, &rules, &apart, now)?;
        Ok::<_, StoreError>(Past { rules, uses })
    });
    let past = summed.await.map_err(|_| StartError::Interrupted)??;
    Ok(gateway.quota.seed(&past, now).await?)
}

/// The accounts at the top of the trees that some limits lie in.
pub(super) fn roots<'a>(rules: impl IntoIterator<Item = &'a Arc<Rule>>) -> Vec<AccountId> {
    let roots: HashSet<&AccountId> = rules.into_iter().map(|rule| &rule.root).collect();
    roots.into_iter().cloned().collect()
}

/// The limits of trees that are summed, by tree; a tree may have none.
pub(super) fn trees(chains: &Chains, roots: Vec<AccountId>) -> HashMap<AccountId, Vec<Arc<Rule>>> {
    let mut trees: HashMap<AccountId, Vec<Arc<Rule>>> =
        roots.into_iter().map(|root| (root, Vec::new())).collect();
    for rule in chains.rules().filter(|rule| is_summed(rule)) {
        if let Some(rules) = trees.get_mut(&rule.root) {
            rules.push(Arc::clone(rule));
        }
    }
    trees
}

/// Rules that share a counter are summed once; concurrency has no past.
fn is_summed(rule: &Rule) -> bool {
    rule.counts && rule.counter.per().is_some()
}

/// From which rows a rule's use is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Days, then today's hours, then entries.
    Days,
    /// Hours, then entries.
    Hours,
    /// Entries.
    Entries,
}

impl Source {
    fn of(rule: &Rule) -> Source {
        // Rollups by day do not tell keys apart, nor what went upstream from what the gateway answered itself.
        let by_hour =
            matches!(rule.counter.owner(), Owner::Key(_)) || rule.counter.on() == Measure::Requests;
        match rule.counter.per() {
            Some(Window::Day | Window::Week | Window::Month | Window::Period) if by_hour => {
                Source::Hours
            }
            Some(Window::Day | Window::Week | Window::Month | Window::Period) => Source::Days,
            Some(Window::Rolling(ms)) if ms >= ROLLING_BY_HOUR_MS => Source::Hours,
            _ => Source::Entries,
        }
    }
}

/// What is summed for one counter.
struct Wanted {
    rule: Arc<Rule>,
    source: Source,
    window: WindowSpan,
}

/// Use by counter, and for rolling windows by the moment too.
struct Sums<'a> {
    chains: &'a Chains,
    wanted: HashMap<Arc<CounterId>, Wanted>,
    /// The starts of today and of this hour.
    today_ms: i64,
    hour_ms: i64,
    units: HashMap<(Arc<CounterId>, i64), i128>,
    takes_out: bool,
}

impl<'a> Sums<'a> {
    fn new(chains: &'a Chains, rules: &[Arc<Rule>], now: Timestamp) -> Sums<'a> {
        let now_ms = now.as_millisecond();
        let wanted = rules.iter().map(|rule| {
            let window = Bound::new(rule, now).window;
            let wanted = Wanted {
                rule: Arc::clone(rule),
                source: Source::of(rule),
                window,
            };
            (Arc::clone(&rule.counter), wanted)
        });
        Sums {
            chains,
            wanted: wanted.collect(),
            today_ms: now_ms - now_ms.rem_euclid(DAY_MS),
            hour_ms: now_ms - now_ms.rem_euclid(HOUR_MS),
            units: HashMap::new(),
            takes_out: false,
        }
    }

    /// The earliest moment that rules of one kind need, at most `latest`.
    fn earliest(&self, source: Source, latest: i64) -> i64 {
        let of_kind = self
            .wanted
            .values()
            .filter(|wanted| wanted.source == source);
        of_kind
            .map(|wanted| wanted.window.start_ms)
            .min()
            .unwrap_or(latest)
            .min(latest)
    }

    fn has(&self, source: Source) -> bool {
        self.wanted.values().any(|wanted| wanted.source == source)
    }

    fn add(
        &mut self,
        from: Source,
        at_ms: i64,
        who: (&[AccountId], Option<&KeyId>),
        model: &str,
        demand: &Demand,
        requests: u64,
    ) {
        let (lineage, key) = who;
        for rule in self.chains.rules_of(lineage, key, model) {
            let Some(wanted) = self.wanted.get(&rule.counter) else {
                continue;
            };
            // A rule is summed from its own kind of rows, and what those do not cover from the finer kinds.
            let fits = match (wanted.source, from) {
                (Source::Days, Source::Hours) => at_ms >= self.today_ms,
                (Source::Days | Source::Hours, Source::Entries) => at_ms >= self.hour_ms,
                (own, from) => own == from,
            };
            if !fits || !wanted.window.contains(at_ms) {
                continue;
            }
            let on = rule.counter.on();
            let units = if on == Measure::Requests {
                i128::from(requests)
            } else {
                demand.units(on)
            };
            let rolls = matches!(rule.counter.per(), Some(Window::Rolling(_)));
            let moment = if rolls { at_ms } else { wanted.window.start_ms };
            let sum = self
                .units
                .entry((Arc::clone(&rule.counter), moment))
                .or_default();
            *sum = if self.takes_out {
                sum.saturating_sub(units)
            } else {
                sum.saturating_add(units)
            };
        }
    }

    fn add_row(&mut self, from: Source, row: &RollupRow) {
        let demand = Demand {
            cost: row.sums.cost.total(),
            input_tokens: row.sums.usage.input_tokens,
            output_tokens: row.sums.usage.output_tokens,
        };
        let [.., rejected] = row.sums.outcomes;
        let counted = match row.upstream {
            Some(_) => row.sums.requests.saturating_sub(rejected),
            None => 0,
        };
        let model = row.model.as_ref().map_or("", |model| model.as_str());
        let who = (&*row.lineage, row.key.as_ref());
        self.add(
            from,
            row.start.as_millisecond(),
            who,
            model,
            &demand,
            counted,
        );
    }

    /// Takes an entry out of the rows that hold it.
    fn take_out(&mut self, entry: &Entry) {
        let at_ms = entry.started_at.as_millisecond();
        self.takes_out = true;
        for (from, step_ms, row_until) in [
            (Source::Days, DAY_MS, self.today_ms),
            (Source::Hours, HOUR_MS, self.hour_ms),
        ] {
            if at_ms < row_until {
                self.add_entry_as(from, at_ms - at_ms.rem_euclid(step_ms), entry);
            }
        }
        self.takes_out = false;
    }

    fn add_entry(&mut self, entry: &Entry) {
        self.add_entry_as(Source::Entries, entry.started_at.as_millisecond(), entry);
    }

    fn add_entry_as(&mut self, from: Source, at_ms: i64, entry: &Entry) {
        let demand = Demand::settled(entry.cost_usd(), &entry.usage);
        // What the gateway answers itself (a list of models) holds nothing, and neither does the bill of a response whose
        // making was counted.
        let counted = entry.outcome != Outcome::Rejected
            && entry.corrects.is_none()
            && entry.upstream.is_some()
            && !is_bill(entry.id);
        let model = entry.model.as_ref().map_or("", |model| model.as_str());
        let who = (&*entry.lineage, Some(&entry.key));
        self.add(from, at_ms, who, model, &demand, u64::from(counted));
    }

    fn into_uses(self) -> Vec<Use> {
        let uses = self
            .units
            .into_iter()
            .filter(|(_, units)| *units != 0)
            .filter_map(|((counter, at_ms), units)| {
                let rule = Arc::clone(&self.wanted.get(&counter)?.rule);
                Some(Use {
                    rule,
                    at: Timestamp::from_millisecond(at_ms).ok()?,
                    units,
                })
            });
        uses.collect()
    }
}

/// Reads the use of some limits in their present windows, but for what is set apart. Blocks.
pub(crate) fn sum(
    store: &dyn Store,
    chains: &Chains,
    rules: &[Arc<Rule>],
    apart: &Apart,
    now: Timestamp,
) -> Result<Vec<Use>, StoreError> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    // Rows of whole hours hold the excepted entries too, as far as these have come: they are taken out again. One that
    // comes while the rows are read may be in them or not; then all is read again.
    let mut known = apart.entries(store)?;
    let mut tries_left = 5;
    loop {
        let mut sums = sum_once(store, chains, rules, apart, now)?;
        let present = apart.entries(store)?;
        tries_left -= 1;
        if present.len() == known.len() || tries_left == 0 {
            present.iter().for_each(|entry| sums.take_out(entry));
            return Ok(sums.into_uses());
        }
        known = present;
    }
}

fn sum_once<'a>(
    store: &dyn Store,
    chains: &'a Chains,
    rules: &[Arc<Rule>],
    apart: &Apart,
    now: Timestamp,
) -> Result<Sums<'a>, StoreError> {
    let mut sums = Sums::new(chains, rules, now);
    let (today, this_hour) = (sums.today_ms, sums.hour_ms);
    if let Some(days) = whole(sums.earliest(Source::Days, today), today, DAY_MS) {
        store.rollup(Grain::Day, days, &mut |row| sums.add_row(Source::Days, row))?;
    }
    let latest = if sums.has(Source::Days) {
        today
    } else {
        this_hour
    };
    if let Some(hours) = whole(sums.earliest(Source::Hours, latest), this_hour, HOUR_MS) {
        store.rollup(Grain::Hour, hours, &mut |row| {
            sums.add_row(Source::Hours, row)
        })?;
    }
    let since = Timestamp::from_millisecond(sums.earliest(Source::Entries, this_hour)).ok();
    let filter = EntryFilter {
        since,
        ..EntryFilter::default()
    };
    store.scan(&filter, &mut |entry| {
        if !apart.has(&entry) {
            sums.add_entry(&entry);
        }
        true
    })?;
    Ok(sums)
}

/// The range from a moment, moved back to a whole step, to another; `None` when it is empty.
fn whole(since_ms: i64, until_ms: i64, step_ms: i64) -> Option<TimeRange> {
    let since = Timestamp::from_millisecond(since_ms - since_ms.rem_euclid(step_ms)).ok()?;
    let until = Timestamp::from_millisecond(until_ms).ok()?;
    (since < until).then_some(TimeRange { since, until })
}
