//! What the API says when it does not do what was asked: `{ "error": { "code", "message", "where" } }`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer;
use crate::changes::ChangeError;
use crate::config::ConfigErrors;
use crate::ledger::store::StoreError;
use crate::margin::MarginError;

/// A refusal or a failure.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The parameter or the body's member that is to blame.
    place: Option<String>,
    retry_after_s: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            place: None,
            retry_after_s: None,
        }
    }

    /// A parameter or a member of the body is not what it must be.
    pub(super) fn unfit(place: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError {
            place: Some(place.into()),
            ..ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message)
        }
    }

    /// There is nothing of that name.
    pub(super) fn unknown(place: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError {
            place: Some(place.into()),
            ..ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
        }
    }

    /// What was asked for contradicts what is there.
    pub(super) fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// What was asked for contradicts what is there, because of one member.
    pub(super) fn conflict_at(place: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError {
            place: Some(place.into()),
            ..ApiError::conflict(message)
        }
    }

    /// The body is larger than a change ever is.
    pub(super) fn too_large(bytes_max: usize) -> ApiError {
        let message = format!("the body has more than {bytes_max} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    /// The body did not come in time.
    pub(super) fn too_slow() -> ApiError {
        let message = "the body did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    /// The body is no JSON by its own account.
    pub(super) fn not_json() -> ApiError {
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "expected a body of content-type application/json",
        )
    }

    /// Nobody, or nobody known.
    pub(super) fn unauthorized(message: &str) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// Somebody who may not.
    pub(super) fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Too many wrong tokens came from there.
    pub(super) fn slow_down(retry_after_s: u64) -> ApiError {
        ApiError {
            retry_after_s: Some(retry_after_s),
            ..ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_attempts",
                "too many wrong tokens came from this address",
            )
        }
    }

    /// Too many reports are being made.
    pub(super) fn busy() -> ApiError {
        ApiError {
            retry_after_s: Some(5),
            ..ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "other reports are being made: none of them ended in time",
            )
        }
    }

    /// The gateway stops.
    pub(super) fn stopping() -> ApiError {
        let message = "the gateway is stopping";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// The store does not answer.
    pub(super) fn store(error: &StoreError) -> ApiError {
        tracing::error!(%error, "the admin API cannot read or write the store");
        ApiError {
            retry_after_s: Some(1),
            ..ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "the store does not answer; the gateway's log says why",
            )
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = json!({ "code": self.code, "message": self.message, "where": self.place });
        let mut response = answer::json(self.status, &json!({ "error": error }));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"weir\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> ApiError {
        let message = error.to_string();
        match error {
            ChangeError::Unknown { kind, .. } => ApiError::unknown(kind.to_string(), message),
            ChangeError::Taken { .. } => ApiError::conflict_at("id", message),
            ChangeError::Declared { kind, .. } => ApiError::conflict_at(kind.to_string(), message),
            ChangeError::Unfit { member, reason } => ApiError::conflict_at(member, reason),
            ChangeError::NoRandomness(_) => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
            ChangeError::Store(error) => error.into(),
        }
    }
}

/// A plan or limits that the configuration's readers refuse: the first mistake says where.
impl From<ConfigErrors> for ApiError {
    fn from(errors: ConfigErrors) -> ApiError {
        let lines = errors.errors.iter().map(|error| match error.key.as_str() {
            "" => error.message.clone(),
            key => format!("{key} {}", error.message),
        });
        let message = lines.collect::<Vec<_>>().join("; ");
        let place = errors.errors.first().map(|error| error.key.clone());
        ApiError::unfit(place.unwrap_or_default(), message)
    }
}

impl From<MarginError> for ApiError {
    fn from(error: MarginError) -> ApiError {
        match error {
            MarginError::Store(error) => error.into(),
            MarginError::EmptyRange { .. } => ApiError::unfit("until", error.to_string()),
            MarginError::NoSuchPlan(_) => ApiError::unknown("plan", error.to_string()),
            error => ApiError::conflict(error.to_string()),
        }
    }
}

/// The answer for paths that name nothing.
pub(super) async fn no_such_resource() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is no such resource: /api/v1/openapi.json lists them all",
    )
}

/// The answer for a method that a resource does not have; the `allow` header says which it has.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this resource has no such method: /api/v1/openapi.json lists them all",
    )
}
