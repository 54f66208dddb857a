//! Plans: list, show, create, replace; in the words of the configuration file.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde_json::{Map, Value};

use super::access::{Caller, Role};
use super::accounts::source;
use super::ask::{Ask, Json, Named};
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::config::spoken;
use crate::ids::PlanId;
use crate::plan::Plan;
use crate::snapshot::Snapshot;

pub(super) fn operations() -> Vec<Operation> {
    const LIST: &str = "/plans";
    const ONE: &str = "/plans/{plan}";
    const QUERY: &[Param] = &[LIMIT, CURSOR];
    vec![
        Operation::new(Method::GET, LIST, "listPlans", Role::Viewer, get(list))
            .says("Plans, by id")
            .asks(QUERY)
            .gives(200, Content::Json("PlanList")),
        Operation::new(Method::POST, LIST, "createPlan", Role::Admin, post(create))
            .says("Make a plan")
            .takes("NewPlan")
            .gives(201, Content::Json("Plan"))
            .may(&[409]),
        Operation::new(Method::GET, ONE, "showPlan", Role::Viewer, get(show))
            .says("One plan")
            .gives(200, Content::Json("Plan"))
            .may(&[404]),
        Operation::new(Method::PUT, ONE, "replacePlan", Role::Admin, put(replace))
            .says("Replace a plan; its limits hold from the next request on, its price from this moment on: what was earned stays")
            .takes("NewPlan")
            .gives(200, Content::Json("Plan"))
            .may(&[404, 409]),
    ]
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let snapshot = console.gateway.snapshot();
    let mut counts: HashMap<&PlanId, u64> = HashMap::new();
    for member in snapshot.directory.members() {
        *counts.entry(&member.account.plan).or_default() += 1;
    }
    let mut plans: Vec<&Arc<Plan>> = snapshot.directory.plans().collect();
    plans.sort_by(|a, b| a.id.cmp(&b.id));
    answer::page(
        &ask,
        &plans,
        |plan| plan.id.to_string(),
        |plan| {
            let accounts = counts.get(&plan.id).copied().unwrap_or_default();
            shown(&snapshot, plan, accounts)
        },
    )
}

async fn show(State(console): State<Arc<Console>>, Named(id): Named) -> Result<Response, ApiError> {
    Ok(answer::ok(&find(&console, &id)?))
}

fn find(console: &Console, id: &str) -> Result<Value, ApiError> {
    let snapshot = console.gateway.snapshot();
    let plan = snapshot.directory.plan(&id.into());
    let plan = plan.ok_or_else(|| ApiError::unknown("plan", format!("there is no plan {id:?}")))?;
    let members = snapshot.directory.members();
    let accounts = members
        .filter(|member| member.account.plan == plan.id)
        .count() as u64;
    Ok(shown(&snapshot, plan, accounts))
}

fn shown(snapshot: &Snapshot, plan: &Plan, accounts: u64) -> Value {
    let mut declared = snapshot.config.plans.iter();
    let declared = declared.any(|declared| declared.id == plan.id);
    let mut members = spoken::show_plan(plan);
    members.insert("accounts".to_owned(), accounts.into());
    members.insert("source".to_owned(), source(declared).into());
    Value::Object(members)
}

/// A plan from a body. What an answer shows beside the plan's own members may be sent back, and says nothing.
fn read(console: &Console, mut body: Map<String, Value>) -> Result<Plan, ApiError> {
    body.remove("accounts");
    body.remove("source");
    Ok(spoken::plan(&body, &console.gateway.snapshot().config)?)
}

async fn create(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let plan = read(&console, body)?;
    let id = plan.id.to_string();
    console
        .change(&caller, move |changes| changes.create_plan(&plan))
        .await?;
    Ok(answer::json(StatusCode::CREATED, &find(&console, &id)?))
}

async fn replace(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let own = body.entry("id").or_insert_with(|| id.as_str().into());
    if own.as_str() != Some(&id) {
        return Err(ApiError::unfit("id", "is another plan than the path names"));
    }
    let plan = read(&console, body)?;
    console
        .change(&caller, move |changes| changes.replace_plan(&plan))
        .await?;
    Ok(answer::ok(&find(&console, &id)?))
}
