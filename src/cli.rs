//! The command line: one file a command. A command takes its parsed arguments and what it reads, and answers with what
//! goes to standard output; [`Cli::run`] opens the store and prints, and `main` turns an error into an exit code.

pub mod account;
pub mod advise;
pub mod check;
pub mod demo;
pub mod key;
pub mod ledger;
pub mod limits;
pub mod logging;
pub mod margin;
pub mod prices;
mod progress;
pub mod reconcile;
pub mod reprice;
pub mod serve;
pub mod store;
pub mod whatif;
pub mod when;

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

use crate::config::{self, Config};
use crate::ledger::store::Store;

/// A gateway in front of LLM APIs: it meters, prices and limits every request, and shows where subscriptions lose money.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
pub struct Cli {
    /// The configuration; without it config/weir.toml, and without that file a built-in default.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve,
    /// Run the whole system with no account anywhere: simulated provider, subscribers, history, live traffic.
    Demo(demo::DemoArgs),
    /// Validate configuration and prices.
    Check,
    /// Create, list and change accounts.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Create, list, rotate and revoke keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Read the ledger.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// What each limit has used, what is held, and when it resets.
    Limits(limits::LimitsArgs),
    /// Show revenue, cost and margin: by plan, account, model, key, upstream, tag or day.
    Margin(margin::MarginArgs),
    /// Find the price, and the limits, that make a plan reach a margin; proved on recorded traffic.
    Advise(advise::AdviseArgs),
    /// Show recorded traffic under other models, another upstream's prices, plan prices, limits or cache hits.
    #[command(name = "whatif")]
    WhatIf(whatif::WhatIfArgs),
    /// Compare the ledger with a provider's own bill, by day and model.
    Reconcile(reconcile::ReconcileArgs),
    /// Apply late or corrected prices by correcting entries. Limits of a gateway that runs learn of them when it starts anew.
    Reprice(reprice::RepriceArgs),
    /// The price table as it holds on a day.
    #[command(subcommand)]
    Prices(prices::PricesCommand),
}

/// Why a command failed: what stands on stderr, with exit code 1.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What to tell the user, for exit code 1.
    pub fn run(self) -> Result<(), Failure> {
        let path = self.config;
        let now = Timestamp::now();
        match self.command {
            Command::Serve => serve::run(path),
            Command::Demo(args) => demo::run(args, path),
            Command::Check => {
                print(&check::run(path.as_deref()).map_err(|errors| Failure(errors.to_string()))?)
            }
            Command::Account(command) => account::run(command, &load(path)?),
            Command::Key(command) => key::run(command, &load(path)?),
            Command::Ledger(command) => {
                let (config, store) = books(path)?;
                let mut out = std::io::stdout().lock();
                ledger::run(&command, &config, store.as_ref(), &mut out)?;
                Ok(())
            }
            Command::Limits(args) => {
                let (config, store) = books(path)?;
                print(&limits::run(&args, &config, store.as_ref(), now)?)
            }
            Command::Margin(args) => {
                let (config, store) = books(path)?;
                print(&margin::run(&args, &config, store.as_ref(), now)?)
            }
            Command::Advise(args) => {
                let (config, store) = books(path)?;
                print(&advise::run(&args, &config, store.as_ref(), now)?)
            }
            Command::WhatIf(args) => {
                let (config, store) = books(path)?;
                print(&whatif::run(&args, &config, store.as_ref(), now)?)
            }
            Command::Reconcile(args) => {
                let (config, store) = books(path)?;
                print(&reconcile::run(&args, &config, store.as_ref())?)
            }
            Command::Reprice(args) => {
                let (config, store) = books(path)?;
                let actor = store::actor();
                print(&reprice::run(&args, &config, store.as_ref(), &actor, now)?)
            }
            Command::Prices(command) => prices::run(command, path),
        }
    }
}

/// Prints an answer. A reader that has seen enough (`weir … | head`) is no failure.
fn print(answer: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let newline = if answer.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{answer}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The configuration and its ledger, for the commands that read.
fn books(path: Option<PathBuf>) -> Result<(Config, Arc<dyn Store>), Failure> {
    let config = load(path)?;
    let store = store::open(&config)?;
    Ok((config, store))
}

fn load(path: Option<PathBuf>) -> Result<Config, Failure> {
    config::load(path.as_deref()).map_err(|errors| Failure(errors.to_string()))
}
