//! Late and corrected prices: applied by correcting entries, never by rewriting.
//!
//! An entry that had no price, or whose price row is another by now, gets a correction: an entry of its own, dated as the
//! one it corrects (so that both fall in the same day's sums), which carries the difference in cost. What earlier
//! corrections did is counted, so running it twice adds nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::MarginError;
use super::days::{DAY_MS, day_number, day_start, timestamp_of};
use super::reading::Progress;
use crate::ids::RequestId;
use crate::ledger::Entry;
use crate::ledger::entry::WAS_UNPRICED;
use crate::ledger::store::{AuditLine, EntryFilter, Store, TimeRange};
use crate::money::Money;
use crate::price::{CostByClass, Part, PriceTable, PricedBy, price_parts};
use crate::secret::SecretSha256;
use crate::tokens::{Usage, UsageSource};

/// What was corrected, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repriced {
    /// The first moment.
    pub since: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Requests that were looked at: those that used something.
    pub examined: u64,
    /// Correcting entries.
    pub corrected: u64,
    /// Of these, for requests that had no price.
    pub newly_priced: u64,
    /// What the corrections add to cost.
    pub difference_usd: Money,
    /// Requests that have no price still.
    pub unpriced: u64,
    /// Requests that several models served: the entry does not say what each used, so they are left as they are.
    pub several_models: u64,
    /// The corrections by price row.
    pub rows: Vec<RepricedRow>,
}

/// The corrections that one price row makes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RepricedRow {
    /// The price that holds now.
    pub priced_by: PricedBy,
    /// Correcting entries.
    pub corrected: u64,
    /// What they add to cost.
    pub difference_usd: Money,
}

/// Corrects what was booked with no price or with another price than the table has now.
///
/// # Errors
/// [`MarginError::Store`] when the ledger cannot be read or written; what was written until then stays, and the next run
/// goes on from there.
pub fn reprice(
    store: &dyn Store,
    prices: &PriceTable,
    range: TimeRange,
    dry_run: bool,
    actor: &str,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<Repriced, MarginError> {
    let mut run = Run {
        prices,
        now,
        group: Group::default(),
        corrections: Vec::new(),
        rows: BTreeMap::new(),
        done: Repriced {
            since: range.since,
            until: range.until,
            dry_run,
            examined: 0,
            corrected: 0,
            newly_priced: 0,
            difference_usd: Money::ZERO,
            unpriced: 0,
            several_models: 0,
            rows: Vec::new(),
        },
    };
    let (since, until) = (range.since.as_millisecond(), range.until.as_millisecond());
    let all = until.saturating_sub(since).unsigned_abs();
    let mut at = since;
    // A day at a time: corrections are written while nothing is being read.
    while at < until {
        let next = day_start(day_number(at)).saturating_add(DAY_MS).min(until);
        let filter = EntryFilter {
            since: Some(timestamp_of(at)),
            until: Some(timestamp_of(next)),
            ..EntryFilter::default()
        };
        store.scan(&filter, &mut |entry| {
            run.take(entry);
            true
        })?;
        run.settle_group();
        if !dry_run {
            for batch in run.corrections.chunks(BATCH) {
                store.append(batch)?;
            }
        }
        run.corrections.clear();
        at = next;
        progress(at.saturating_sub(since).unsigned_abs(), all);
    }
    let done = run.finish();
    if !dry_run && done.corrected > 0 {
        store.add_audit(&audit(&done, actor, now))?;
    }
    Ok(done)
}

/// Corrections written in one transaction.
const BATCH: usize = 1_000;

struct Run<'a> {
    prices: &'a PriceTable,
    now: Timestamp,
    group: Group,
    corrections: Vec<Entry>,
    rows: BTreeMap<(Arc<str>, jiff::civil::Date), (u64, Money)>,
    done: Repriced,
}

/// Entries of one moment: a correction is dated as what it corrects, so both are in one group.
#[derive(Default)]
struct Group {
    at: Option<Timestamp>,
    entries: Vec<Entry>,
    corrected: BTreeMap<RequestId, Booked>,
}

/// What earlier corrections of an entry booked.
#[derive(Clone, Copy, Default)]
struct Booked {
    cost: CostByClass,
    undiscounted: Money,
    priced: bool,
    corrections: u32,
}

impl Run<'_> {
    fn take(&mut self, entry: Entry) {
        if self.group.at != Some(entry.started_at) {
            self.settle_group();
            self.group.at = Some(entry.started_at);
        }
        match entry.corrects {
            Some(original) => {
                let booked = self.group.corrected.entry(original).or_default();
                booked.cost += entry.cost;
                booked.undiscounted += entry.undiscounted;
                booked.priced |= entry.unpriced_delta() < 0;
                booked.corrections += 1;
            }
            None => self.group.entries.push(entry),
        }
    }

    fn settle_group(&mut self) {
        let group = std::mem::take(&mut self.group);
        for entry in group.entries {
            let booked = group.corrected.get(&entry.id).copied().unwrap_or_default();
            self.examine(&entry, booked);
        }
    }

    fn examine(&mut self, entry: &Entry, booked: Booked) {
        if entry.usage_source == UsageSource::None {
            return;
        }
        self.done.examined += 1;
        let was_unpriced = entry.is_unpriced() && !booked.priced;
        let in_part = entry.priced_by.is_empty() && entry.cost_usd() != Money::ZERO;
        if entry.priced_by.len() > 1 || in_part {
            self.done.several_models += 1;
            return;
        }
        let model = entry.served_model.as_ref().or(entry.model.as_ref());
        let part = Part {
            model: model.map_or("", |model| model.as_str()),
            // What stood in for a price is no price of the served model: it stays as booked until there is one.
            asked: None,
            usage: entry.usage,
        };
        // Nothing is known of what it used: only a fee by the request is a price of it.
        if entry.usage_source == UsageSource::Estimated && entry.usage.is_zero() {
            let row = self.prices.price(part.model, entry.started_at);
            if !row.is_some_and(|(_, row)| row.costs_without_usage()) {
                self.done.unpriced += u64::from(was_unpriced);
                return;
            }
        }
        let tier = entry.service_tier.as_deref();
        let priced = price_parts(self.prices, &[part], tier, entry.started_at);
        // A price that is gone is no price of zero, and a cost beyond all bounds no cost: both stay as booked.
        let Some((priced, by)) = priced
            .ok()
            .and_then(|priced| Some((priced.clone(), priced.priced_by.into_iter().next()?)))
        else {
            self.done.unpriced += u64::from(was_unpriced);
            return;
        };
        let mut now_booked = entry.cost;
        now_booked += booked.cost;
        let difference = less(priced.cost.by_class, now_booked);
        let undiscounted = priced.cost.undiscounted - entry.undiscounted - booked.undiscounted;
        let nothing = difference == CostByClass::default() && undiscounted == Money::ZERO;
        if nothing && !was_unpriced {
            return;
        }
        let added = difference.total();
        self.done.corrected += 1;
        self.done.newly_priced += u64::from(was_unpriced);
        self.done.difference_usd += added;
        let row = self
            .rows
            .entry((Arc::clone(&by.model), by.from))
            .or_default();
        row.0 += 1;
        row.1 += added;
        self.corrections.push(Entry {
            id: correction_id(entry, booked.corrections),
            ended_at: self.now.max(entry.started_at),
            reason: Some(reason(entry, &by, was_unpriced)),
            usage: Usage::default(),
            usage_source: UsageSource::None,
            cost: difference,
            undiscounted,
            priced_by: vec![by],
            first_token_ms: None,
            duration_ms: 0,
            retries: 0,
            corrects: Some(entry.id),
            ..entry.clone()
        });
    }

    fn finish(self) -> Repriced {
        let rows = self.rows.into_iter();
        Repriced {
            rows: rows
                .map(|((model, from), (corrected, difference_usd))| RepricedRow {
                    priced_by: PricedBy { model, from },
                    corrected,
                    difference_usd,
                })
                .collect(),
            ..self.done
        }
    }
}

/// The id of an entry's next correction. Two runs at the same time come to the same one, and the ledger takes it once.
fn correction_id(entry: &Entry, earlier: u32) -> RequestId {
    let digest = SecretSha256::of(format!("{} {earlier}", entry.id).as_bytes());
    let at_ms = entry.started_at.as_millisecond().max(0).unsigned_abs();
    let rest = digest.0.first_chunk().unwrap_or(&[0; 10]);
    RequestId(uuid::Builder::from_unix_timestamp_millis(at_ms, rest).into_uuid())
}

fn reason(entry: &Entry, by: &PricedBy, was_unpriced: bool) -> Arc<str> {
    let now = format!("{} from {}", by.model, by.from);
    match entry.priced_by.first() {
        _ if was_unpriced => format!("{WAS_UNPRICED}: priced by {now}"),
        Some(before) => format!(
            "repriced: by {now}, was by {} from {}",
            before.model, before.from
        ),
        None => format!("repriced: by {now}"),
    }
    .into()
}

fn less(cost: CostByClass, booked: CostByClass) -> CostByClass {
    CostByClass {
        input: cost.input - booked.input,
        cache_read_input: cost.cache_read_input - booked.cache_read_input,
        cache_write_input: cost.cache_write_input - booked.cache_write_input,
        media_input: cost.media_input - booked.media_input,
        output: cost.output - booked.output,
        reasoning_output: cost.reasoning_output - booked.reasoning_output,
        media_output: cost.media_output - booked.media_output,
        other: cost.other - booked.other,
    }
}

fn audit(done: &Repriced, actor: &str, now: Timestamp) -> AuditLine {
    let detail = serde_json::json!({
        "corrected": done.corrected,
        "newly_priced": done.newly_priced,
        "difference_usd": done.difference_usd,
    });
    AuditLine {
        at: now,
        actor: actor.to_owned(),
        action: "reprice".to_owned(),
        subject: format!("{} to {}", done.since, done.until),
        detail: detail.to_string(),
    }
}
