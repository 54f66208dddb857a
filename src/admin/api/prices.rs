//! The price table as it holds on a day.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde_json::json;

use super::access::Role;
use super::ask::{Ask, Named};
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::price::listing;

pub(super) fn operations() -> Vec<Operation> {
    const ON: Param = Param::new("on", "Day", "The day (UTC): today unless given");
    const LIST: &[Param] = &[LIMIT, CURSOR, ON];
    const ONE: &[Param] = &[ON];
    vec![
        Operation::new(
            Method::GET,
            "/prices",
            "listPrices",
            Role::Viewer,
            get(list),
        )
        .says("Every model that has a price on a day, by name")
        .asks(LIST)
        .gives(200, Content::Json("PriceList")),
        Operation::new(
            Method::GET,
            "/prices/{model}",
            "showPrice",
            Role::Viewer,
            get(show),
        )
        .says("The price that a model has on a day")
        .asks(ONE)
        .gives(200, Content::Json("Price"))
        .may(&[404]),
    ]
}

fn on(ask: &Ask) -> Result<Date, ApiError> {
    let today = || Offset::UTC.to_datetime(Timestamp::now()).date();
    Ok(ask.day("on")?.unwrap_or_else(today))
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let listed = listing::list(&console.gateway.snapshot().prices, on(&ask)?);
    answer::page(
        &ask,
        &listed,
        |price| price.model.to_string(),
        |price| json!(price),
    )
}

async fn show(
    State(console): State<Arc<Console>>,
    Named(model): Named,
    ask: Ask,
) -> Result<Response, ApiError> {
    let day = on(&ask)?;
    let snapshot = console.gateway.snapshot();
    let entry = snapshot.prices.model(&model);
    let listed = entry.and_then(|entry| listing::on_day(entry, day));
    let unknown = || ApiError::unknown("model", format!("{model:?} has no price on {day}"));
    listed.map(|price| answer::ok(&price)).ok_or_else(unknown)
}
