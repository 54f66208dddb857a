//! What-if: recorded traffic under other models, another upstream's prices, plan prices, limits or cache hits; the object
//! of `weir whatif`.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;

use super::access::Role;
use super::ask::{Ask, Json};
use super::error::ApiError;
use super::margin::by;
use super::operation::{Content, Operation, Param, SINCE, UNTIL};
use super::{Console, answer};
use crate::ledger::store::TimeRange;
use crate::margin::whatif::limits::Cap;
use crate::margin::whatif::spoken::{PlanPrice, price_table, share_ppm};
use crate::margin::whatif::traffic::ModelMap;
use crate::margin::whatif::{Changes, what_if};
use crate::margin::{self, Books, By};

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/whatif";
    const QUERY: &[Param] = &[
        Param::new(
            "map",
            "SpokenMap",
            "Traffic of one model at the price of another: gpt-4o=gpt-4.5-preview",
        )
        .many(),
        Param::new(
            "price",
            "SpokenPrice",
            "Another price of a plan in US dollars a period: pro=220.00",
        )
        .many(),
        Param::new(
            "limit",
            "SpokenLimit",
            "A limit that the plan's accounts would have had: pro:cost=150.00/period",
        )
        .many(),
        Param::new(
            "cache_hit",
            "Share",
            "The share of input tokens read from the cache",
        ),
        Param::new("by", "MarginBy", "What the rows are: plans unless given"),
        SINCE,
        UNTIL,
    ];
    vec![
        Operation::new(
            Method::GET,
            PATH,
            "askWhatIf",
            Role::Viewer,
            get(ask_what_if),
        )
        .says("Recorded traffic under other terms; every parameter as on the command line")
        .asks(QUERY)
        .gives(200, Content::Json("WhatIf"))
        .may(&[404, 409]),
        Operation::new(
            Method::POST,
            PATH,
            "postWhatIf",
            Role::Viewer,
            post(post_what_if),
        )
        .says("Recorded traffic under other terms, for what a query does not hold: many changes, another upstream's prices")
        .takes("WhatIfChanges")
        .gives(200, Content::Json("WhatIf"))
        .may(&[404, 409]),
    ]
}

/// More changes are no question but a load.
const CHANGES_MAX: usize = 100;

async fn ask_what_if(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let texts = |name| ask.all(name).map(ToOwned::to_owned).collect::<Vec<_>>();
    let changes = changes(
        &texts("map"),
        &texts("price"),
        &texts("limit"),
        ask.text("cache_hit")?,
    )?;
    let now = Timestamp::now();
    let range = margin::range(ask.time("since")?, ask.time("until")?, now)?;
    run(&console, changes, by(&ask)?, range, now).await
}

/// The same as the query, as a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    map: Vec<String>,
    price_table: Option<String>,
    #[serde(default)]
    price: Vec<String>,
    #[serde(default)]
    limit: Vec<String>,
    cache_hit: Option<String>,
    by: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

async fn post_what_if(
    State(console): State<Arc<Console>>,
    Json(body): Json<Body>,
) -> Result<Response, ApiError> {
    let mut changes = changes(
        &body.map,
        &body.price,
        &body.limit,
        body.cache_hit.as_deref(),
    )?;
    changes.price_table = match body.price_table {
        Some(text) => Some(
            price_table("price_table", &text)
                .map_err(|errors| ApiError::unfit("price_table", errors.to_string()))?,
        ),
        None => None,
    };
    let ask = Ask::of_members([
        ("by", body.by),
        ("since", body.since),
        ("until", body.until),
    ]);
    let now = Timestamp::now();
    let range = margin::range(ask.time("since")?, ask.time("until")?, now)?;
    run(&console, changes, by(&ask)?, range, now).await
}

fn changes(
    maps: &[String],
    prices: &[String],
    limits: &[String],
    cache_hit: Option<&str>,
) -> Result<Changes, ApiError> {
    if maps.len() + prices.len() + limits.len() > CHANGES_MAX {
        let message = format!("at most {CHANGES_MAX} changes at once");
        return Err(ApiError::unfit("map", message));
    }
    let cache_hit_ppm = cache_hit
        .map(share_ppm)
        .transpose()
        .map_err(|error| ApiError::unfit("cache_hit", error.to_string()))?;
    let prices: Vec<PlanPrice> = spoken("price", prices)?;
    Ok(Changes {
        maps: spoken::<ModelMap>("map", maps)?,
        plan_prices: prices
            .into_iter()
            .map(|price| (price.plan, price.usd))
            .collect(),
        limits: spoken::<Cap>("limit", limits)?,
        cache_hit_ppm,
        price_table: None,
    })
}

fn spoken<T: FromStr<Err: std::fmt::Display>>(
    name: &'static str,
    texts: &[String],
) -> Result<Vec<T>, ApiError> {
    let read = |text: &String| {
        T::from_str(text).map_err(|error| ApiError::unfit(name, format!("{text:?}: {error}")))
    };
    texts.iter().map(read).collect()
}

async fn run(
    console: &Console,
    changes: Changes,
    by: By,
    range: TimeRange,
    now: Timestamp,
) -> Result<Response, ApiError> {
    console
        .report(move |gateway| {
            let snapshot = gateway.snapshot();
            let store = gateway.store.as_ref();
            let books = Books::read(&snapshot.config, store)?;
            let prices = &snapshot.prices;
            let answer = what_if(store, &books, prices, &changes, by, range, now, &|_, _| {})?;
            Ok(answer::ok(&answer))
        })
        .await
}
