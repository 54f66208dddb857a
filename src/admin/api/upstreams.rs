//! Upstreams: where they are and whether they answer; never their keys.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{CURSOR, Content, LIMIT, Operation, Param};
use super::{Console, answer};
use crate::dialect::Dialect;

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[LIMIT, CURSOR];
    vec![
        Operation::new(
            Method::GET,
            "/upstreams",
            "listUpstreams",
            Role::Viewer,
            get(list),
        )
        .says("The APIs that requests are forwarded to, and whether they answer")
        .asks(QUERY)
        .gives(200, Content::Json("UpstreamList")),
    ]
}

async fn list(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let snapshot = console.gateway.snapshot();
    let mut upstreams: Vec<_> = snapshot.router.upstreams().values().collect();
    upstreams.sort_by(|a, b| a.settings.id.cmp(&b.settings.id));
    answer::page(
        &ask,
        &upstreams,
        |upstream| upstream.settings.id.to_string(),
        |upstream| {
            let settings = &upstream.settings;
            json!({
                "id": settings.id,
                "dialect": match settings.dialect {
                    Dialect::OpenAi => "openai",
                    Dialect::Azure => "azure",
                    Dialect::Anthropic => "anthropic",
                },
                "address": settings.base_url.authority.to_string(),
                "failing": upstream.is_failing(),
            })
        },
    )
}
