//! `weir ledger export`: entries, oldest first.

use std::io;

use jiff::Timestamp;

use super::when::moment;
use crate::config::Config;
use crate::ids::AccountId;
use crate::ledger::export::{self, ExportError, Format};
use crate::ledger::store::{EntryFilter, Store};

/// Reads the ledger.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LedgerCommand {
    /// Write entries to standard output, oldest first
    Export(ExportArgs),
}

/// Which entries, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Only entries that started at or after this: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only entries that started before this: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Only entries of this account itself
    #[arg(long, value_name = "ID", value_parser = account)]
    pub account: Option<AccountId>,
    /// How to write them
    #[arg(long, value_enum, default_value = "jsonl")]
    pub format: Format,
}

/// Runs the command while gateways run or not; how many entries were written.
///
/// # Errors
/// See [`ExportError`]. A reader that goes away early (`| head`) is no error.
pub fn run(
    command: &LedgerCommand,
    config: &Config,
    store: &dyn Store,
    out: &mut dyn io::Write,
) -> Result<u64, ExportError> {
    let LedgerCommand::Export(args) = command;
    let filter = EntryFilter {
        since: args.since,
        until: args.until,
        account: args.account.clone(),
        ..EntryFilter::default()
    };
    match export::write(
        store,
        Some(&config.store.journal),
        &filter,
        args.format,
        out,
    ) {
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        written => written,
    }
}

fn account(text: &str) -> Result<AccountId, String> {
    AccountId::parse(text).map_err(|error| error.to_string())
}
