//! The ledger: entries in pages, one entry by its id.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use jiff::SignedDuration;
use serde_json::json;

use super::access::Role;
use super::ask::{Ask, Named};
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer, export, flush};
use crate::ids::{AccountId, KeyId, ModelName, RequestId};
use crate::ledger::store::EntryFilter;
use crate::ledger::{Entry, Outcome};

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[
        LIMIT,
        CURSOR,
        Param::new(
            "order",
            "Order",
            "`desc`: newest first, as without; `asc`: oldest first",
        ),
        FILTER[0],
        FILTER[1],
        FILTER[2],
        FILTER[3],
        FILTER[4],
        FILTER[5],
    ];
    vec![
        Operation::new(
            Method::GET,
            "/ledger",
            "listEntries",
            Role::Viewer,
            get(list),
        )
        .says("Entries of the ledger")
        .asks(QUERY)
        .gives(200, Content::Json("EntryList")),
        Operation::new(
            Method::GET,
            "/ledger/{entry}",
            "showEntry",
            Role::Viewer,
            get(show),
        )
        .says("One entry by its id, which is the client's x-weir-request-id")
        .gives(200, Content::Json("Entry"))
        .may(&[404]),
        Operation::new(
            Method::GET,
            "/export",
            "exportEntries",
            Role::Viewer,
            get(export::export),
        )
        .says("Every entry that passes, oldest first, as JSON lines, CSV or FOCUS rows")
        .asks(export::QUERY)
        .gives(200, Content::Files),
    ]
}

/// Which entries are wanted.
pub(super) const FILTER: [Param; 6] = [
    Param::new("since", "Moment", "Started at or after"),
    Param::new("until", "Moment", "Started before"),
    Param::new("account", "Id", "Of this account itself"),
    Param::new("key", "Id", "Of this key"),
    Param::new("model", "ModelName", "Asked for or served this model"),
    Param::new("outcome", "Outcome", "With this outcome"),
];

/// Reads [`FILTER`].
pub(super) fn filter(ask: &Ask) -> Result<EntryFilter, ApiError> {
    const OUTCOMES: &str = "completed, client_closed, upstream_failed, interrupted or rejected";
    Ok(EntryFilter {
        since: ask.time("since")?,
        until: ask.time("until")?,
        account: ask.id("account")?.map(AccountId::from),
        key: ask.id("key")?.map(KeyId::from),
        model: ask.short_text("model", 256)?.map(ModelName::from),
        outcome: ask.parsed("outcome", OUTCOMES, Outcome::parse)?,
        after: None,
        descending: false,
    })
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let limit = ask.page_limit()?;
    let descending = ask.parsed("order", "asc or desc", |text| match text {
        "asc" => Some(false),
        "desc" => Some(true),
        _ => None,
    })?;
    let after = match ask.cursor()? {
        None => None,
        Some(text) => Some(request_id(&text).ok_or_else(|| {
            ApiError::unfit("cursor", "expected the \"next\" of an earlier page")
        })?),
    };
    let filter = EntryFilter {
        after,
        descending: descending.unwrap_or(true),
        ..filter(&ask)?
    };
    let mut entries = console
        .read(move |gateway| {
            flush(gateway);
            let mut entries: Vec<Entry> = Vec::with_capacity(limit + 1);
            gateway.store.scan(&filter, &mut |entry| {
                entries.push(entry);
                entries.len() <= limit
            })?;
            Ok(entries)
        })
        .await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().filter(|_| more);
    let next = last.map(|entry| answer::cursor(&entry.id.to_string()));
    Ok(answer::ok(&json!({ "items": entries, "next": next })))
}

async fn show(State(console): State<Arc<Console>>, Named(id): Named) -> Result<Response, ApiError> {
    let unknown = || ApiError::unknown("entry", format!("there is no entry {id:?}"));
    let id = request_id(&id).ok_or_else(unknown)?;
    let entry = console
        .read(move |gateway| {
            flush(gateway);
            Ok(find(gateway.store.as_ref(), id)?)
        })
        .await?;
    entry.map(|entry| answer::ok(&entry)).ok_or_else(unknown)
}

/// How far the moment in a request's id may lie from the one at which its head was read.
const SLACK: SignedDuration = SignedDuration::from_secs(1);

/// An entry by its id. Ids begin with the moment at which they were made, so only a moment of the ledger is read.
fn find(
    store: &dyn crate::ledger::store::Store,
    id: RequestId,
) -> Result<Option<Entry>, crate::ledger::store::StoreError> {
    let made = id.began_ms().map(jiff::Timestamp::from_millisecond);
    let Some(Ok(made)) = made else {
        return Ok(None);
    };
    let filter = EntryFilter {
        since: made.checked_sub(SLACK).ok(),
        until: made.checked_add(SLACK).ok(),
        ..EntryFilter::default()
    };
    let mut found = None;
    store.scan(&filter, &mut |entry| {
        if entry.id == id {
            found = Some(entry);
        }
        found.is_none()
    })?;
    Ok(found)
}

fn request_id(text: &str) -> Option<RequestId> {
    uuid::Uuid::try_parse(text).ok().map(RequestId)
}
