//! Margins: revenue, cost, projection, what-if and advice, read from the ledger; never on the request path.
//!
//! ```text
//! store ──▶ reading ──▶ tally ─────────▶ assemble ──▶ report ──▶ JSON, CSV, table
//!           rollups:    sums by          revenue      rows and
//!           days, edge  account, plan    against      a total
//!           hours, a    and row          them
//!           few entries                     ▲
//! directory, account and plan events ──▶ books ──▶ tenure, worth
//! ```
//!
//! Revenue is a matter of record, too: which plan an account had, and on which terms, is written down when a gateway takes
//! it into force or a change by hand is made (`changes::history`), so that a new price never rewrites what was earned.
//!
//! A what-if is the same pass over other rows (traffic mapped to another model's price, cut at a limit) or with other
//! books (another plan price); advice searches for the price or the limit and proves it with the what-if.

pub mod advise;
mod assemble;
pub mod books;
pub mod concentration;
mod days;
mod forecast;
mod ratio;
mod reading;
pub mod reconcile;
pub mod report;
pub mod reprice;
mod row;
mod rows;
mod show;
mod tally;
pub mod tenure;
pub mod terms;
pub mod whatif;
mod worth;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::ConfigErrors;
use crate::ids::PlanId;
use crate::ledger::store::{Store, StoreError, TimeRange};

pub use books::Books;
pub use reading::Progress;
pub use report::{Report, Row};
pub use show::{
    advice_csv, advice_table, csv, reconciliation_csv, reconciliation_table, repriced_csv,
    repriced_table, table, what_if_csv, what_if_table,
};
pub(crate) use show::{dollars, grouped, percent};
pub use terms::{PlanHistory, RecordedTerms};
pub use whatif::{WhatIf, what_if};

/// What the rows of a report are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Plans.
    #[default]
    Plan,
    /// Accounts.
    Account,
    /// Models, as they were asked for.
    Model,
    /// Keys.
    Key,
    /// Upstreams.
    Upstream,
    /// Tags of requests and accounts (`feature=search`); a request with several stands in several rows.
    Tag,
    /// UTC days.
    Day,
}

impl By {
    /// How revenue is told apart between rows, for the reader of the figures.
    fn method(self) -> &'static str {
        match self {
            By::Plan | By::Account => {
                "each plan's price is spread evenly over its billing period; refunds count when they are made"
            }
            By::Day => "each plan's price is spread evenly over its billing period, day by day",
            By::Model | By::Key | By::Upstream => {
                "each account's revenue and fixed costs are shared out to its rows by what their use cost"
            }
            By::Tag => {
                "each account's revenue and fixed costs are shared out by what use cost; rows overlap where requests have several tags"
            }
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum MarginError {
    /// The ledger could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plan is priced in a currency without a rate table.
    #[error("plan {plan}: there is no rate table for {currency}")]
    NoRate {
        /// The plan.
        plan: PlanId,
        /// Its currency.
        currency: Arc<str>,
    },
    /// A plan that does not exist.
    #[error("there is no plan {0}")]
    NoSuchPlan(PlanId),
    /// An upstream that does not exist.
    #[error("there is no upstream {0}")]
    NoSuchUpstream(String),
    /// A file that cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file that is no bill.
    #[error("{}: {error}", path.display())]
    Bill {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        error: reconcile::bill::BillError,
    },
    /// A price table that is none.
    #[error("{0}")]
    PriceTable(ConfigErrors),
    /// A what-if that cannot be.
    #[error(transparent)]
    WhatIf(#[from] whatif::WhatIfError),
    /// A range that ends before it begins.
    #[error("the range ends ({until}) before it begins ({since})")]
    EmptyRange {
        /// Its first moment.
        since: Timestamp,
        /// Its end.
        until: Timestamp,
    },
    /// A report could not be written as JSON.
    #[error("the report could not be written: {0}")]
    Json(serde_json::Error),
}

/// Revenue against cost over a time range, as it stands at `now`.
///
/// # Errors
/// [`MarginError::Store`] when the ledger cannot be read.
pub fn report(
    store: &dyn Store,
    books: &Books,
    by: By,
    range: TimeRange,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<Report, MarginError> {
    let frame = assemble::Frame::new(range, now);
    let mut tally = gather(store, books, by, &frame, now, progress)?;
    Ok(assemble::assemble(books, &mut tally, &frame))
}

/// The reports by plan and by account, from one reading of the ledger.
///
/// # Errors
/// [`MarginError::Store`] when the ledger cannot be read.
pub fn plans_and_accounts(
    store: &dyn Store,
    books: &Books,
    range: TimeRange,
    now: Timestamp,
) -> Result<(Report, Report), MarginError> {
    let frame = assemble::Frame::new(range, now);
    let mut tally = gather(store, books, By::Plan, &frame, now, &|_, _| {})?;
    let plans = assemble::assemble(books, &mut tally, &frame);
    tally.turn_to_accounts();
    Ok((plans, assemble::assemble(books, &mut tally, &frame)))
}

/// All sums that a report needs.
fn gather(
    store: &dyn Store,
    books: &Books,
    by: By,
    frame: &assemble::Frame,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<tally::Tally, MarginError> {
    let reads = reading::Reads::of(books, frame, by);
    let fresh = || tally::Tally::new(by, books);
    let tallies = reading::read(
        store,
        frame,
        reads,
        now,
        progress,
        fresh,
        |_| {},
        |tally, row, tags, part| tally.take(row, tags, books, part),
    )?;
    let mut tally = fresh();
    tallies.into_iter().for_each(|other| tally.absorb(other));
    Ok(tally)
}

/// The range of a report: from `since` (the first of the current calendar month unless given) to `until` (now unless
/// given), in whole milliseconds.
///
/// # Errors
/// [`MarginError::EmptyRange`] when it ends before it begins.
pub fn range(
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<TimeRange, MarginError> {
    let whole = |at: Timestamp| days::timestamp_of(at.as_millisecond());
    let until = whole(until.unwrap_or(now));
    let since = match since {
        Some(since) => whole(since),
        None => days::timestamp_of(days::month_start(until.min(now).as_millisecond())),
    };
    if since > until {
        return Err(MarginError::EmptyRange { since, until });
    }
    Ok(TimeRange { since, until })
}
