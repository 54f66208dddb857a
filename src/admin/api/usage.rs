//! Use and its cost, summed by account, day, model, key or upstream.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use jiff::tz::Offset;
use serde_json::json;

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param, SINCE, UNTIL};
use super::{Console, answer};
use crate::ids::AccountId;
use crate::ledger::store::{Grain, RollupRow, TimeRange};
use crate::margin;
use crate::price::CostByClass;
use crate::tokens::Usage;

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[
        LIMIT,
        CURSOR,
        Param::new("by", "UsageBy", "What the items are: accounts unless given"),
        Param::new("account", "Id", "Of this account only"),
        Param::new(
            "below",
            "Flag",
            "With `account`: also of all accounts below it",
        ),
        SINCE,
        UNTIL,
    ];
    vec![
        Operation::new(Method::GET, "/usage", "listUsage", Role::Viewer, get(list))
            .says("Requests, tokens and cost by account, day, model, key or upstream; the range is widened to full hours")
            .asks(QUERY)
            .gives(200, Content::Json("UsageList")),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Account,
    Day,
    Model,
    Key,
    Upstream,
}

impl By {
    fn parse(text: &str) -> Option<By> {
        Some(match text {
            "account" => By::Account,
            "day" => By::Day,
            "model" => By::Model,
            "key" => By::Key,
            "upstream" => By::Upstream,
            _ => return None,
        })
    }

    /// What a row belongs to.
    fn of(self, row: &RollupRow) -> String {
        let day = || Offset::UTC.to_datetime(row.start).date().to_string();
        match self {
            By::Account => row.lineage.last().map(ToString::to_string),
            By::Day => Some(day()),
            By::Model => row
                .served_model
                .as_ref()
                .or(row.model.as_ref())
                .map(ToString::to_string),
            By::Key => row.key.as_ref().map(ToString::to_string),
            By::Upstream => row.upstream.as_ref().map(ToString::to_string),
        }
        .unwrap_or_default()
    }
}

#[derive(Default)]
struct Sums {
    requests: u64,
    unpriced: i64,
    usage: Usage,
    cost: CostByClass,
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let by = ask.parsed("by", "account, day, model, key or upstream", By::parse)?;
    let by = by.unwrap_or(By::Account);
    let account = ask.id("account")?.map(AccountId::from);
    let below = ask.parsed("below", "true or false", |text| text.parse().ok())?;
    let below: bool = below.unwrap_or(false);
    let now = jiff::Timestamp::now();
    let range = hours(margin::range(ask.time("since")?, ask.time("until")?, now)?);
    let sums = console
        .report(move |gateway| {
            let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
            let wanted = |row: &RollupRow| match &account {
                None => true,
                Some(account) if below => row.lineage.contains(account),
                Some(account) => row.lineage.last() == Some(account),
            };
            gateway.store.rollup(Grain::Hour, range, &mut |row| {
                if !wanted(row) {
                    return;
                }
                let sum = sums.entry(by.of(row)).or_default();
                sum.requests += row.sums.requests;
                sum.unpriced += row.sums.unpriced_requests;
                sum.usage += row.sums.usage;
                sum.cost += row.sums.cost;
            })?;
            Ok(sums.into_iter().collect::<Vec<_>>())
        })
        .await?;
    answer::page(
        &ask,
        &sums,
        |(id, _)| id.clone(),
        |(id, sums)| {
            json!({
                "id": id,
                "requests": sums.requests,
                "unpriced_requests": sums.unpriced.max(0),
                "usage": sums.usage,
                "cost_usd": sums.cost.total(),
                "cost": sums.cost,
            })
        },
    )
}

/// A range widened to full hours.
fn hours(range: TimeRange) -> TimeRange {
    const HOUR_MS: i64 = 3_600_000;
    let at = |ms: i64| jiff::Timestamp::from_millisecond(ms).ok();
    let (since, until) = (range.since.as_millisecond(), range.until.as_millisecond());
    TimeRange {
        since: at(since.div_euclid(HOUR_MS) * HOUR_MS).unwrap_or(range.since),
        until: at((until + HOUR_MS - 1).div_euclid(HOUR_MS) * HOUR_MS).unwrap_or(range.until),
    }
}
