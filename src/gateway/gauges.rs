//! Gauges that are computed from the ledger and the counters now and then, not on each request.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;

/// How old the margins that `/metrics` shows may be.
const AGE: Duration = Duration::from_secs(10);

/// Computes the gauges again and again until the gateway stops.
pub(super) async fn keep_fresh(gateway: Arc<Gateway>) {
    loop {
        let owner = Arc::clone(&gateway);
        let computed =
            tokio::task::spawn_blocking(move || crate::admin::gauges::compute(&owner)).await;
        match computed {
            Ok(Ok(families)) => gateway.metrics.set_gauges(families),
            Ok(Err(error)) => tracing::warn!(%error, "margins cannot be computed for the metrics"),
            Err(_) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGE) => {}
            () = gateway.stop.cancelled() => return,
        }
    }
}
