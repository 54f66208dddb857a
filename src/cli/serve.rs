//! `weir serve`: runs the gateway until it is told to stop.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, load, logging};
use crate::config::Config;
use crate::gateway;

/// Runs the gateway. SIGTERM and SIGINT drain it; a second one ends it at once.
///
/// # Errors
/// When it cannot start, or could not finish everything in its grace time.
pub fn run(path: Option<PathBuf>) -> Result<(), Failure> {
    let config = load(path.clone())?;
    logging::start(&config.log);
    runtime()?.block_on(serve(config, path))
}

/// The runtime of a gateway: as many threads as the process may use cores.
///
/// # Errors
/// When the threads cannot be started.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weir")
        .build()
}

async fn serve(config: Config, path: Option<PathBuf>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = gateway::start(config, path).await?;
    for address in &running.addresses {
        eprintln!("weir serves API requests on {address}: point base URLs at http://{address}/v1");
    }
    for address in &running.admin_addresses {
        eprintln!("weir's dashboard, admin API and metrics are on http://{address}/");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stopped = tokio::select! {
        stopped = running.stop() => stopped,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    if stopped {
        Ok(())
    } else {
        Err(Failure("stopped before everything was finished, as the log says; requests that were open are booked as interrupted at the next start".into()))
    }
}
