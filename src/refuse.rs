//! Every refusal by the gateway itself: status, headers and a body in the client's dialect.
//!
//! A refusal has two texts: what the client may know, and what the operator must know.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::answer::AnswerBody;
use crate::dialect::Dialect;
use crate::dialect::error_body::{self, Code};
use crate::headers;
use crate::ids::RequestId;

/// Why a request goes no further.
#[derive(Debug)]
pub struct Refusal {
    /// What went wrong, as `error.code` names it.
    pub code: Code,
    /// For the client.
    pub message: String,
    /// The member of the body at fault.
    pub param: Option<String>,
    /// For the operator, where it says more than the client's text.
    pub detail: Option<String>,
    /// For the ledger: the limit that refused, or the code.
    pub reason: Option<Arc<str>>,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
    /// More headers of the answer.
    pub headers: Box<HeaderMap>,
}

impl Refusal {
    /// A refusal with the code's own status and no more than a text for the client.
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            param: None,
            detail: None,
            reason: None,
            retry_after: None,
            headers: Box::default(),
        }
    }

    /// Names the member of the body at fault.
    pub fn param(mut self, param: impl Into<String>) -> Refusal {
        self.param = Some(param.into());
        self
    }

    /// Adds what only the operator should read.
    pub fn detail(mut self, detail: impl Into<String>) -> Refusal {
        self.detail = Some(detail.into());
        self
    }

    /// Says when another try makes sense.
    pub fn retry_after(mut self, after: Duration) -> Refusal {
        self.retry_after = Some(after);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// What the ledger says of it.
    pub fn ledger_reason(&self) -> Arc<str> {
        self.reason
            .clone()
            .unwrap_or_else(|| self.code.as_str().into())
    }

    /// The answer in the client's dialect.
    pub fn response(self, dialect: Dialect, id: RequestId) -> Response<AnswerBody> {
        let id = id.to_string();
        let body = error_body::body(
            dialect,
            self.code,
            &self.message,
            self.param.as_deref(),
            Some(&id),
        );
        let status = self.status();
        let mut response = Response::new(AnswerBody::whole(body));
        *response.status_mut() = status;
        let map = response.headers_mut();
        *map = *self.headers;
        map.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        insert_text(map, headers::REQUEST_ID, &id);
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: a client that obeys must not come too early.
            let seconds = after
                .as_secs()
                .saturating_add(u64::from(after.subsec_nanos() > 0))
                .max(1);
            map.insert(header::RETRY_AFTER, headers::number(seconds));
        }
        match self.code {
            Code::InsufficientQuota => {
                map.insert(headers::SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            // The rest of an unread request body cannot be told from a next request.
            Code::RequestTooLarge | Code::RequestTimeout => {
                map.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

fn insert_text(map: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        map.insert(name, value);
    }
}
