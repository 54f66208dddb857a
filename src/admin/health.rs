//! `/healthz`, `/readyz` and `/metrics`: open to whoever reaches the admin listener.

use std::sync::Arc;

use axum::extract::State;
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};

use super::gauges;
use crate::gateway::Gateway;

/// The process is alive.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here: not while the gateway stops, nor while its journal takes nothing. Each reason why
/// not is a line.
pub(super) async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, String) {
    let reasons = gateway.why_not_ready();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let lines = reasons
        .iter()
        .map(|reason| format!("not ready: {reason}\n"));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

/// The metrics page.
pub(super) async fn metrics(
    State(gateway): State<Arc<Gateway>>,
) -> ([(HeaderName, &'static str); 1], String) {
    let page = gateway.metrics.render(gauges::live(&gateway));
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        page,
    )
}
