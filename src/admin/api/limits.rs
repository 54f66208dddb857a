//! How limits stand: what is used, what is held, when they reset; the list of `weir limits`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::config::spoken;
use crate::quota::chain::Rule;
use crate::quota::{Bound, CounterState, Owner};
use crate::snapshot::Snapshot;

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
    let mut rules: Vec<(String, Arc<Rule>)> = match ask.id("account")? {
        None => snapshot.chains.rules().map(named).collect(),
        Some(account) => {
            let id = account.into();
            if snapshot.directory.member(&id).is_none() {
                let message = format!("there is no account {account:?}");
                return Err(ApiError::unknown("account", message));
            }
            snapshot.chains.account_rules(&id).map(named).collect()
        }
    };
    rules.sort_by(|a, b| a.0.cmp(&b.0));
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
        items.push(item(&snapshot, rule, &state, now));
    }
    let next = next.map(|(name, _)| answer::cursor(name));
    Ok(answer::ok(&json!({ "items": items, "next": next })))
}

/// A name for each rule, so that pages have an order: several rules may share a counter.
fn named(rule: &Arc<Rule>) -> (String, Arc<Rule>) {
    let name = format!("{} {} {:?}", rule.counter, rule.max.units(), rule.then);
    (name, Arc::clone(rule))
}

fn item(snapshot: &Snapshot, rule: &Arc<Rule>, state: &CounterState, now: Timestamp) -> Value {
    let on = rule.counter.on();
    let (account, key) = match rule.counter.owner() {
        Owner::Account(account) => (Some(account.clone()), None),
        Owner::Key(key) => {
            let mut keys = snapshot.directory.keys();
            let own = keys.find(|known| known.id == *key);
            (own.map(|own| own.account.clone()), Some(key))
        }
    };
    let models = rule.counter.models();
    let models: Vec<&str> = models
        .split(',')
        .filter(|model| !model.is_empty())
        .collect();
    let bound = Bound::new(rule, now);
    let resets_at = rule
        .counter
        .per()
        .and_then(|_| Timestamp::from_millisecond(bound.window.end_ms).ok());
    json!({
        "account": account,
        "key": key,
        "on": on.as_str(),
        "per": rule.counter.per().map(|per| per.to_string()),
        "models": models,
        "max": spoken::show_amount(rule.max),
        "used": spoken::show_units(on, state.used),
        "reserved": spoken::show_units(on, state.reserved),
        "resets_at": resets_at,
    })
}
