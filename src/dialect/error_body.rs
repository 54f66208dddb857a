//! How an error of the gateway looks in each dialect, so that SDKs raise the exception they would for the provider's own.

use serde_json::json;

use super::Dialect;

/// What went wrong, as `error.code` names it. Status and type follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body or a header is not what it must be.
    InvalidRequest,
    /// No key, or one that is unknown, revoked or expired.
    InvalidApiKey,
    /// The key is good, but not for this.
    PermissionDenied,
    /// The model has no price and such models are refused.
    UnpricedModel,
    /// No such path.
    NotFound,
    /// No route leads to the model.
    ModelNotFound,
    /// The path is there, but not for this method.
    MethodNotAllowed,
    /// The body is larger than allowed.
    RequestTooLarge,
    /// The client took too long to send its request.
    RequestTimeout,
    /// A limit is reached and will have room again: waiting helps.
    RateLimitExceeded,
    /// What an account may spend is spent: waiting a moment does not help.
    InsufficientQuota,
    /// The gateway failed.
    Internal,
    /// The upstream could not be reached or broke off before its answer began.
    UpstreamUnreachable,
    /// The gateway has more work than it takes.
    Overloaded,
    /// The upstream took too long.
    UpstreamTimeout,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 15] = [
        Code::InvalidRequest,
        Code::InvalidApiKey,
        Code::PermissionDenied,
        Code::UnpricedModel,
        Code::NotFound,
        Code::ModelNotFound,
        Code::MethodNotAllowed,
        Code::RequestTooLarge,
        Code::RequestTimeout,
        Code::RateLimitExceeded,
        Code::InsufficientQuota,
        Code::Internal,
        Code::UpstreamUnreachable,
        Code::Overloaded,
        Code::UpstreamTimeout,
    ];

    /// The text in `error.code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest => "invalid_request",
            Code::InvalidApiKey => "invalid_api_key",
            Code::PermissionDenied => "permission_denied",
            Code::UnpricedModel => "unpriced_model",
            Code::NotFound => "not_found",
            Code::ModelNotFound => "model_not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::RequestTooLarge => "request_too_large",
            Code::RequestTimeout => "request_timeout",
            Code::RateLimitExceeded => "rate_limit_exceeded",
            Code::InsufficientQuota => "insufficient_quota",
            Code::Internal => "internal_error",
            Code::UpstreamUnreachable => "upstream_unreachable",
            Code::Overloaded => "overloaded",
            Code::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// The HTTP status. SDKs choose their exception by it.
    pub fn status(self) -> http::StatusCode {
        use http::StatusCode;
        match self {
            Code::InvalidRequest => StatusCode::BAD_REQUEST,
            Code::InvalidApiKey => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied | Code::UnpricedModel => StatusCode::FORBIDDEN,
            Code::NotFound | Code::ModelNotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Code::RateLimitExceeded | Code::InsufficientQuota => StatusCode::TOO_MANY_REQUESTS,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::UpstreamUnreachable => StatusCode::BAD_GATEWAY,
            Code::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// `error.type` as OpenAI names it.
    pub fn openai_type(self) -> &'static str {
        match self {
            Code::InvalidRequest
            | Code::InvalidApiKey
            | Code::PermissionDenied
            | Code::UnpricedModel
            | Code::NotFound
            | Code::ModelNotFound
            | Code::MethodNotAllowed
            | Code::RequestTooLarge
            | Code::RequestTimeout => "invalid_request_error",
            Code::RateLimitExceeded => "rate_limit_error",
            Code::InsufficientQuota => "insufficient_quota",
            Code::Internal
            | Code::UpstreamUnreachable
            | Code::Overloaded
            | Code::UpstreamTimeout => "server_error",
        }
    }

    /// `error.type` as Anthropic names it (docs.anthropic.com, "Errors"; anthropic-sdk-python `types/shared`).
    pub fn anthropic_type(self) -> &'static str {
        match self {
            Code::InvalidRequest | Code::MethodNotAllowed | Code::RequestTimeout => {
                "invalid_request_error"
            }
            Code::InvalidApiKey => "authentication_error",
            Code::PermissionDenied | Code::UnpricedModel => "permission_error",
            Code::NotFound | Code::ModelNotFound => "not_found_error",
            Code::RequestTooLarge => "request_too_large",
            Code::RateLimitExceeded | Code::InsufficientQuota => "rate_limit_error",
            Code::Internal | Code::UpstreamUnreachable => "api_error",
            Code::Overloaded => "overloaded_error",
            Code::UpstreamTimeout => "timeout_error",
        }
    }
}

/// The JSON body of an error. `request_id` is the ledger's id; Anthropic's shape has a place for it.
pub fn body(
    dialect: Dialect,
    code: Code,
    message: &str,
    param: Option<&str>,
    request_id: Option<&str>,
) -> Vec<u8> {
    let body = match dialect {
        Dialect::OpenAi | Dialect::Azure => json!({ "error": {
            "message": message,
            "type": code.openai_type(),
            "param": param,
            "code": code.as_str(),
        } }),
        Dialect::Anthropic => json!({
            "type": "error",
            "error": {
                "type": code.anthropic_type(),
                "message": message,
                "code": code.as_str(),
            },
            "request_id": request_id,
        }),
    };
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parsed(dialect: Dialect, code: Code) -> Value {
        let body = body(dialect, code, "say \"why\"", Some("model"), Some("req_1"));
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn openais_shape_has_message_type_param_and_code() {
        let error = parsed(Dialect::OpenAi, Code::InvalidApiKey);
        let expected = json!({"error": {"message": "say \"why\"", "type": "invalid_request_error", "param": "model", "code": "invalid_api_key"}});
        assert_eq!(error, expected);
        assert_eq!(parsed(Dialect::Azure, Code::InvalidApiKey), expected);
    }

    #[test]
    fn anthropics_shape_has_its_own_types_beside_our_code() {
        let error = parsed(Dialect::Anthropic, Code::ModelNotFound);
        let expected = json!({
            "type": "error",
            "error": {"type": "not_found_error", "message": "say \"why\"", "code": "model_not_found"},
            "request_id": "req_1",
        });
        assert_eq!(error, expected);
    }

    #[test]
    fn every_code_has_an_error_status_and_a_name_of_its_own() {
        let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(Code::ALL.iter().all(|code| code.status().as_u16() >= 400));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn the_documented_codes_have_the_documented_statuses() {
        for (code, name, status) in [
            (Code::InvalidApiKey, "invalid_api_key", 401),
            (Code::ModelNotFound, "model_not_found", 404),
            (Code::RateLimitExceeded, "rate_limit_exceeded", 429),
            (Code::InsufficientQuota, "insufficient_quota", 429),
            (Code::UnpricedModel, "unpriced_model", 403),
            (Code::RequestTooLarge, "request_too_large", 413),
            (Code::UpstreamUnreachable, "upstream_unreachable", 502),
            (Code::UpstreamTimeout, "upstream_timeout", 504),
            (Code::Overloaded, "overloaded", 503),
        ] {
            assert_eq!((code.as_str(), code.status().as_u16()), (name, status));
        }
    }
}
