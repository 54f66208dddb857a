//! The dashboard's login: a token is given once and an HttpOnly cookie stands for it from then on.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::json;

use super::access::{self, COOKIE_NAME, Caller, Role, SESSION_AGE};
use super::answer;
use super::ask::Json;
use super::error::ApiError;
use super::operation::{Content, Operation};
use super::{Console, access::Session};

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/session";
    vec![
        Operation::new(Method::POST, PATH, "openSession", Role::Viewer, post(open))
            .says("Log in with a token: the answer sets the session's cookie")
            .open()
            .takes("Login")
            .gives(201, Content::Json("Session"))
            .may(&[401, 403, 429]),
        Operation::new(Method::GET, PATH, "showSession", Role::Viewer, get(show))
            .says("Who is calling, and by a session the proof that changes must carry")
            .gives(200, Content::Json("Session")),
        Operation::new(
            Method::DELETE,
            PATH,
            "closeSession",
            Role::Viewer,
            delete(close),
        )
        .says("Log out")
        .gives(204, Content::Nothing),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

async fn open(
    State(console): State<Arc<Console>>,
    Extension(peer): Extension<axum::extract::ConnectInfo<std::net::SocketAddr>>,
    Json(login): Json<Login>,
) -> Result<Response, ApiError> {
    let role = access::role_of(&console, &login.token, peer.0.ip())?;
    let (cookie, session) = console
        .sessions
        .open(role, &login.token)
        .map_err(|error| ApiError::conflict(error.to_string()))?;
    tracing::info!(%role, peer = %peer.0.ip(), "somebody logged in to the dashboard");
    let mut response = answer::json(StatusCode::CREATED, &about(role, Some(&session)));
    let age = SESSION_AGE.as_secs();
    set_cookie(&console, &mut response, cookie.expose(), age);
    Ok(response)
}

async fn show(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    answer::ok(&about(caller.role, console.sessions.of(&caller).as_ref()))
}

async fn close(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    if let Some(key) = &caller.session {
        console.sessions.close(key);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&console, &mut response, "", 0);
    response
}

fn about(role: Role, session: Option<&Session>) -> serde_json::Value {
    json!({
        "role": role.as_str(),
        "csrf": session.map(|session| &session.csrf),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// `Strict`: no other site can make a browser send it. `Secure` where the listener speaks TLS.
fn set_cookie(console: &Console, response: &mut Response, value: &str, age_s: u64) {
    let tls = console.gateway.snapshot().config.admin.tls.is_some();
    let secure = if tls { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}{secure}"
    );
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
}
