//! Advice: the price, and the least limits, that make a plan reach a margin; the object of `weir advise`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{Content, Operation, Param, UNTIL};
use super::{Console, answer};
use crate::cli::advise::target;
use crate::ids::PlanId;
use crate::margin::advise::{Question, advise};
use crate::margin::{self, Books};

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[
        Param::new("plan", "Id", "The plan").needed(),
        Param::new(
            "target_margin",
            "Percent",
            "The margin to be reached, in percent of revenue",
        )
        .needed(),
        Param::new(
            "since",
            "Moment",
            "First moment (inclusive): RFC 3339 or a date in UTC; 30 days before `until` unless given",
        ),
        UNTIL,
    ];
    vec![
        Operation::new(Method::GET, "/advise", "askAdvice", Role::Viewer, get(ask_advice))
            .says("The price, and the least limits, that make a plan reach a margin, proved on recorded traffic")
            .asks(QUERY)
            .gives(200, Content::Json("Advice"))
            .may(&[404, 409]),
    ]
}

async fn ask_advice(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let plan = PlanId::from(ask.id("plan")?.unwrap_or_default());
    let target_ppm = ask
        .parsed(
            "target_margin",
            "a percentage below 100, such as 30",
            |text| target(text).ok(),
        )?
        .unwrap_or_default();
    let now = Timestamp::now();
    let until = ask.time("until")?.unwrap_or(now);
    let month = SignedDuration::from_hours(30 * 24);
    let since = ask.time("since")?.or(until.checked_sub(month).ok());
    let question = Question {
        plan,
        target_ppm,
        range: margin::range(since, Some(until), now)?,
    };
    console
        .report(move |gateway| {
            let snapshot = gateway.snapshot();
            let store = gateway.store.as_ref();
            let books = Books::read(&snapshot.config, store)?;
            let advice = advise(store, &books, &snapshot.prices, &question, now, &|_, _| {})?;
            Ok(answer::ok(&advice))
        })
        .await
}
