//! `weir demo`: the whole system with no account anywhere.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::serve::runtime;
use super::{Failure, logging};
use crate::config::{Log, LogFormat};
use crate::demo::{self, Settings};

/// Where the demo listens when nothing else is said.
const LISTEN: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:8081";

/// Runs everything with a simulated provider, subscribers and three months of history: no key, no network. With -c FILE
/// the plans of that file stand in for the demo's own, from the first day of the history on.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where API requests are served [default: 127.0.0.1:8080, or the next free port]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where dashboard, admin API and metrics are [default: 127.0.0.1:8081, or the next free port]
    #[arg(long, visible_alias = "admin-listen", value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Keep the demo's files in this directory; without, they are temporary
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,
    /// The same seed gives the same history on the same day
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Days of history
    #[arg(long, value_name = "DAYS", default_value_t = 92, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub history_days: u32,
    /// Live requests a second, on average; 0 for none
    #[arg(long, value_name = "RATE", default_value_t = 4.0, value_parser = rate)]
    pub rate: f64,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// Runs the demo until its time is over or it is told to stop.
///
/// # Errors
/// When it cannot start.
pub fn run(args: DemoArgs, plans: Option<PathBuf>) -> Result<(), Failure> {
    logging::start(&Log {
        format: LogFormat::Text,
        level: tracing::Level::ERROR,
    });
    let address = |given: Option<SocketAddr>, usual: &str| match given {
        Some(address) => Ok(address),
        None => usual.parse(),
    };
    let settings = Settings {
        listen: address(args.listen, LISTEN)?,
        admin: address(args.admin, ADMIN)?,
        wished_ports: (args.listen.is_none(), args.admin.is_none()),
        directory: args.dir,
        seed: args.seed,
        history_days: args.history_days,
        rate: args.rate,
        ends_after: args.seconds.map(Duration::from_secs),
        plans,
    };
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        });
        Ok(demo::run(settings, stop, &say).await?)
    })
}

/// Says something at once. A reader that has gone does not end the demo.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=200.0).contains(&rate) => Ok(rate),
        _ => Err("expected requests a second, from 0 to 200".to_owned()),
    }
}
