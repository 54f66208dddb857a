//! A request's life, top to bottom: identify, route, admit, forward, meter, price, settle.
//!
//! The order of the steps is here and nowhere else. Each step's detail lives in its own room; what a step found out is a
//! value that the next step takes. The frame round the steps (id, clock, the entry of a refusal) is [`serve`].

mod body;
mod models;
mod tags;

pub(crate) use body::RequestBody;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;

use crate::admit;
use crate::answer::AnswerBody;
use crate::dialect::ask::{self, Ask};
use crate::dialect::error_body::Code;
use crate::dialect::{Dialect, Endpoint};
use crate::exchange::traffic_key;
use crate::forward::{self, Outgoing};
use crate::gateway::Gateway;
use crate::headers;
use crate::identify::{Caller, identify};
use crate::ids::RequestId;
use crate::ledger::{Entry, Outcome};
use crate::measure::Question;
use crate::metrics::{InFlight, Observation};
use crate::refuse::Refusal;
use crate::snapshot::Snapshot;

/// Serves one request on the data path. Every request that carried a valid key ends as one ledger entry, refused ones too.
pub async fn serve(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<AnswerBody> {
    let mut frame = Frame::new(&gateway, request.uri().path(), request.headers());
    match live(&gateway, &mut frame, request, peer).await {
        Ok(response) => response,
        Err(refusal) => frame.refuse(&gateway, refusal),
    }
}

/// The steps.
async fn live(
    gateway: &Arc<Gateway>,
    frame: &mut Frame,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<AnswerBody>, Refusal> {
    let snapshot = Arc::clone(&frame.snapshot);
    let endpoint = frame.endpoint.clone().ok_or_else(no_such_path)?;
    let (head, body) = request.into_parts();

    let caller = identify(
        &head.headers,
        &snapshot.directory,
        &gateway.pepper,
        frame.started_at,
    )?;
    frame.caller = Some(caller.clone());
    frame.tags = tags::read(&head.headers);
    caller.permit(peer.ip(), frame.started_at)?;
    check_framing(&head)?;
    if let Some(listing) = models::answer(&endpoint, &head, &snapshot, &caller, frame.dialect)? {
        return Ok(frame.answered_here(gateway, listing));
    }

    let body = body::read(&head, body, &snapshot.config.server).await?;
    let ask = ask::read(&endpoint, &body.plain).map_err(refuse_ask)?;
    frame.ask(&ask);
    if let Some(model) = &ask.model
        && !caller.may_use(model.as_str())
    {
        return Err(models::unknown(model));
    }

    let route = snapshot
        .router
        .route(&endpoint, frame.dialect, ask.model.as_ref())?;
    let applicant = admit::Applicant {
        id: frame.id,
        caller: &caller,
        endpoint: &endpoint,
        dialect: frame.dialect,
        ask: &ask,
        body: &body.plain,
    };
    let admitted = admit::admit(gateway, &snapshot, applicant, route).await?;

    let question = Question {
        fetched: models::fetches_response(&endpoint, &head.method),
        unmetered: !endpoint.is_metered() && !models::is_free(&endpoint, &head.method),
        endpoint,
        model: admitted.model.clone(),
        body: body.plain.clone(),
        ask,
    };
    let outgoing = Outgoing::new(head, body);
    forward::forward(gateway, frame, admitted, question, outgoing).await
}

/// What is known of a request whatever becomes of it.
pub(crate) struct Frame {
    pub(crate) id: RequestId,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) started: Instant,
    pub(crate) started_at: Timestamp,
    pub(crate) dialect: Dialect,
    pub(crate) in_flight: Option<InFlight>,
    endpoint: Option<Endpoint>,
    caller: Option<Caller>,
    tags: Vec<(Arc<str>, Arc<str>)>,
    asked: Asked,
}

/// What the body said, for the entry.
#[derive(Default)]
struct Asked {
    model: Option<crate::ids::ModelName>,
    stream: bool,
    end_user: Option<Arc<str>>,
}

impl Frame {
    fn new(gateway: &Arc<Gateway>, path: &str, headers: &HeaderMap) -> Frame {
        let endpoint = Endpoint::of_path(path);
        let dialect = match &endpoint {
            // A path that both dialects have: Anthropic's SDKs always send this header.
            Some(Endpoint::Other(_) | Endpoint::Models) | None
                if headers.contains_key("anthropic-version") =>
            {
                Dialect::Anthropic
            }
            Some(endpoint) => endpoint.error_dialect(),
            None => Dialect::OpenAi,
        };
        Frame {
            id: RequestId::new(),
            snapshot: gateway.snapshot(),
            started: Instant::now(),
            started_at: Timestamp::now(),
            dialect,
            in_flight: Some(gateway.metrics.in_flight()),
            endpoint,
            caller: None,
            tags: Vec::new(),
            asked: Asked::default(),
        }
    }

    fn ask(&mut self, ask: &Ask) {
        self.asked = Asked {
            model: ask.model.clone(),
            stream: ask.stream,
            end_user: ask.end_user.as_deref().map(Arc::from),
        };
    }

    /// The entry as far as it is known; `None` for a stranger, who has no account to book it on.
    pub(crate) fn entry(&self, status: u16, outcome: Outcome) -> Option<Entry> {
        let caller = self.caller.as_ref()?;
        let elapsed = self.started.elapsed();
        Some(Entry {
            id: self.id,
            started_at: self.started_at,
            ended_at: Timestamp::now().max(self.started_at),
            lineage: Arc::clone(&caller.member.lineage),
            key: caller.key.id.clone(),
            plan: caller.member.plan.id.clone(),
            endpoint: self
                .endpoint
                .as_ref()
                .map_or("other", Endpoint::as_str)
                .into(),
            model: self.asked.model.clone(),
            served_model: None,
            upstream: None,
            service_tier: None,
            status,
            outcome,
            reason: None,
            streamed: self.asked.stream,
            usage: Default::default(),
            usage_source: Default::default(),
            cost: Default::default(),
            undiscounted: Default::default(),
            priced_by: Vec::new(),
            first_token_ms: None,
            duration_ms: u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX),
            retries: 0,
            end_user: self.asked.end_user.clone(),
            tags: self.tags.clone(),
            corrects: None,
        })
    }

    /// Books a refusal of a known caller, and turns it into the answer.
    fn refuse(self, gateway: &Gateway, refusal: Refusal) -> Response<AnswerBody> {
        let detail = refusal.detail.as_deref().unwrap_or(&refusal.message);
        tracing::debug!(id = %self.id, code = refusal.code.as_str(), detail, "refused");
        if let Some(mut entry) = self.entry(refusal.status().as_u16(), Outcome::Rejected) {
            entry.reason = Some(refusal.ledger_reason());
            self.book(gateway, entry);
        }
        refusal.response(self.dialect, self.id)
    }

    /// Books a request that the gateway answered itself at no cost.
    fn answered_here(
        &self,
        gateway: &Gateway,
        mut response: Response<AnswerBody>,
    ) -> Response<AnswerBody> {
        if let Some(entry) = self.entry(response.status().as_u16(), Outcome::Completed) {
            self.book(gateway, entry);
        }
        self.sign(response.headers_mut());
        response
    }

    fn book(&self, gateway: &Gateway, entry: Entry) {
        let observation = Observation {
            duration: self.started.elapsed(),
            ..Observation::default()
        };
        gateway
            .metrics
            .observe(traffic_key(&self.snapshot, &entry), &observation);
        gateway.book(entry);
    }

    /// Puts the ledger's id on an answer.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
        let text = self.id.0.hyphenated().encode_lower(&mut text);
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(headers::REQUEST_ID, value);
        }
    }
}

fn no_such_path() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "There is nothing here: API paths begin with /v1/.",
    )
}

fn refuse_ask(error: ask::AskError) -> Refusal {
    let refusal = Refusal::new(Code::InvalidRequest, error.message);
    match error.param {
        Some(param) => refusal.param(param),
        None => refusal,
    }
}

/// Refuses what two HTTP readers in a row could frame differently, and methods that tunnel.
fn check_framing(head: &Parts) -> Result<(), Refusal> {
    let framed_twice = head.headers.contains_key(http::header::TRANSFER_ENCODING)
        && head.headers.contains_key(http::header::CONTENT_LENGTH);
    if framed_twice {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "The request has both a Content-Length and a Transfer-Encoding.",
        ));
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::new(
            Code::MethodNotAllowed,
            format!("{} is not served.", head.method),
        ));
    }
    Ok(())
}
