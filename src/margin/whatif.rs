//! What-if: the recorded traffic of a time range under other models, an upstream's other prices, other plan prices,
//! limits or cache hits, side by side with what happened.
//!
//! Nothing is estimated: each row of the ledger is priced again with the price that held on its day, or cut where a
//! limit would have held (see [`limits`]); the report is then made as always.

pub mod limits;
pub mod spoken;
pub mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::assemble::{AccountFigures, Frame, assemble, by_account};
use super::books::Books;
use super::days::timestamp_of;
use super::reading::{self, Progress, Reads};
use super::report::Report;
use super::tally::Tally;
use super::{By, MarginError};
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{Grain, Store, TimeRange};
use crate::money::Money;
use crate::price::PriceTable;

use limits::{Cap, Carry, Gauge, Replay};
use traffic::{Met, ModelMap, Traffic};

/// What is to be different. Without any change the what-if is what happened.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Traffic of one model at the price of another.
    pub maps: Vec<ModelMap>,
    /// Another upstream's prices: what it prices costs that much; models that it does not name keep their price.
    pub price_table: Option<Arc<PriceTable>>,
    /// Other prices of plans, in US dollars a period, for the whole range.
    pub plan_prices: Vec<(PlanId, Money)>,
    /// Limits that plans would have had beside their own.
    pub limits: Vec<Cap>,
    /// Share of input tokens read from the cache, in parts per million.
    pub cache_hit_ppm: Option<u32>,
}

/// Why there is no what-if.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    /// A map leads to a model without a price.
    #[error("model {0} has no price: traffic cannot be priced as if it had served it")]
    Unpriced(String),
    /// A plan that does not exist.
    #[error("there is no plan {0}")]
    NoSuchPlan(PlanId),
    /// A limit on requests in flight.
    #[error(
        "a limit on concurrent requests cannot be replayed: the ledger's sums do not say what overlapped"
    )]
    Concurrent,
}

/// What happened beside what would have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// The first moment of the range.
    pub since: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// What happened.
    pub actual: Report,
    /// What would have.
    pub whatif: Report,
    /// The margin that would have been, less the one that was: above zero is a gain.
    pub difference_usd: Money,
    /// The difference in its parts.
    pub difference: Difference,
    /// Accounts whose cost or revenue would have been another.
    pub touched_accounts: u64,
    /// Of these, the ones that paid something.
    pub touched_paying_accounts: u64,
    /// Accounts that a limit would have stopped, by what that would have saved; at most [`STOPPED_MAX`].
    pub stopped: Vec<Stopped>,
    /// How many there are in all.
    pub stopped_accounts: u64,
    /// How it was made.
    pub method: &'static str,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// What-if less actual, in totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Of revenue.
    pub revenue_usd: Money,
    /// Of cost.
    pub cost_usd: Money,
    /// Of margin.
    pub margin_usd: Money,
}

/// An account that a limit would have stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// The account.
    pub account: String,
    /// The start of the first hour or day in which it would have been stopped.
    pub first: Timestamp,
    /// What its use would have cost less.
    pub saving_usd: Money,
    /// What it paid in the range.
    pub revenue_usd: Money,
}

/// How many stopped accounts are named.
pub const STOPPED_MAX: usize = 1_000;

const METHOD: &str = "recorded traffic, priced again with the prices of its days; limits are replayed by the day \
(by the hour for windows below a day) and serve of each window what fits";

/// Answers what would have been.
///
/// # Errors
/// [`MarginError::WhatIf`] when a change cannot be, [`MarginError::Store`] when the ledger cannot be read.
#[expect(
    clippy::too_many_arguments,
    reason = "each is another thing that the answer depends on"
)]
pub fn what_if(
    store: &dyn Store,
    books: &Books,
    prices: &PriceTable,
    changes: &Changes,
    by: By,
    range: TimeRange,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<WhatIf, MarginError> {
    for cap in &changes.limits {
        cap.check(books)?;
    }
    let mut other_books = books.clone();
    for (plan, price) in &changes.plan_prices {
        other_books = other_books.with_price(plan, *price)?;
    }
    let traffic = Traffic::new(prices, changes)?;
    let mut gauge = Gauge::new(books, &changes.limits);
    let frame = Frame::new(range, now);
    let mut reads = Reads::of(books, &frame, by);
    reads.from_ms = reads
        .from_ms
        .min(gauge.history_start(range.since.as_millisecond()));
    if changes.limits.iter().any(|cap| cap.grain() == Grain::Hour) {
        reads.grain = Grain::Hour;
    }

    let limited = !changes.limits.is_empty();
    // With limits the ledger is read twice: where they cut is known only at the end.
    let passes = if limited { 2 } else { 1 };
    let first = |done: u64, all: u64| progress(done, all * passes);
    let second = |done: u64, all: u64| progress(all + done, all * passes);
    let fresh = || Pass {
        actual: Tally::new(by, books),
        changed: Tally::new(by, &other_books),
        traffic: traffic.clone(),
        gauge: Gauge::new(books, &changes.limits),
        carry: Carry::default(),
    };
    let parts = reading::read(
        store,
        &frame,
        reads,
        now,
        &first,
        fresh,
        |_| {},
        |pass, row, tags, part| {
            let changed = pass.traffic.changed(row, part);
            if limited {
                pass.gauge.add(&changed, part);
            } else {
                pass.actual.take(row, tags, books, part);
                pass.changed.take(&changed, tags, &other_books, part);
            }
        },
    )?;
    let (mut actual, mut changed) = (Tally::new(by, books), Tally::new(by, &other_books));
    let mut notes = BTreeSet::new();
    let mut applies = changes.price_table.is_none();
    let mut met = vec![Met::Nothing; changes.maps.len()];
    for part in parts {
        actual.absorb(part.actual);
        changed.absorb(part.changed);
        gauge.absorb(part.gauge);
        applies |= part.traffic.used_other_prices();
        for (all, of_part) in met.iter_mut().zip(part.traffic.met()) {
            *all = (*all).max(*of_part);
        }
        notes.extend(part.traffic.into_notes());
    }
    if !applies {
        notes.insert("the other price table prices no model of the recorded traffic".to_owned());
    }
    for (map, met) in changes.maps.iter().zip(met) {
        match met {
            Met::Traffic => false,
            Met::Taken => notes.insert(format!(
                "the map {}={} changes nothing: an earlier map takes the same traffic",
                map.from, map.to
            )),
            Met::Nothing => notes.insert(format!(
                "the map {}={} changes nothing: the recorded traffic has no model {}",
                map.from, map.to, map.from
            )),
        };
    }
    let replay = gauge.in_order().replay(&changes.limits);
    if limited {
        // What was and what would have been are of one reading: a request that is booked meanwhile is in both.
        let fresh = || Pass {
            actual: Tally::new(by, books),
            changed: Tally::new(by, &other_books),
            traffic: traffic.clone(),
            gauge: Gauge::new(books, &[]),
            carry: Carry::default(),
        };
        let parts = reading::read(
            store,
            &frame,
            reads,
            now,
            &second,
            fresh,
            // Which thread reads which stretch is chance: what is carried must not depend on it.
            |pass| pass.carry.forget(),
            |pass, row, tags, part| {
                pass.actual.take(row, tags, books, part);
                let row = replay.cut(pass.traffic.changed(row, part), &mut pass.carry);
                pass.changed.take(&row, tags, &other_books, part);
            },
        )?;
        for part in parts {
            actual.absorb(part.actual);
            changed.absorb(part.changed);
        }
    }
    let whatif = assemble(&other_books, &mut changed, &frame);
    let actual_report = assemble(books, &mut actual, &frame);
    let before = by_account(books, &actual, &frame);
    let after = by_account(&other_books, &changed, &frame);
    Ok(compare(
        actual_report,
        whatif,
        &before,
        &after,
        &replay,
        notes.into_iter().collect(),
    ))
}

/// What one thread gathers.
struct Pass<'a> {
    actual: Tally,
    changed: Tally,
    traffic: Traffic<'a>,
    gauge: Gauge<'a>,
    carry: Carry,
}

fn compare(
    actual: Report,
    whatif: Report,
    before: &BTreeMap<Arc<str>, AccountFigures>,
    after: &BTreeMap<Arc<str>, AccountFigures>,
    replay: &Replay,
    notes: Vec<String>,
) -> WhatIf {
    let difference = Difference {
        revenue_usd: whatif.total.revenue_usd - actual.total.revenue_usd,
        cost_usd: whatif.total.cost_usd - actual.total.cost_usd,
        margin_usd: whatif.total.margin_usd - actual.total.margin_usd,
    };
    let since_ms = actual.since.as_millisecond();
    let (mut touched, mut paying) = (0, 0);
    let mut stopped = Vec::new();
    for (account, was) in before {
        let would_be = after.get(account).copied().unwrap_or_default();
        let first = replay.first_stop(&AccountId::from(&**account), since_ms);
        if *was != would_be || first.is_some() {
            touched += 1;
            paying += u64::from(was.revenue > Money::ZERO);
        }
        if let Some(first) = first {
            stopped.push(Stopped {
                account: account.to_string(),
                first: timestamp_of(first),
                saving_usd: was.used - would_be.used,
                revenue_usd: was.revenue,
            });
        }
    }
    stopped.sort_by(|a, b| {
        b.saving_usd
            .cmp(&a.saving_usd)
            .then_with(|| a.account.cmp(&b.account))
    });
    let stopped_accounts = stopped.len() as u64;
    stopped.truncate(STOPPED_MAX);
    WhatIf {
        since: actual.since,
        until: actual.until,
        actual,
        whatif,
        difference_usd: difference.margin_usd,
        difference,
        touched_accounts: touched,
        touched_paying_accounts: paying,
        stopped,
        stopped_accounts,
        method: METHOD,
        notes,
    }
}
