//! Accounts: list, create, show, change, close, pay back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{delete, get, patch, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Caller, Role};
use super::ask::{Ask, Json, Named, day, given};
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::changes::{AccountPatch, Changes, NewAccount};
use crate::config::spoken;
use crate::gateway::{Gateway, StartError};
use crate::money::Money;
use crate::plan::{Account, Limit};

pub(super) fn operations() -> Vec<Operation> {
    const LIST: &str = "/accounts";
    const ONE: &str = "/accounts/{account}";
    const QUERY: &[Param] = &[
        LIMIT,
        CURSOR,
        Param::new("plan", "Id", "Accounts of this plan only"),
        Param::new("parent", "Id", "Accounts right below this one only"),
        Param::new(
            "search",
            "SearchText",
            "Part of an id or a name, in any case",
        ),
    ];
    vec![
        Operation::new(Method::GET, LIST, "listAccounts", Role::Viewer, get(list))
            .says("Accounts, by id")
            .asks(QUERY)
            .gives(200, Content::Json("AccountList")),
        Operation::new(Method::POST, LIST, "createAccount", Role::Operator, post(create))
            .says("Make an account")
            .takes("NewAccount")
            .gives(201, Content::Json("Account"))
            .may(&[409]),
        Operation::new(Method::GET, ONE, "showAccount", Role::Viewer, get(show))
            .says("One account")
            .gives(200, Content::Json("Account"))
            .may(&[404]),
        Operation::new(Method::PATCH, ONE, "changeAccount", Role::Operator, patch(change))
            .says("Change an account; what is not given stays, a parent or name of null is taken away")
            .takes("AccountChange")
            .gives(200, Content::Json("Account"))
            .may(&[404, 409]),
        Operation::new(Method::DELETE, ONE, "closeAccount", Role::Operator, delete(close))
            .says("Close an account today: it no longer pays, and its keys no longer work; its ledger stays")
            .gives(200, Content::Json("Account"))
            .may(&[404, 409]),
        Operation::new(
            Method::POST,
            "/accounts/{account}/refunds",
            "refundAccount",
            Role::Admin,
            post(refund),
        )
        .says("Record that money was paid back: the account's revenue is less from now on")
        .takes("NewRefund")
        .gives(201, Content::Json("Refund"))
        .may(&[404, 409]),
    ]
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let snapshot = console.gateway.snapshot();
    let (plan, parent) = (ask.id("plan")?, ask.id("parent")?);
    let search = ask.short_text("search", 256)?.map(str::to_lowercase);
    let found = |account: &Account| {
        let Some(search) = &search else { return true };
        let name = account.name.as_deref().unwrap_or_default();
        [account.id.as_str(), name]
            .iter()
            .any(|text| text.to_lowercase().contains(search))
    };
    let mut accounts: Vec<&Account> = snapshot
        .directory
        .members()
        .map(|member| &member.account)
        .filter(|account| plan.is_none_or(|plan| account.plan.as_str() == plan))
        .filter(|account| {
            let own = account.parent.as_ref().map(|parent| parent.as_str());
            parent.is_none() || own == parent
        })
        .filter(|account| found(account))
        .collect();
    accounts.sort_by(|a, b| a.id.cmp(&b.id));
    answer::page(
        &ask,
        &accounts,
        |account| account.id.to_string(),
        |account| shown(&console.gateway, account),
    )
}

async fn show(State(console): State<Arc<Console>>, Named(id): Named) -> Result<Response, ApiError> {
    let snapshot = console.gateway.snapshot();
    let member = snapshot.directory.member(&id.as_str().into());
    let account = member.map(|member| &member.account);
    let account = account
        .ok_or_else(|| ApiError::unknown("account", format!("there is no account {id:?}")))?;
    Ok(answer::ok(&shown(&console.gateway, account)))
}

/// An account in the words of the configuration.
fn shown(gateway: &Gateway, account: &Account) -> Value {
    let snapshot = gateway.snapshot();
    let mut declared = snapshot.config.accounts.iter();
    let declared = declared.any(|declared| declared.id == account.id);
    let tags: BTreeMap<&str, &str> = account
        .tags
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    json!({
        "id": account.id,
        "plan": account.plan,
        "parent": account.parent,
        "since": account.since.to_string(),
        "until": account.until.map(|day| day.to_string()),
        "name": account.name,
        "currency": account.currency,
        "tags": tags,
        "limits": spoken::show_limits(&account.limits),
        "source": source(declared),
    })
}

/// Where something is declared.
pub(super) fn source(declared: bool) -> &'static str {
    if declared { "file" } else { "store" }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    id: String,
    plan: String,
    parent: Option<String>,
    since: Option<String>,
    name: Option<String>,
    currency: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    limits: Option<Value>,
}

async fn create(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<New>,
) -> Result<Response, ApiError> {
    let since = match new.since.as_deref() {
        None => None,
        Some(text) => Some(day(text).ok_or_else(|| {
            ApiError::unfit(
                "since",
                format!("{text:?}: expected a date such as 2025-03-01 from 2000 to 2999"),
            )
        })?),
    };
    let limits = limits(&console, new.limits.as_ref())?.unwrap_or_default();
    let account = NewAccount {
        id: new.id,
        plan: new.plan,
        parent: new.parent,
        since,
        name: new.name,
        currency: new.currency,
        tags: new.tags.into_iter().collect(),
        limits,
    };
    let made = console
        .change(&caller, move |changes| changes.create_account(account))
        .await?;
    let shown = shown(&console.gateway, &made);
    Ok(answer::json(StatusCode::CREATED, &shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    plan: Option<String>,
    #[serde(default, deserialize_with = "given")]
    parent: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    name: Option<Option<String>>,
    tags: Option<BTreeMap<String, String>>,
    limits: Option<Value>,
}

async fn change(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Json(change): Json<Change>,
) -> Result<Response, ApiError> {
    let patch = AccountPatch {
        plan: change.plan,
        parent: change.parent.map(Option::unwrap_or_default),
        name: change.name.map(Option::unwrap_or_default),
        tags: change.tags.map(|tags| tags.into_iter().collect()),
        limits: limits(&console, change.limits.as_ref())?,
    };
    let changed = console
        .change(&caller, move |changes| changes.change_account(&id, patch))
        .await?;
    Ok(answer::ok(&shown(&console.gateway, &changed)))
}

async fn close(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Response, ApiError> {
    let closed = console
        .change(&caller, move |changes| changes.close_account(&id))
        .await?;
    Ok(answer::ok(&shown(&console.gateway, &closed)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refund {
    amount_usd: String,
}

async fn refund(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Json(refund): Json<Refund>,
) -> Result<Response, ApiError> {
    let amount = Money::parse(&refund.amount_usd).map_err(|error| {
        ApiError::unfit("amount_usd", format!("{:?}: {error}", refund.amount_usd))
    })?;
    if amount <= Money::ZERO {
        return Err(ApiError::unfit("amount_usd", "a refund is above zero"));
    }
    let account = id.clone();
    let at = console
        .change(&caller, move |changes| changes.refund(&account, amount))
        .await?;
    let made = json!({ "account": id, "amount_usd": amount, "at": at });
    Ok(answer::json(StatusCode::CREATED, &made))
}

/// The limits of a body.
pub(super) fn limits(
    console: &Console,
    json: Option<&Value>,
) -> Result<Option<Vec<Limit>>, ApiError> {
    match json {
        None | Some(Value::Null) => Ok(None),
        Some(json) => Ok(Some(spoken::limits(
            json,
            &console.gateway.snapshot().config,
        )?)),
    }
}

impl Console {
    /// Makes a change: alone, on what stands now, and in force when this answers.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        caller: &Caller,
        change: impl FnOnce(&Changes<'_>) -> Result<T, crate::changes::ChangeError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let alone = self.changing.lock().await;
        self.refresh().await?;
        let actor = caller.actor();
        let made = self
            .read(move |gateway| {
                let snapshot = gateway.snapshot();
                let changes = Changes {
                    config: &snapshot.config,
                    directory: &snapshot.directory,
                    version: snapshot.stored_version,
                    store: gateway.store.as_ref(),
                    pepper: &gateway.pepper,
                    actor,
                };
                Ok(change(&changes)?)
            })
            .await?;
        self.refresh().await?;
        drop(alone);
        Ok(made)
    }

    /// Takes what is in the store into force.
    async fn refresh(&self) -> Result<(), ApiError> {
        self.gateway.refresh().await.map_err(|error| match error {
            StartError::Store(error) | StartError::StoreAway(error) => error.into(),
            error => ApiError::conflict(error.to_string()),
        })
    }
}
