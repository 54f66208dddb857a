//! `weir margin`: revenue, cost, margin, break-even, projection.

use jiff::Timestamp;

use super::progress::Reading;
use super::when::moment;
use crate::config::Config;
use crate::ledger::store::{Store, TimeRange};
use crate::margin::{self, Books, By, MarginError};

/// Shows where money is made and lost.
#[derive(Clone, Debug, clap::Args)]
pub struct MarginArgs {
    /// What the rows are
    #[arg(long, value_enum, default_value = "plan")]
    pub by: By,
    /// The time range; the current calendar month up to now unless given
    #[command(flatten)]
    pub range: RangeArgs,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// A time range on the command line, in UTC.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct RangeArgs {
    /// First moment (inclusive): a date or an RFC 3339 time [default: the first of this month; with `advise` 30 days ago]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Last moment (exclusive): a date or an RFC 3339 time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; amounts are exact.
    Json,
    /// For spreadsheets; amounts are exact.
    Csv,
}

impl RangeArgs {
    /// The range that is meant at `now`.
    ///
    /// # Errors
    /// [`MarginError::EmptyRange`] when it ends before it begins.
    pub fn resolve(&self, now: Timestamp) -> Result<TimeRange, MarginError> {
        margin::range(self.since, self.until, now)
    }
}

/// Runs the command; the text is what goes to standard output.
///
/// # Errors
/// See [`MarginError`].
pub fn run(
    args: &MarginArgs,
    config: &Config,
    store: &dyn Store,
    now: Timestamp,
) -> Result<String, MarginError> {
    let range = args.range.resolve(now)?;
    let books = Books::read(config, store)?;
    let bar = Reading::new();
    let report = margin::report(store, &books, args.by, range, now, &|done, all| {
        bar.show(done, all);
    })?;
    drop(bar);
    Ok(match args.format {
        Format::Table => margin::table(&report),
        Format::Json => json(&report)?,
        Format::Csv => margin::csv(&report),
    })
}

/// A report as indented JSON with a line's end.
pub(super) fn json(report: &impl serde::Serialize) -> Result<String, MarginError> {
    let text = serde_json::to_string_pretty(report).map_err(MarginError::Json)?;
    Ok(text + "\n")
}
