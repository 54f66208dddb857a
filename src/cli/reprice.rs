//! `weir reprice`: late and corrected prices, by correcting entries.

use jiff::Timestamp;

use super::margin::json;
use super::progress::Reading;
use super::when::moment;
use crate::config::Config;
use crate::ledger::store::Store;
use crate::margin::reprice::reprice;
use crate::margin::{self, MarginError};

/// Applies late or corrected prices by correcting entries; nothing is rewritten, and a second run adds nothing.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RepriceArgs {
    /// First moment (inclusive): a date or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Timestamp,
    /// Last moment (exclusive): a date or an RFC 3339 time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Only say what would be corrected
    #[arg(long)]
    pub dry_run: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    pub format: super::margin::Format,
}

/// Runs the command; the text is what goes to standard output. `actor` is who does it, for the audit log.
///
/// # Errors
/// See [`MarginError`].
pub fn run(
    args: &RepriceArgs,
    config: &Config,
    store: &dyn Store,
    actor: &str,
    now: Timestamp,
) -> Result<String, MarginError> {
    let range = margin::range(Some(args.since), args.until, now)?;
    let bar = Reading::new();
    let show = |done, all| bar.show(done, all);
    let done = reprice(
        store,
        &config.prices,
        range,
        args.dry_run,
        actor,
        now,
        &show,
    )?;
    drop(bar);
    Ok(match args.format {
        super::margin::Format::Table => margin::repriced_table(&done),
        super::margin::Format::Json => json(&done)?,
        super::margin::Format::Csv => margin::repriced_csv(&done),
    })
}
