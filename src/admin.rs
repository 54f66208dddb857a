//! The second listener: admin API, dashboard, metrics, health. Nothing on the request path waits for it.

mod api;
mod dashboard;
pub mod gauges;
mod health;
mod spread;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use http::Request;
use tower_service::Service;

use crate::gateway::Gateway;
use crate::listen::ClientBody;

/// All pages of the admin listener.
pub fn pages(gateway: &Arc<Gateway>) -> Router {
    let console = Arc::new(api::Console::new(Arc::clone(gateway)));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(Arc::clone(gateway))
        .merge(api::routes(&console))
        .merge(dashboard::routes(&console))
        .layer(map_response(guard))
}

/// What every answer of this listener says to browsers: nothing from elsewhere, in no frame, no guessing, no keeping.
async fn guard(mut response: Response) -> Response {
    const SAID: [(HeaderName, &str); 6] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in SAID {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Answers one request on the admin listener.
pub async fn serve(
    mut pages: Router,
    mut request: Request<ClientBody>,
    peer: SocketAddr,
) -> Response<Body> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let answered: Result<Response<Body>, Infallible> = pages.call(request.map(Body::new)).await;
    match answered {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
