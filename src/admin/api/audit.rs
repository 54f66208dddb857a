//! The audit log: who changed what, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::ledger::store::AuditLine;

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[LIMIT, CURSOR];
    vec![
        Operation::new(Method::GET, "/audit", "listAudit", Role::Viewer, get(list))
            .says("Who changed what, newest first; the newest 10,000 changes")
            .asks(QUERY)
            .gives(200, Content::Json("AuditList")),
    ]
}

/// So far back can be looked through the API; the store keeps all.
const LINES_MAX: usize = 10_000;

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let limit = ask.page_limit()?;
    // The moment of the last line seen, and how many of that moment were seen: lines that come in meanwhile move nothing.
    let seen = match ask.cursor()? {
        None => None,
        Some(text) => Some(place(&text).ok_or_else(|| {
            ApiError::unfit("cursor", "expected the \"next\" of an earlier page")
        })?),
    };
    let lines = console
        .read(|gateway| Ok(gateway.store.audit(LINES_MAX)?))
        .await?;
    let begin = match seen {
        None => 0,
        Some((at_ms, count)) => {
            let newer = lines.partition_point(|line| line.at.as_millisecond() > at_ms);
            (newer + count).min(lines.len())
        }
    };
    let rest = lines.get(begin..).unwrap_or_default();
    let shown = rest.get(..limit.min(rest.len())).unwrap_or_default();
    let end = begin + shown.len();
    let next = shown.last().filter(|_| end < lines.len()).map(|last| {
        let at_ms = last.at.as_millisecond();
        let newer = lines.partition_point(|line| line.at.as_millisecond() > at_ms);
        answer::cursor(&format!("{at_ms}.{}", end - newer))
    });
    let items: Vec<Value> = shown.iter().map(item).collect();
    Ok(answer::ok(&json!({ "items": items, "next": next })))
}

fn place(text: &str) -> Option<(i64, usize)> {
    let (at_ms, count) = text.split_once('.')?;
    Some((at_ms.parse().ok()?, count.parse().ok()?)).filter(|(_, count)| *count <= LINES_MAX)
}

fn item(line: &AuditLine) -> Value {
    let detail: Value = serde_json::from_str(&line.detail).unwrap_or(Value::Null);
    json!({
        "at": line.at,
        "actor": line.actor,
        "action": line.action,
        "subject": line.subject,
        "detail": detail,
    })
}
