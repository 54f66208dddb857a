//! `/v1/models`: what the caller may use, answered by the gateway itself.

use http::request::Parts;
use http::{Method, Response, header};
use serde_json::{Value, json};

use crate::answer::AnswerBody;
use crate::dialect::error_body::Code;
use crate::dialect::{Dialect, Endpoint};
use crate::identify::Caller;
use crate::ids::ModelName;
use crate::refuse::Refusal;
use crate::snapshot::Snapshot;

/// The list of models, or one of them; `None` for any other path.
///
/// # Errors
/// `model_not_found`; `method_not_allowed` for anything but reading the list.
pub(super) fn answer(
    endpoint: &Endpoint,
    head: &Parts,
    snapshot: &Snapshot,
    caller: &Caller,
    dialect: Dialect,
) -> Result<Option<Response<AnswerBody>>, Refusal> {
    let one = head
        .uri
        .path()
        .strip_prefix("/v1/models/")
        .filter(|model| !model.is_empty());
    let list = *endpoint == Endpoint::Models;
    if !list && (one.is_none() || head.method != Method::GET) {
        return Ok(None);
    }
    if head.method != Method::GET && head.method != Method::HEAD {
        return Err(Refusal::new(
            Code::MethodNotAllowed,
            "/v1/models can only be read.",
        ));
    }
    let usable = snapshot
        .router
        .models(&snapshot.prices)
        .into_iter()
        .filter(|model| caller.may_use(model));
    let body = match one {
        Some(wanted) => {
            let listed = usable.into_iter().find(|model| model == wanted);
            let routed = || {
                let name = ModelName::new(wanted);
                let found = snapshot
                    .router
                    .route(&chat_of(dialect), dialect, Some(&name))
                    .is_ok();
                (found && caller.may_use(wanted)).then(|| wanted.to_owned())
            };
            let model = listed
                .or_else(routed)
                .ok_or_else(|| unknown(&ModelName::new(wanted)))?;
            describe(&model, dialect)
        }
        None => {
            let data: Vec<Value> = usable.map(|model| describe(&model, dialect)).collect();
            match dialect {
                Dialect::Anthropic => json!({
                    "first_id": data.first().map(|model| &model["id"]),
                    "last_id": data.last().map(|model| &model["id"]),
                    "has_more": false,
                    "data": data,
                }),
                Dialect::OpenAi | Dialect::Azure => json!({ "object": "list", "data": data }),
            }
        }
    };
    let mut response = Response::new(AnswerBody::whole(body.to_string()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    Ok(Some(response))
}

/// A model that the caller cannot use, whether or not it exists: which of both is not told.
pub(super) fn unknown(model: &ModelName) -> Refusal {
    Refusal::new(
        Code::ModelNotFound,
        format!("The model `{model}` does not exist or you do not have access to it."),
    )
    .param("model")
}

fn describe(model: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::Anthropic => {
            json!({ "type": "model", "id": model, "display_name": model, "created_at": "1970-01-01T00:00:00Z" })
        }
        Dialect::OpenAi | Dialect::Azure => {
            json!({ "id": model, "object": "model", "created": 0, "owned_by": "weir" })
        }
    }
}

fn chat_of(dialect: Dialect) -> Endpoint {
    if dialect == Dialect::Anthropic {
        Endpoint::Messages
    } else {
        Endpoint::ChatCompletions
    }
}
