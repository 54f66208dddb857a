//! The simulated provider: OpenAI's and Anthropic's APIs on loopback, streamed or whole, with usage as they report it.
//!
//! It fails when it is asked to, by the header `x-simulate: 429 | 500 | break | slow`: a request without it always
//! succeeds.

mod answers;
mod played;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;

use crate::listen::{self, Bounds, ClientBody, Connections, Listener};
use answers::{Answer, Question};
use played::Played;

/// The header by which a request asks to be failed.
pub(super) const SIMULATE: &str = "x-simulate";

/// Starts it on a free port of this machine; it serves until `connections` are told to stop.
///
/// # Errors
/// When there is no port.
pub(super) fn start(connections: &Connections) -> std::io::Result<SocketAddr> {
    let socket = listen::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = socket.local_addr()?;
    let listener = Listener {
        socket,
        certificates: None,
        bounds: Bounds {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            header_bytes_max: 64 * 1024,
        },
        places: Arc::new(Semaphore::new(CONNECTIONS)),
        on_failure: Arc::new(|| {}),
    };
    connections
        .tracker
        .spawn(listen::serve(listener, connections.clone(), |_peer| serve));
    Ok(address)
}

const CONNECTIONS: usize = 1024;
const REQUEST_BYTES: usize = 32 * 1024 * 1024;

/// How a request wants to be failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Too many requests.
    TooMany,
    /// The provider's own fault.
    Broken,
    /// The answer ends in the middle.
    BreaksOff,
    /// The answer takes its time to begin.
    Slow,
}

impl Failure {
    fn asked(headers: &HeaderMap) -> Option<Failure> {
        match headers.get(SIMULATE)?.as_bytes() {
            b"429" => Some(Failure::TooMany),
            b"500" => Some(Failure::Broken),
            b"break" => Some(Failure::BreaksOff),
            b"slow" => Some(Failure::Slow),
            _ => None,
        }
    }
}

async fn serve(request: Request<ClientBody>) -> Response<Played> {
    let (head, body) = request.into_parts();
    let anthropic = head.uri.path().starts_with("/v1/messages");
    let failure = Failure::asked(&head.headers);
    // A connection that breaks while its body is read gets no answer that it could see.
    let Ok(body) = Limited::new(body, REQUEST_BYTES).collect().await else {
        return error(
            anthropic,
            StatusCode::BAD_REQUEST,
            "The body could not be read.",
        );
    };
    match failure {
        Some(Failure::TooMany) => {
            let mut response = error(
                anthropic,
                StatusCode::TOO_MANY_REQUESTS,
                "Simulated: too many requests.",
            );
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        Some(Failure::Broken) => {
            return error(
                anthropic,
                StatusCode::INTERNAL_SERVER_ERROR,
                "Simulated: the provider has a fault.",
            );
        }
        _ => {}
    }
    let Some(question) = Question::read(&head.method, head.uri.path(), &body.to_bytes()) else {
        return match head.method {
            Method::POST => error(
                anthropic,
                StatusCode::BAD_REQUEST,
                "Simulated: expected a JSON object with a model.",
            ),
            _ => error(
                anthropic,
                StatusCode::NOT_FOUND,
                "Simulated: there is nothing here.",
            ),
        };
    };
    let wait = match failure {
        Some(Failure::Slow) => Duration::from_secs(6),
        _ => Duration::from_millis(fastrand::u64(120..700)),
    };
    let breaks_off = failure == Some(Failure::BreaksOff);
    match question.answer() {
        Answer::Whole(json) => {
            let mut body = Played::new(wait);
            body.push(Duration::ZERO, json);
            respond(body, breaks_off, "application/json")
        }
        Answer::Stream(events) => {
            let mut body = Played::new(wait);
            for event in events {
                body.push(BETWEEN_EVENTS, event);
            }
            respond(body, breaks_off, "text/event-stream; charset=utf-8")
        }
    }
}

/// Fifty events a second, several words each: as fast as a fast model.
const BETWEEN_EVENTS: Duration = Duration::from_millis(20);

fn respond(mut body: Played, breaks_off: bool, content_type: &'static str) -> Response<Played> {
    if breaks_off {
        body.break_off();
    }
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let id = format!("req_{:016x}", fastrand::u64(..));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    response
}

fn error(anthropic: bool, status: StatusCode, message: &str) -> Response<Played> {
    let kind = match (anthropic, status) {
        (_, StatusCode::TOO_MANY_REQUESTS) => "rate_limit_error",
        (true, StatusCode::INTERNAL_SERVER_ERROR) => "api_error",
        (false, StatusCode::INTERNAL_SERVER_ERROR) => "server_error",
        (true, StatusCode::NOT_FOUND) => "not_found_error",
        _ => "invalid_request_error",
    };
    let json = if anthropic {
        serde_json::json!({"type": "error", "error": {"type": kind, "message": message}})
    } else {
        serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
    };
    let mut body = Played::new(Duration::from_millis(20));
    body.push(Duration::ZERO, Bytes::from(json.to_string()));
    let mut response = respond(body, false, "application/json");
    *response.status_mut() = status;
    response
}
