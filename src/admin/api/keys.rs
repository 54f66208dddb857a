//! Keys: list, create, rotate, revoke. A secret is in the answer that made it, and never again.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{delete, get, post};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::{Caller, Role};
use super::accounts::{limits, source};
use super::ask::{Ask, Json, Named};
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::account::Key;
use crate::changes::{MadeKey, NewKey, network};
use crate::cli::when::moment;
use crate::config::spoken;
use crate::gateway::Gateway;
use crate::plan::ModelPattern;

pub(super) fn operations() -> Vec<Operation> {
    const LIST: &str = "/keys";
    const ONE: &str = "/keys/{key}";
    const QUERY: &[Param] = &[
        LIMIT,
        CURSOR,
        Param::new("account", "Id", "Keys of this account only"),
    ];
    vec![
        Operation::new(Method::GET, LIST, "listKeys", Role::Viewer, get(list))
            .says("Keys, by id, revoked ones included; never their secrets")
            .asks(QUERY)
            .gives(200, Content::Json("KeyList")),
        Operation::new(
            Method::POST,
            LIST,
            "createKey",
            Role::Operator,
            post(create),
        )
        .says("Make a key: its secret is in this answer and nowhere else")
        .takes("NewKey")
        .gives(201, Content::Json("MadeKey"))
        .may(&[409]),
        Operation::new(Method::GET, ONE, "showKey", Role::Viewer, get(show))
            .says("One key")
            .gives(200, Content::Json("Key"))
            .may(&[404]),
        Operation::new(
            Method::DELETE,
            ONE,
            "revokeKey",
            Role::Operator,
            delete(revoke),
        )
        .says("End a key at once, on every gateway")
        .gives(200, Content::Json("Key"))
        .may(&[404]),
        Operation::new(
            Method::POST,
            "/keys/{key}/rotate",
            "rotateKey",
            Role::Operator,
            post(rotate),
        )
        .says("Make a key's successor; the old one goes on working for a while")
        .takes("Rotation")
        .gives(201, Content::Json("RotatedKey"))
        .may(&[404, 409]),
    ]
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let snapshot = console.gateway.snapshot();
    let account = ask.id("account")?;
    let mut keys: Vec<&Arc<Key>> = snapshot
        .directory
        .keys()
        .filter(|key| account.is_none_or(|account| key.account.as_str() == account))
        .collect();
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    answer::page(
        &ask,
        &keys,
        |key| key.id.to_string(),
        |key| Value::Object(shown(&console.gateway, key)),
    )
}

async fn show(State(console): State<Arc<Console>>, Named(id): Named) -> Result<Response, ApiError> {
    Ok(answer::ok(&find(&console, &id)?))
}

fn find(console: &Console, id: &str) -> Result<Map<String, Value>, ApiError> {
    let snapshot = console.gateway.snapshot();
    let mut keys = snapshot.directory.keys();
    let key = keys.find(|key| key.id.as_str() == id);
    let key = key.ok_or_else(|| ApiError::unknown("key", format!("there is no key {id:?}")))?;
    Ok(shown(&console.gateway, key))
}

fn shown(gateway: &Gateway, key: &Key) -> Map<String, Value> {
    let snapshot = gateway.snapshot();
    let declared = snapshot.config.keys.iter().any(|file| file.id == key.id);
    let now = Timestamp::now();
    let state = match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        _ => "active",
    };
    let models: Vec<String> = key.models.iter().map(ModelPattern::pattern).collect();
    let networks: Vec<String> = key.networks.iter().map(ToString::to_string).collect();
    let shown = json!({
        "id": key.id,
        "account": key.account,
        "models": models,
        "networks": networks,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "limits": spoken::show_limits(&key.limits),
        "state": state,
        "source": source(declared),
    });
    match shown {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn with_secret(gateway: &Gateway, made: &MadeKey) -> Map<String, Value> {
    let mut members = shown(gateway, &made.key);
    members.insert("secret".to_owned(), made.secret.expose().into());
    members
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    account: String,
    id: Option<String>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    networks: Vec<String>,
    expires_at: Option<String>,
    limits: Option<Value>,
}

async fn create(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<New>,
) -> Result<Response, ApiError> {
    let read = |text: &String| {
        network(text)
            .map_err(|expected| ApiError::unfit("networks", format!("{text:?}: {expected}")))
    };
    let expires_at =
        match new.expires_at.as_deref() {
            None => None,
            Some(text) => Some(moment(text).map_err(|expected| {
                ApiError::unfit("expires_at", format!("{text:?}: {expected}"))
            })?),
        };
    let key = NewKey {
        account: new.account,
        id: new.id,
        models: new.models,
        networks: new.networks.iter().map(read).collect::<Result<_, _>>()?,
        expires_at,
        limits: limits(&console, new.limits.as_ref())?.unwrap_or_default(),
    };
    let made = console
        .change(&caller, move |changes| changes.create_key(key))
        .await?;
    let shown = with_secret(&console.gateway, &made);
    Ok(answer::json(StatusCode::CREATED, &shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How many hours the old key goes on working.
    #[serde(default = "a_day")]
    overlap_hours: u32,
}

fn a_day() -> u32 {
    24
}

/// A year: longer overlaps are two keys, not a rotation.
const OVERLAP_HOURS_MAX: u32 = 8_760;

async fn rotate(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Json(rotation): Json<Rotation>,
) -> Result<Response, ApiError> {
    if rotation.overlap_hours > OVERLAP_HOURS_MAX {
        return Err(ApiError::unfit(
            "overlap_hours",
            format!("expected a whole number from 0 to {OVERLAP_HOURS_MAX}"),
        ));
    }
    let overlap = SignedDuration::from_hours(i64::from(rotation.overlap_hours));
    let (made, ends) = console
        .change(&caller, move |changes| changes.rotate_key(&id, overlap))
        .await?;
    let mut shown = with_secret(&console.gateway, &made);
    shown.insert("old_expires_at".to_owned(), ends.to_string().into());
    Ok(answer::json(StatusCode::CREATED, &shown))
}

async fn revoke(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Response, ApiError> {
    let key = id.clone();
    console
        .change(&caller, move |changes| changes.revoke_key(&key))
        .await?;
    Ok(answer::ok(&find(&console, &id)?))
}
