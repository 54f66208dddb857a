//! `weir ledger export`: entries, oldest first.

use std::io;

use jiff::Timestamp;

use super::Failure;
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
    pub format: Written,
}

/// How entries are written: [`Format`] in the words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Written {
    /// One JSON object a line: everything, to be read back
    Jsonl,
    /// One row an entry, with a header
    Csv,
    /// One row an entry and class of cost, in the columns of FOCUS 1.0
    Focus,
}

impl From<Written> for Format {
    fn from(written: Written) -> Format {
        match written {
            Written::Jsonl => Format::Jsonl,
            Written::Csv => Format::Csv,
            Written::Focus => Format::Focus,
        }
    }
}

/// Runs the command while gateways run or not; how many entries were written.
///
/// # Errors
/// See [`ExportError`], and where nobody knows the account. A reader that goes away early (`| head`) is no error.
pub fn run(
    command: &LedgerCommand,
    config: &Config,
    store: &dyn Store,
    out: &mut dyn io::Write,
) -> Result<u64, Failure> {
    let LedgerCommand::Export(args) = command;
    if let Some(account) = &args.account
        && !is_known(account, config, store)?
    {
        return Err(Failure(format!("there is no account {account}")));
    }
    let filter = EntryFilter {
        since: args.since,
        until: args.until,
        account: args.account.clone(),
        ..EntryFilter::default()
    };
    let journal = Some(config.store.journal.as_path());
    match export::write(store, journal, &filter, args.format.into(), out) {
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        written => Ok(written?),
    }
}

/// Whether there is such an account, or was: one that the configuration file no longer declares is in the ledger still.
fn is_known(account: &AccountId, config: &Config, store: &dyn Store) -> Result<bool, ExportError> {
    let declared = config.accounts.iter().any(|known| known.id == *account);
    if declared || !store.account_events_of(account)?.is_empty() {
        return Ok(true);
    }
    let stored = store.stored()?.accounts;
    if stored.iter().any(|known| known.id == *account) {
        return Ok(true);
    }
    let its_own = EntryFilter {
        account: Some(account.clone()),
        ..EntryFilter::default()
    };
    let mut found = false;
    let journal = Some(config.store.journal.as_path());
    export::scan(store, journal, &its_own, &mut |_| {
        found = true;
        false
    })?;
    Ok(found)
}

fn account(text: &str) -> Result<AccountId, String> {
    AccountId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;
    use crate::config::{self, FixedEnvironment};
    use crate::ledger::samples::sample;
    use crate::ledger::sqlite::SqliteStore;

    #[test]
    fn an_account_that_nobody_knows_is_refused_and_one_of_the_past_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weir.db");
        let text = format!(
            "[store]\nurl = \"sqlite:{}\"\n[[plans]]\nid = \"pro\"\nprice = \"0\"\n\
             [[accounts]]\nid = \"idle\"\nplan = \"pro\"\nsince = 2025-03-01\n",
            file.display()
        );
        let config =
            config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap();
        let store = SqliteStore::open(&file).unwrap();
        store.migrate().unwrap();
        store.append(&[sample(3)]).unwrap();
        let export = |account: &str| {
            let command = LedgerCommand::Export(ExportArgs {
                since: None,
                until: None,
                account: Some(account.into()),
                format: Written::Jsonl,
            });
            run(&command, &config, &store, &mut Vec::new()).map_err(|failure| failure.0)
        };
        assert_eq!(export("nope"), Err("there is no account nope".to_owned()));
        // Declared, without a request; and in the ledger only.
        assert_eq!(export("idle"), Ok(0));
        assert_eq!(export("acme-3"), Ok(1));
    }

    #[test]
    fn no_command_s_help_has_links_of_the_source() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(!help.contains("[`"), "{help}");
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut Cli::command());
    }
}
