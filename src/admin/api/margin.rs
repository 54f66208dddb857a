//! Margins: the object of `weir margin`, and how the cost of a plan's accounts is spread around what they pay.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use clap::ValueEnum as _;
use jiff::Timestamp;
use serde_json::json;

use super::access::Role;
use super::answer;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{Content, Operation, Param, SINCE, UNTIL};
use crate::admin::spread;
use crate::margin::{self, Books, By, Row};

use super::Console;

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[
        Param::new("by", "MarginBy", "What the rows are: plans unless given"),
        SINCE,
        UNTIL,
        Param::new("id", "RowId", "Only the row of this id"),
        Param::new(
            "plan",
            "Id",
            "With `by=account`: only accounts of this plan",
        ),
        Param::new(
            "order",
            "RowOrder",
            "`id` as without, `margin`: the worst first, `cost`: the dearest first",
        ),
        Param::new(
            "limit",
            "RowLimit",
            "At most so many rows: all unless given. The total is always of all",
        ),
    ];
    const SPREAD: &[Param] = &[Param::new("plan", "Id", "The plan").needed(), SINCE, UNTIL];
    vec![
        Operation::new(
            Method::GET,
            "/margin",
            "showMargin",
            Role::Viewer,
            get(show),
        )
        .says("Revenue, cost, margin, break-even and projection: the object of weir margin")
        .asks(QUERY)
        .gives(200, Content::Json("Margin"))
        .may(&[409]),
        Operation::new(
            Method::GET,
            "/margin/distribution",
            "showDistribution",
            Role::Viewer,
            get(distribution),
        )
        .says("How many accounts of a plan cost how much, against what they pay")
        .asks(SPREAD)
        .gives(200, Content::Json("Distribution"))
        .may(&[404, 409]),
    ]
}

/// Reads `by`.
pub(super) fn by(ask: &Ask) -> Result<By, ApiError> {
    const WORDS: &str = "plan, account, model, key, upstream, tag or day";
    let by = ask.parsed("by", WORDS, |text| By::from_str(text, false).ok())?;
    Ok(by.unwrap_or_default())
}

#[derive(Clone, Copy)]
enum Order {
    Id,
    Margin,
    Cost,
}

async fn show(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let by = by(&ask)?;
    let now = Timestamp::now();
    let range = margin::range(ask.time("since")?, ask.time("until")?, now)?;
    let order = ask.parsed("order", "id, margin or cost", |text| match text {
        "id" => Some(Order::Id),
        "margin" => Some(Order::Margin),
        "cost" => Some(Order::Cost),
        _ => None,
    })?;
    let limit = ask.count("limit", 1..=100_000)?;
    let id = ask.short_text("id", 512)?.map(ToOwned::to_owned);
    let plan = ask.id("plan")?.map(ToOwned::to_owned);
    if plan.is_some() && by != By::Account {
        return Err(ApiError::unfit(
            "plan",
            "has a meaning with by=account only",
        ));
    }
    console
        .report(move |gateway| {
            let snapshot = gateway.snapshot();
            let store = gateway.store.as_ref();
            let books = Books::read(&snapshot.config, store)?;
            let mut report = margin::report(store, &books, by, range, now, &|_, _| {})?;
            let rows = &mut report.rows;
            rows.retain(|row: &Row| {
                id.as_ref().is_none_or(|id| row.id == *id)
                    && plan
                        .as_ref()
                        .is_none_or(|plan| row.plan.as_ref() == Some(plan))
            });
            match order.unwrap_or(Order::Id) {
                Order::Id => {}
                Order::Margin => rows.sort_by_key(|row| row.margin_usd),
                Order::Cost => rows.sort_by_key(|row| -row.cost_usd),
            }
            rows.truncate(limit.unwrap_or(usize::MAX));
            Ok(answer::ok(&report))
        })
        .await
}

async fn distribution(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let range = margin::range(ask.time("since")?, ask.time("until")?, now)?;
    let wanted = ask.id("plan")?.unwrap_or_default().to_owned();
    console
        .report(move |gateway| {
            let snapshot = gateway.snapshot();
            let store = gateway.store.as_ref();
            let books = Books::read(&snapshot.config, store)?;
            let unknown = || ApiError::unknown("plan", format!("there is no plan {wanted:?}"));
            let plan = books.plan(&wanted).ok_or_else(unknown)?;
            let report = margin::report(store, &books, By::Account, range, now, &|_, _| {})?;
            let rows = report.rows.iter();
            let rows: Vec<&Row> = rows
                .filter(|row| row.plan.as_ref() == Some(&wanted))
                .collect();
            let spread = spread::of(&rows);
            Ok(answer::ok(&json!({
                "plan": plan.id,
                "since": report.since,
                "until": report.until,
                "price": plan.price,
                "currency": plan.currency,
                "period": plan.period,
                "accounts": rows.len(),
                "typical_revenue_usd": spread.typical_revenue,
                "buckets": spread.buckets,
            })))
        })
        .await
}
