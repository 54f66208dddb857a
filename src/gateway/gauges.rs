//! Gauges that are computed from the ledger and the counters now and then, not on each request.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Gateway;

/// How old the margins that `/metrics` shows may be, where they are quick to compute.
const AGE: Duration = Duration::from_secs(10);
/// Computing takes at most one part in so many of the time: with a hundred thousand accounts they grow older.
const REST: u32 = 20;

/// Computes the gauges again and again until the gateway stops, on a thread of their own.
///
/// Not on the runtime's threads for blocking work: each of those that had its turn would keep memory for the next.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn start(gateway: &Arc<Gateway>) -> std::io::Result<()> {
    let gateway = Arc::clone(gateway);
    let running = gateway.tasks.token();
    // What holds the other end is gone once the gateway stops, and with the runtime too.
    let (held, ended) = mpsc::channel::<()>();
    let stop = gateway.stop.clone();
    gateway.tasks.spawn(async move {
        stop.cancelled().await;
        drop(held);
    });
    std::thread::Builder::new()
        .name("weir-gauges".into())
        .spawn(move || {
            keep_fresh(&gateway, &ended);
            // Who waits for this thread may take the gateway to be free of it.
            drop(gateway);
            drop(running);
        })?;
    Ok(())
}

fn keep_fresh(gateway: &Gateway, ended: &Receiver<()>) {
    let mut healthy = true;
    loop {
        let began = Instant::now();
        match crate::admin::gauges::compute(gateway) {
            Ok(families) => {
                healthy = true;
                gateway.metrics.set_gauges(families);
            }
            // Once each time that the store goes away.
            Err(error) if healthy => {
                healthy = false;
                tracing::warn!(%error, "margins cannot be computed for the metrics");
            }
            Err(_) => {}
        }
        let rest = AGE.max(began.elapsed() * REST);
        if ended.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
