//! The second listener: admin API, dashboard, metrics, health. Nothing on the request path waits for it.

pub mod gauges;
mod health;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use crate::gateway::Gateway;

/// All pages of the admin listener.
pub fn pages(gateway: &Arc<Gateway>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(Arc::clone(gateway))
}

/// Answers one request on the admin listener.
pub async fn serve(
    mut pages: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Body> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let answered: Result<Response<Body>, Infallible> = pages.call(request.map(Body::new)).await;
    match answered {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
