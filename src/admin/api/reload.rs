//! Reading the configuration again, on demand.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use serde_json::json;

use super::access::{Caller, Role};
use super::error::ApiError;
use super::operation::{Content, Operation};
use super::{Console, answer};
use crate::config;
use crate::ledger::store::AuditLine;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::POST,
            "/reload",
            "reload",
            Role::Operator,
            post(reload),
        )
        .says("Read the configuration's files again; a bad one is refused and the old one stays in force")
        .gives(200, Content::Json("Reload"))
        .may(&[409]),
    ]
}

async fn reload(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let gateway = &console.gateway;
    if gateway.snapshot().config.files.is_empty() {
        return Err(ApiError::conflict(
            "the gateway runs on its built-in configuration: there is no file to read again",
        ));
    }
    let path = gateway.path.clone();
    let loaded = tokio::task::spawn_blocking(move || config::load(path.as_deref()))
        .await
        .map_err(|_| ApiError::stopping())?;
    let taken = match loaded {
        Ok(config) => gateway
            .reconfigure(config)
            .await
            .map_err(|error| error.to_string()),
        Err(errors) => Err(errors.to_string()),
    };
    gateway.metrics.config_reload(taken.is_ok());
    let line = AuditLine {
        at: Timestamp::now(),
        actor: caller.actor(),
        action: "reload".to_owned(),
        subject: "configuration".to_owned(),
        detail: json!({ "taken": taken.is_ok() }).to_string(),
    };
    console
        .read(move |gateway| Ok(gateway.store.add_audit(&line)?))
        .await?;
    match taken {
        Ok(waiting) => {
            tracing::info!("the configuration was read again and is in force");
            let body = json!({ "result": "accepted", "waiting_for_restart": waiting });
            Ok(answer::ok(&body))
        }
        Err(reason) => {
            tracing::error!("the configuration is refused, the old one stays in force:\n{reason}");
            Err(ApiError::conflict_at(
                "configuration",
                format!("the configuration is refused, the old one stays in force: {reason}"),
            ))
        }
    }
}
