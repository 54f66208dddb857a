//! How limits stand: what is used, what is held, when they reset; the list of `weir limits`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::json;

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::ids::AccountId;
use crate::limits::{self, LimitState};

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[
        LIMIT,
        CURSOR,
        Param::new(
            "account",
            "Id",
            "Only what requests of this account count against: its own limits and its ancestors'",
        ),
    ];
    vec![
        Operation::new(
            Method::GET,
            "/limits",
            "listLimits",
            Role::Viewer,
            get(list),
        )
        .says("What each limit has used and what is held, and when it resets")
        .asks(QUERY)
        .gives(200, Content::Json("LimitList"))
        .may(&[404]),
    ]
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let snapshot = console.gateway.snapshot();
    let account = ask.id("account")?.map(AccountId::from);
    if let Some(id) = &account
        && snapshot.directory.member(id).is_none()
    {
        let message = format!("there is no account {:?}", id.as_str());
        return Err(ApiError::unknown("account", message));
    }
    let rules = limits::named(&snapshot.chains, account.as_ref());
    let limit = ask.page_limit()?;
    let begin = match ask.cursor()? {
        None => 0,
        Some(after) => rules.partition_point(|(name, _)| *name <= after),
    };
    let rest = rules.get(begin..).unwrap_or_default();
    let shown = rest.get(..limit.min(rest.len())).unwrap_or_default();
    let next = shown.last().filter(|_| rest.len() > shown.len());
    let now = Timestamp::now();
    let mut items = Vec::with_capacity(shown.len());
    for (_, rule) in shown {
        // Only the page's own counters are asked: they may be kept elsewhere.
        let state = console.gateway.quota.state(rule, now).await;
        items.push(LimitState::new(&snapshot.directory, rule, &state, now));
    }
    let next = next.map(|(name, _)| answer::cursor(name));
    Ok(answer::ok(&json!({ "items": items, "next": next })))
}
