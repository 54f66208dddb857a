//! One operation of the API: its route, its door and its part of the OpenAPI document, declared in one place.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::Console;
use super::access::{self, Role};
use super::ask::Ask;
use super::error::ApiError;

/// One operation. Paths are relative to `/api/v1`.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// Who may; `None` is everyone.
    pub(super) role: Option<Role>,
    pub(super) query: &'static [Param],
    /// The schema of the body.
    pub(super) body: Option<&'static str>,
    /// Status and content of the answer when all goes well.
    pub(super) answer: (u16, Content),
    /// Further statuses, beside those that follow from the rest.
    pub(super) statuses: &'static [u16],
    pub(super) handler: MethodRouter<Arc<Console>>,
}

/// What an answer holds.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// Nothing.
    Nothing,
    /// JSON of that schema.
    Json(&'static str),
    /// One object of that schema, or a file in another format.
    Files,
}

/// A query parameter.
#[derive(Clone, Copy)]
pub(super) struct Param {
    /// Its name.
    pub(super) name: &'static str,
    /// The schema of its value.
    pub(super) schema: &'static str,
    /// What it means.
    pub(super) about: &'static str,
    /// Whether it may be given more than once.
    pub(super) many: bool,
    /// Whether it must be given.
    pub(super) needed: bool,
}

impl Param {
    /// A parameter that may be left out.
    pub(super) const fn new(
        name: &'static str,
        schema: &'static str,
        about: &'static str,
    ) -> Param {
        Param {
            name,
            schema,
            about,
            many: false,
            needed: false,
        }
    }

    /// The same, given as often as one likes.
    pub(super) const fn many(self) -> Param {
        Param { many: true, ..self }
    }

    /// The same, but it must be given.
    pub(super) const fn needed(self) -> Param {
        Param {
            needed: true,
            ..self
        }
    }
}

/// The parameters of every list.
pub(super) const LIMIT: Param = Param::new("limit", "PageLimit", "Items a page: 100 unless given");
/// See [`LIMIT`].
pub(super) const CURSOR: Param = Param::new("cursor", "Cursor", "The `next` of the page before");
/// The time range of reports.
pub(super) const SINCE: Param = Param::new(
    "since",
    "Moment",
    "First moment (inclusive): RFC 3339 or a date in UTC; the first of this month unless given",
);
/// See [`SINCE`].
pub(super) const UNTIL: Param = Param::new(
    "until",
    "Moment",
    "Last moment (exclusive): RFC 3339 or a date in UTC; now unless given",
);

impl Operation {
    /// An operation that everyone with a role of at least `role` may use.
    pub(super) fn new(
        method: Method,
        path: &'static str,
        name: &'static str,
        role: Role,
        handler: MethodRouter<Arc<Console>>,
    ) -> Operation {
        Operation {
            method,
            path,
            name,
            summary: "",
            role: Some(role),
            query: &[],
            body: None,
            answer: (200, Content::Nothing),
            statuses: &[],
            handler,
        }
    }

    /// What it does, in one sentence.
    pub(super) fn says(self, summary: &'static str) -> Operation {
        Operation { summary, ..self }
    }

    /// The same without a door.
    pub(super) fn open(self) -> Operation {
        Operation { role: None, ..self }
    }

    /// Its query parameters.
    pub(super) fn asks(self, query: &'static [Param]) -> Operation {
        Operation { query, ..self }
    }

    /// The schema of its body.
    pub(super) fn takes(self, body: &'static str) -> Operation {
        Operation {
            body: Some(body),
            ..self
        }
    }

    /// Its answer.
    pub(super) fn gives(self, status: u16, content: Content) -> Operation {
        Operation {
            answer: (status, content),
            ..self
        }
    }

    /// Further statuses.
    pub(super) fn may(self, statuses: &'static [u16]) -> Operation {
        Operation { statuses, ..self }
    }

    /// The whole path.
    pub(super) fn route(&self) -> String {
        format!("/api/v1{}", self.path)
    }

    /// The handler behind its door.
    pub(super) fn guarded(self, console: &Arc<Console>) -> MethodRouter<Arc<Console>> {
        let door = Door {
            console: Arc::clone(console),
            role: self.role,
            query: self.query,
        };
        self.handler.route_layer(from_fn_with_state(door, enter))
    }
}

/// What stands before a handler.
#[derive(Clone)]
struct Door {
    console: Arc<Console>,
    role: Option<Role>,
    query: &'static [Param],
}

async fn enter(
    State(door): State<Door>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(role) = door.role {
        let caller = access::identify(&door.console, &request)?;
        if caller.role < role {
            return Err(ApiError::forbidden(format!(
                "the role {} may not do this, it needs {role}",
                caller.role
            )));
        }
        request.extensions_mut().insert(caller);
    }
    let ask = Ask::of(request.uri().query())?;
    let known = |name: &str| door.query.iter().any(|param| param.name == name);
    if let Some(unknown) = ask.names().find(|name| !known(name)) {
        let names: Vec<&str> = door.query.iter().map(|param| param.name).collect();
        let expected = match names.as_slice() {
            [] => "no parameters".to_owned(),
            names => names.join(", "),
        };
        let shown: String = unknown.chars().take(60).collect();
        return Err(ApiError::unfit(
            shown,
            format!("is no parameter of this resource, expected {expected}"),
        ));
    }
    for param in door.query.iter().filter(|param| param.needed) {
        if ask.all(param.name).next().is_none() {
            return Err(ApiError::unfit(param.name, "is missing"));
        }
    }
    Ok(next.run(request).await)
}
