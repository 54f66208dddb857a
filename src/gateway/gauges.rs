//! Gauges that are computed from the ledger and the counters now and then, not on each request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Gateway;

/// How old the margins that `/metrics` shows may be, where they are quick to compute.
const AGE: Duration = Duration::from_secs(10);
/// Computing takes at most one part in so many of the time: with a hundred thousand accounts they grow older.
const REST: u32 = 20;

/// Computes the gauges again and again until the gateway stops.
pub(super) async fn keep_fresh(gateway: Arc<Gateway>) {
    let mut healthy = true;
    loop {
        let began = Instant::now();
        let owner = Arc::clone(&gateway);
        let computed =
            tokio::task::spawn_blocking(move || crate::admin::gauges::compute(&owner)).await;
        match computed {
            Ok(Ok(families)) => {
                healthy = true;
                gateway.metrics.set_gauges(families);
            }
            // Once each time that the store goes away.
            Ok(Err(error)) if healthy => {
                healthy = false;
                tracing::warn!(%error, "margins cannot be computed for the metrics");
            }
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGE.max(began.elapsed() * REST)) => {}
            () = gateway.stop.cancelled() => return,
        }
    }
}
