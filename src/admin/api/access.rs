//! Who calls: a bearer token, or the dashboard's session. Tokens are compared by digest in constant time, all roles'
//! each time; wrong ones are counted by where they come from.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, Method};

use super::Console;
use super::error::ApiError;
use crate::config;
use crate::secret::{NoRandomness, Secret, SecretSha256, equal};

/// What a caller may do; each role may also do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Read.
    Viewer,
    /// Manage accounts and keys, reload.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in configuration, answers and the audit log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) role: Role,
    /// Where from.
    pub(super) peer: IpAddr,
    /// By the dashboard's session rather than by a token.
    pub(super) session: Option<SessionKey>,
}

impl Caller {
    /// The name in the audit log.
    pub(super) fn actor(&self) -> String {
        let door = match self.session {
            Some(_) => "dashboard",
            None => "api",
        };
        format!("{} {door} {}", self.role, self.peer)
    }
}

/// The header that proves that a change comes from the dashboard's own pages.
pub(super) const CSRF_HEADER: &str = "x-weir-csrf";
/// The cookie of the dashboard's session.
pub(super) const COOKIE_NAME: &str = "weir_session";

/// Who a request comes from.
pub(super) fn identify(console: &Console, request: &Request) -> Result<Caller, ApiError> {
    let peer = peer(request);
    if let Some(token) = bearer(request.headers()) {
        let role = role_of(console, token, peer)?;
        return Ok(Caller {
            role,
            peer,
            session: None,
        });
    }
    let Some(cookie) = session_cookie(request.headers()) else {
        return Err(ApiError::unauthorized(
            "expected the header authorization: Bearer TOKEN, with a token of [admin] in the configuration",
        ));
    };
    let key = SessionKey::of(cookie);
    let admin = &console.gateway.snapshot().config.admin;
    let Some(session) = console.sessions.find(&key, admin) else {
        return Err(ApiError::unauthorized(
            "the session has ended: log in again",
        ));
    };
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    let proof = request.headers().get(CSRF_HEADER);
    let proven = proof.is_some_and(|proof| equal(proof.as_bytes(), session.csrf.as_bytes()));
    if changes && !proven {
        return Err(ApiError::forbidden(format!(
            "a change in a session needs the header {CSRF_HEADER} with the session's csrf"
        )));
    }
    Ok(Caller {
        role: session.role,
        peer,
        session: Some(key),
    })
}

/// Whether a request comes with a session that is open.
pub(in crate::admin) fn has_session(console: &Console, request: &Request) -> bool {
    let admin = &console.gateway.snapshot().config.admin;
    let cookie = session_cookie(request.headers()).map(SessionKey::of);
    cookie.is_some_and(|key| console.sessions.find(&key, admin).is_some())
}

/// Where a request comes from.
pub(super) fn peer(request: &Request) -> IpAddr {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip())
}

/// The role that a token has. A wrong one is counted against its peer, and too many close the door to all tokens from
/// there for a while: whether one of them would have been right is not told.
pub(super) fn role_of(console: &Console, token: &str, peer: IpAddr) -> Result<Role, ApiError> {
    console
        .throttle
        .check(peer)
        .map_err(|wait| ApiError::slow_down(wait.as_secs().max(1)))?;
    let admin = &console.gateway.snapshot().config.admin;
    if tokens(admin).next().is_none() {
        return Err(ApiError::forbidden(
            "the configuration has no token: set token = { env = \"WEIR_ADMIN_TOKEN\" } under [admin]",
        ));
    }
    let role = known(admin, &SecretSha256::of(token.as_bytes()));
    if role.is_none() {
        console.throttle.failed(peer);
        tracing::warn!(%peer, "a wrong token was sent to the admin API");
    }
    role.ok_or_else(|| ApiError::unauthorized("the token is none of [admin] in the configuration"))
}

/// The role whose token has this digest; every role's is compared.
fn known(admin: &config::Admin, digest: &SecretSha256) -> Option<Role> {
    let mut found = None;
    for (role, token) in tokens(admin) {
        let own = SecretSha256::of(token.expose().as_bytes());
        if equal(&own.0, &digest.0) {
            found = Some(role);
        }
    }
    found
}

fn tokens(admin: &config::Admin) -> impl Iterator<Item = (Role, &Secret)> {
    let tokens = [
        (Role::Admin, &admin.token),
        (Role::Operator, &admin.operator_token),
        (Role::Viewer, &admin.viewer_token),
    ];
    tokens
        .into_iter()
        .filter_map(|(role, token)| Some((role, token.as_ref()?)))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter();
    cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
}

/// The digest of a session's cookie: the cookie itself is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey(SecretSha256);

impl SessionKey {
    fn of(cookie: &str) -> SessionKey {
        SessionKey(SecretSha256::of(cookie.as_bytes()))
    }
}

/// Somebody who logged in to the dashboard.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) role: Role,
    /// What a change must carry.
    pub(super) csrf: String,
    /// The token that it was opened with: when that is no longer the role's, the session has ended.
    token: SecretSha256,
    opened: Instant,
    used: Instant,
}

/// Open sessions of the dashboard. A restart ends them all.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionKey, Session>>);

/// More sessions than people have browsers; the one that was unused the longest goes first.
const SESSIONS_MAX: usize = 256;
/// A session ends so long after its login.
pub(super) const SESSION_AGE: Duration = Duration::from_secs(12 * 3_600);
/// A session ends when it was not used for so long.
const SESSION_IDLE: Duration = Duration::from_secs(2 * 3_600);

impl Sessions {
    /// Opens a session for somebody whose token was right; answers the cookie's value and the session.
    pub(super) fn open(&self, role: Role, token: &str) -> Result<(Secret, Session), NoRandomness> {
        let cookie = Secret::generate()?;
        let csrf = Secret::generate()?;
        let now = Instant::now();
        let session = Session {
            role,
            csrf: csrf.expose().trim_start_matches("wr-").to_owned(),
            token: SecretSha256::of(token.as_bytes()),
            opened: now,
            used: now,
        };
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.is_open(now));
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                sessions.remove(&key);
            }
        }
        sessions.insert(SessionKey::of(cookie.expose()), session.clone());
        Ok((cookie, session))
    }

    fn find(&self, key: &SessionKey, admin: &config::Admin) -> Option<Session> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let session = sessions.get_mut(key)?;
        if !session.is_open(now) || known(admin, &session.token) != Some(session.role) {
            sessions.remove(key);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// The session of a caller.
    pub(super) fn of(&self, caller: &Caller) -> Option<Session> {
        self.sessions().get(caller.session.as_ref()?).cloned()
    }

    /// Ends a session.
    pub(super) fn close(&self, key: &SessionKey) {
        self.sessions().remove(key);
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn is_open(&self, now: Instant) -> bool {
        now.duration_since(self.opened) < SESSION_AGE
            && now.duration_since(self.used) < SESSION_IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FixedEnvironment;

    fn admin(text: &str) -> config::Admin {
        let text = format!("[admin]\n{text}");
        crate::config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default())
            .unwrap()
            .admin
    }

    #[test]
    fn each_token_has_its_role_and_no_other_text_has_one() {
        let admin = admin("token = \"aaaa\"\noperator_token = \"bbbb\"\nviewer_token = \"cccc\"");
        let role = |token: &str| known(&admin, &SecretSha256::of(token.as_bytes()));
        assert_eq!(role("aaaa"), Some(Role::Admin));
        assert_eq!(role("bbbb"), Some(Role::Operator));
        assert_eq!(role("cccc"), Some(Role::Viewer));
        for wrong in ["", "aaa", "aaaaa", "AAAA", "aaaa "] {
            assert_eq!(role(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_session_ends_with_the_token_that_opened_it() {
        let sessions = Sessions::default();
        let (cookie, _) = sessions.open(Role::Admin, "aaaa").unwrap();
        let key = SessionKey::of(cookie.expose());
        assert!(sessions.find(&key, &admin("token = \"aaaa\"")).is_some());
        assert!(sessions.find(&key, &admin("token = \"dddd\"")).is_none());
        assert!(sessions.find(&key, &admin("token = \"aaaa\"")).is_none());
    }

    #[test]
    fn a_session_ends_when_it_was_not_used_for_long_and_when_it_is_old() {
        let sessions = Sessions::default();
        let (_, session) = sessions.open(Role::Admin, "aaaa").unwrap();
        let second = Duration::from_secs(1);
        let opened = session.opened;
        assert!(session.is_open(opened + SESSION_IDLE - second));
        assert!(!session.is_open(opened + SESSION_IDLE));
        let used = Session {
            used: opened + SESSION_AGE - second,
            ..session
        };
        assert!(used.is_open(opened + SESSION_AGE - second));
        assert!(!used.is_open(opened + SESSION_AGE));
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        for _ in 0..SESSIONS_MAX + 20 {
            sessions.open(Role::Viewer, "cccc").unwrap();
        }
        assert_eq!(sessions.sessions().len(), SESSIONS_MAX);
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "theme=dark; weir_session=abc; x=y".parse().unwrap());
        assert_eq!(session_cookie(&headers), Some("abc"));
        headers.clear();
        headers.append(COOKIE, "not_weir_session=abc".parse().unwrap());
        assert_eq!(session_cookie(&headers), None);
    }
}
