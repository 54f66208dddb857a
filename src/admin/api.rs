//! The admin API under `/api/v1`: one file a resource. Each operation is declared once; the declaration makes the route,
//! says who may use it and which parameters it takes, and is its part of the OpenAPI document.

mod access;
mod accounts;
mod advise;
mod answer;
mod ask;
mod audit;
mod error;
mod export;
mod keys;
mod ledger;
mod limits;
mod live;
mod margin;
mod openapi;
mod operation;
mod plans;
mod prices;
mod reload;
mod session;
mod throttle;
mod upstreams;
mod usage;
mod whatif;

use std::sync::Arc;

use axum::Router;

use crate::gateway::Gateway;
use crate::ledger::store::StoreError;
pub(super) use access::has_session;

use access::Sessions;
use error::ApiError;
use operation::Operation;
use throttle::Throttle;

/// What the admin listener keeps beside the gateway itself.
pub(super) struct Console {
    pub(super) gateway: Arc<Gateway>,
    sessions: Sessions,
    throttle: Throttle,
    /// Reports that read the ledger at the same time: each may keep a core busy.
    reports: tokio::sync::Semaphore,
    /// One change at a time, so that what was checked still holds when it is written.
    changing: tokio::sync::Mutex<()>,
}

/// See [`Console::report`].
const REPORTS_AT_ONCE: usize = 2;
/// How long a report waits for its turn.
const REPORT_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

impl Console {
    /// A console of a gateway, with nobody logged in.
    pub(super) fn new(gateway: Arc<Gateway>) -> Console {
        Console {
            gateway,
            sessions: Sessions::default(),
            throttle: Throttle::default(),
            reports: tokio::sync::Semaphore::new(REPORTS_AT_ONCE),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Reads the store on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Gateway) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let gateway = Arc::clone(&self.gateway);
        tokio::task::spawn_blocking(move || read(&gateway))
            .await
            .map_err(|_| ApiError::stopping())?
    }

    /// Reads much of the ledger: in turn, and with all that was closed until now in the store.
    async fn report<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Gateway) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(REPORT_WAIT, self.reports.acquire()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(ApiError::busy());
        };
        let answer = self
            .read(move |gateway| {
                flush(gateway);
                read(gateway)
            })
            .await;
        drop(turn);
        answer
    }
}

/// Brings what was closed until now into the store. What does not get there in time is missing from the answer, and the
/// log says so.
fn flush(gateway: &Gateway) {
    if let Err(error) = gateway.ledger.flush(crate::gateway::FLUSH_TIMEOUT) {
        tracing::warn!(%error, "an answer of the admin API lacks the entries that have not reached the store");
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Refused(message) => ApiError::conflict(message),
            StoreError::Overtaken => ApiError::conflict(error.to_string()),
            error => ApiError::store(&error),
        }
    }
}

/// All operations.
fn operations() -> Vec<Operation> {
    [
        session::operations(),
        accounts::operations(),
        keys::operations(),
        plans::operations(),
        usage::operations(),
        ledger::operations(),
        margin::operations(),
        whatif::operations(),
        advise::operations(),
        limits::operations(),
        prices::operations(),
        upstreams::operations(),
        live::operations(),
        audit::operations(),
        reload::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The routes of the API.
pub(super) fn routes(console: &Arc<Console>) -> Router {
    let operations = operations();
    let document = openapi::document(&operations);
    let mut router = Router::new();
    for operation in operations {
        let path = operation.route();
        router = router.route(&path, operation.guarded(console));
    }
    let document = axum::routing::get(move || async move { openapi::answer(&document) });
    router
        .route("/api/v1/openapi.json", document)
        .route(
            "/api/v1/{*rest}",
            axum::routing::any(error::no_such_resource),
        )
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(Arc::clone(console))
}
