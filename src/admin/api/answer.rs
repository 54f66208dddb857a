//! Answers: JSON, and lists in pages.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::ask::Ask;
use super::error::ApiError;

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = match serde_json::to_vec(value) {
        Ok(bytes) => Response::new(Body::from(bytes)),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin API could not be written");
            let mut failed = Response::new(Body::from("{}"));
            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return failed;
        }
    };
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// 200 with JSON.
pub(super) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// A page of a list that is in memory. `name` must be unique and ascending over the items: the cursor is the last one's.
pub(super) fn page<T>(
    ask: &Ask,
    items: &[T],
    name: impl Fn(&T) -> String,
    show: impl Fn(&T) -> serde_json::Value,
) -> Result<Response, ApiError> {
    let limit = ask.page_limit()?;
    let after = ask.cursor()?;
    let begin = match &after {
        None => 0,
        Some(after) => items.partition_point(|item| name(item) <= *after),
    };
    let rest = items.get(begin..).unwrap_or_default();
    let shown = rest.get(..limit.min(rest.len())).unwrap_or_default();
    let next = match shown.last() {
        Some(last) if rest.len() > shown.len() => Some(cursor(&name(last))),
        _ => None,
    };
    let shown: Vec<serde_json::Value> = shown.iter().map(show).collect();
    Ok(ok(&json!({ "items": shown, "next": next })))
}

/// A cursor: where the next page begins, opaque to clients.
pub(super) fn cursor(place: &str) -> String {
    crate::secret::hex(place.as_bytes())
}
