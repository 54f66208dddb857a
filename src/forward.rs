//! The upstream call: sent again only when it provably was not processed, or where the configuration asks for it, and
//! never after the first byte of an answer.

mod departure;

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;

use crate::admit::{Admitted, LimitHeaders};
use crate::answer::{AnswerBody, Passing};
use crate::dialect::Endpoint;
use crate::dialect::error_body::Code;
use crate::dialect::splice::{self, Edit};
use crate::exchange::{Exchange, Settled};
use crate::gateway::Gateway;
use crate::headers;
use crate::ledger::{Entry, LedgerError, Outcome};
use crate::measure::{Charge, Question};
use crate::meter::{ContentEncoding, Meter, MeterCaps, MeterSettings};
use crate::refuse::Refusal;
use crate::request::{Frame, RequestBody, let_others_first};
use crate::upstream::{AccessChange, Answer, CallError, OutgoingBody, Upstream, failure_kind};
use departure::Departure;

/// An answer of up to this size that is no stream is collected before its head goes out, so that the head can name its cost.
const COLLECTED_BYTES: usize = 1024 * 1024;
/// The pause before another try at an upstream, doubled each time.
const BACKOFF: Duration = Duration::from_millis(100);
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// What goes out, once it is known where to.
pub(crate) struct Outgoing {
    method: Method,
    /// What followed `/v1` in the client's request.
    path: String,
    headers: HeaderMap,
    body: RequestBody,
}

impl Outgoing {
    /// The client's request without what concerns its own connection only; its target and headers are taken.
    pub(crate) fn new(head: &mut Parts, body: RequestBody) -> Outgoing {
        let uri = std::mem::take(&mut head.uri);
        let all = uri.path_and_query().map_or("/", |all| all.as_str());
        let path = all.strip_prefix("/v1").unwrap_or(all).to_owned();
        let mut headers = std::mem::take(&mut head.headers);
        headers::for_upstream(&mut headers);
        Outgoing {
            method: head.method.clone(),
            path,
            headers,
            body,
        }
    }
}

/// An admitted request that is known to the journal, on its way.
pub(crate) struct Journey<'a> {
    departure: Departure,
    call: Calling<'a>,
    upstreams: Vec<Arc<Upstream>>,
    limit_headers: LimitHeaders,
}

/// Puts an admitted request down for the journal, which [`forward`] sees written.
///
/// # Errors
/// `overloaded`: when the journal does not take it; `model_not_found`: when its route has no upstream.
pub(crate) fn begin<'a>(
    gateway: &'a Arc<Gateway>,
    frame: &mut Frame,
    admitted: Admitted,
    question: Question,
    outgoing: Outgoing,
) -> Result<Journey<'a>, Refusal> {
    let Admitted {
        admission,
        upstreams,
        rename,
        edits,
        headers: limit_headers,
        allowance,
        model: _,
    } = admitted;
    let Some(first) = upstreams.first() else {
        return Err(Refusal::new(
            Code::ModelNotFound,
            "The route has no upstream.",
        ));
    };
    let mut entry = match frame.entry(0, Outcome::Interrupted) {
        Some(entry) => entry,
        None => return Err(Refusal::new(Code::Internal, "The request has no caller.")),
    };
    entry.upstream = Some(first.settings.id.clone());
    if question.charge != Charge::Free {
        admission.foresee(&mut entry);
    }
    let put_down = gateway.ledger.put_begin(&entry);
    put_down.map_err(|error| unrecorded(gateway, &error))?;
    forget_foreseen(&mut entry);
    let Some(in_flight) = frame.in_flight.take() else {
        return Err(Refusal::new(
            Code::Internal,
            "The request is in flight twice.",
        ));
    };
    let exchange = Box::new(Exchange {
        gateway: Arc::clone(gateway),
        snapshot: Arc::clone(&frame.snapshot),
        upstream: Arc::clone(first),
        slot: None,
        admission,
        allowance,
        cut: None,
        question,
        entry,
        incomplete: false,
        billed_beside: false,
        started: frame.started,
        first_token: None,
        in_flight,
        place: frame.place.take(),
        in_company: false,
    });
    let repeatable = upstreams.len() > 1 || first.settings.retries > 0;
    Ok(Journey {
        departure: Departure {
            call: None,
            exchange: Some(exchange),
        },
        call: Calling {
            gateway,
            outgoing,
            repeatable,
            edits,
            rename,
        },
        upstreams,
        limit_headers,
    })
}

/// Sends a request upstream and turns the answer towards the client. Where no upstream of the route answered, the answer
/// says so: `upstream_unreachable`, `upstream_timeout`, `overloaded`.
///
/// # Errors
/// `overloaded`: when the journal could not be written. Nothing was sent then.
pub(crate) async fn forward(
    frame: &mut Frame,
    journey: &mut Journey<'_>,
) -> Result<Response<AnswerBody>, Refusal> {
    let gateway = journey.call.gateway;
    let_others_first(gateway).await;
    if let Err(error) = gateway.ledger.write_begin(frame.id) {
        // Its refusal is what is booked.
        journey.departure.exchange = None;
        return Err(unrecorded(gateway, &error));
    }
    gateway.metrics.overhead.observe(frame.started.elapsed());

    let departure = &mut journey.departure;
    let answered = journey.call.try_all(departure, &journey.upstreams).await;
    let Some(exchange) = departure.exchange.take() else {
        return Err(Refusal::new(
            Code::Internal,
            "The request was settled twice.",
        ));
    };
    let limit_headers = std::mem::take(&mut journey.limit_headers);
    match answered {
        Ok(answer) => {
            let (mut response, settled) = pass(exchange, answer).await;
            frame.put_down = settled.is_some();
            frame.sign(response.headers_mut());
            limit_headers.apply(response.headers_mut(), settled.as_ref());
            Ok(response)
        }
        Err(error) => {
            let refusal = unanswered(&error);
            let status = refusal.status().as_u16();
            let settled = exchange.settle_unanswered(status, Outcome::UpstreamFailed);
            let mut response = refusal.response(frame.dialect, frame.id);
            limit_headers.apply(response.headers_mut(), Some(&settled));
            Ok(response)
        }
    }
}

fn unrecorded(gateway: &Gateway, error: &LedgerError) -> Refusal {
    gateway.metrics.event("journal_failed", "begin");
    Refusal::new(
        Code::Overloaded,
        "The gateway cannot record requests just now.",
    )
    .retry_after(Duration::from_secs(1))
    .detail(error.to_string())
}

/// Takes out of the prefilled entry what was foreseen only for the case that the gateway dies.
fn forget_foreseen(entry: &mut Entry) {
    entry.usage = Default::default();
    entry.usage_source = Default::default();
    entry.cost = Default::default();
    entry.undiscounted = Default::default();
    entry.priced_by = Vec::new();
    entry.reason = None;
}

/// One request on its way to one upstream after the other.
struct Calling<'a> {
    gateway: &'a Arc<Gateway>,
    outgoing: Outgoing,
    /// Whether there may be a second call; the headers of an only one need not be kept.
    repeatable: bool,
    edits: Vec<Edit>,
    rename: Option<crate::ids::ModelName>,
}

impl Calling<'_> {
    /// Tries each upstream in order until one gives an answer that should reach the client.
    async fn try_all(
        &mut self,
        departure: &mut Departure,
        upstreams: &[Arc<Upstream>],
    ) -> Result<Answer, CallError> {
        let mut last = None;
        for (index, upstream) in upstreams.iter().enumerate() {
            let others_left = index + 1 < upstreams.len();
            let mut tries_left = upstream.settings.retries;
            let mut pause = BACKOFF;
            departure.aim(upstream, index > 0);
            loop {
                let result = self.call(departure, upstream).await;
                let again = match &result {
                    Ok(answer) => is_passing_failure(answer.status()),
                    // A request that may have been processed is sent again only where the operator asked for retries.
                    Err(error) => error.certainly_not_processed() || upstream.settings.retries > 0,
                };
                match &result {
                    Err(error) => {
                        self.failed(departure, upstream, error.kind(), &error.to_string())
                    }
                    Ok(answer) => self.answered(upstream, answer.status()),
                }
                if again && tries_left > 0 {
                    tries_left -= 1;
                    departure.retry();
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                    continue;
                }
                if again && others_left {
                    last = Some(result);
                    break;
                }
                return result;
            }
        }
        last.unwrap_or(Err(CallError::Full(0)))
    }

    /// Counts an answer that is a failure. That an upstream refuses the gateway's own key is told at its beginning and at its
    /// end: clients see only that their requests fail, and cannot mend it.
    fn answered(&self, upstream: &Upstream, status: StatusCode) {
        let id = &upstream.settings.id;
        if let Some(kind) = failure_kind(status) {
            self.gateway.metrics.upstream_error(id.as_str(), kind);
        }
        match upstream.note_access(status) {
            Some(AccessChange::Refused) => {
                let status = status.as_u16();
                tracing::warn!(upstream = %id, status, "an upstream refuses the gateway's api_key");
            }
            Some(AccessChange::Granted) => {
                tracing::info!(upstream = %id, "an upstream takes the gateway's api_key again");
            }
            None => {}
        }
    }

    fn failed(&self, departure: &Departure, upstream: &Upstream, kind: &'static str, error: &str) {
        self.gateway
            .metrics
            .upstream_error(upstream.settings.id.as_str(), kind);
        if let Some(exchange) = &departure.exchange {
            let at = upstream.settings.base_url.place();
            tracing::warn!(id = %exchange.entry.id, upstream = %upstream.settings.id, %at, error, "an upstream call failed");
        }
    }

    /// One call, bounded by the time to connect and the time for the first byte.
    async fn call(
        &mut self,
        departure: &mut Departure,
        upstream: &Arc<Upstream>,
    ) -> Result<Answer, CallError> {
        let slot = upstream.slot().await?;
        let Some(exchange) = &departure.exchange else {
            return Err(CallError::Full(0));
        };
        let (headers, body) = self.message(exchange, upstream);
        let outgoing = &self.outgoing;
        let started = upstream.call(outgoing.method.clone(), &outgoing.path, headers, body);
        let future = started.map_err(|_| CallError::Full(0))?;
        if let Some(exchange) = &mut departure.exchange {
            exchange.slot = Some(slot);
        }
        let timeouts = &upstream.settings.timeouts;
        let call = departure.call.insert(future);
        let mut answered = tokio::time::timeout(timeouts.first_byte, &mut *call).await;
        if answered.is_err() && !call.may_have_been_sent() {
            // Only now is it sent, if its connection comes about at all.
            answered = tokio::time::timeout(timeouts.connect, call).await;
        }
        departure.call = None;
        match answered {
            Ok(result) => {
                upstream.note(&result);
                let answer = result?;
                // Nobody asked for another protocol: passed on, the client would take what follows for one.
                if answer.status().is_informational() {
                    return Err(CallError::Switched(answer.status()));
                }
                Ok(answer)
            }
            Err(_) => Err(upstream.note_silent()),
        }
    }

    /// Headers and body for one upstream: the client's own, with the smallest splice that the rules ask for.
    fn message(&mut self, exchange: &Exchange, upstream: &Upstream) -> (HeaderMap, OutgoingBody) {
        let question = &exchange.question;
        let mut headers = if self.repeatable {
            self.outgoing.headers.clone()
        } else {
            std::mem::take(&mut self.outgoing.headers)
        };
        let body = &self.outgoing.body;
        let ask = &question.ask;
        if exchange.allowance.is_some() {
            // An encoded answer could not be ended early.
            headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        }
        let mut edits = self.edits.clone();
        let renamed = self.rename.as_ref();
        edits.extend(renamed.and_then(|model| splice::rename(ask, model)));
        if injects_usage(question, upstream) {
            edits.extend(splice::include_usage(ask));
            // A compressed answer cannot be spliced; every provider sends event streams plain when asked to.
            headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        }
        if edits.is_empty() {
            return (headers, OutgoingBody::new(vec![body.raw.clone()]));
        }
        if body.encoded {
            headers.remove(header::CONTENT_ENCODING);
        }
        let pieces = splice::apply(&body.plain, edits).pieces;
        (headers, OutgoingBody::new(pieces))
    }
}

/// Whether an upstream is asked for the usage chunk of a stream though the client did not ask: what that causes is taken
/// out of the answer again.
fn injects_usage(question: &Question, upstream: &Upstream) -> bool {
    let completions = matches!(
        question.endpoint,
        Endpoint::ChatCompletions | Endpoint::Completions
    );
    completions
        && question.ask.stream
        && upstream.settings.include_usage
        && !question.ask.asks_usage()
}

/// Turns an upstream's answer towards the client. Small answers are settled before their head goes out.
async fn pass(
    mut exchange: Box<Exchange>,
    answer: Answer,
) -> (Response<AnswerBody>, Option<Settled>) {
    let (mut head, body) = answer.into_parts();
    exchange.entry.status = head.status.as_u16();
    headers::for_client(&mut head.headers);
    let is_metered = exchange.question.metered_as().is_metered();
    let is_due = is_metered && exchange.question.ask.stream && head.status.is_success();
    let event_stream = is_event_stream(&head.headers, is_due);
    let encoding = head
        .headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("unknown"));
    let encoding = encoding.and_then(ContentEncoding::of_header);
    let injected = injects_usage(&exchange.question, &exchange.upstream);
    let strip_usage = event_stream && encoding.is_none() && injected;
    if strip_usage {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let meter = Meter::new(MeterSettings {
        endpoint: exchange.question.metered_as(),
        dialect: exchange.upstream.settings.dialect,
        event_stream,
        encoding,
        strip_usage,
        caps: MeterCaps::default(),
    });
    // Sound that is made goes out as it comes.
    let tells_cost =
        is_metered || (exchange.question.endpoint.may_report() && is_json(&head.headers));
    // An answer without a body (to a HEAD, 204, 304) has ended: nobody asks for its end.
    let collects = (!event_stream && tells_cost) || body.is_end_stream();
    let may_be_cut = exchange.allowance.is_some() && head.status.is_success();
    if may_be_cut {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let unchanged = !strip_usage && !may_be_cut;
    let mut passing = Box::new(Passing::new(body, meter, exchange, unchanged));
    let settled = if collects {
        passing.collect(COLLECTED_BYTES).await
    } else {
        None
    };
    if let Some(settled) = settled.filter(|settled| !settled.unpriced)
        && let Ok(cost) = HeaderValue::try_from(settled.cost.to_string())
    {
        head.headers.insert(headers::COST_USD, cost);
    }
    let response = Response::from_parts(head, AnswerBody::passing(passing));
    (response, settled)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

/// Whether an answer is an event stream: it says so, or a stream is due and it says nothing better. (Some servers call
/// their streams `text/plain`, or nothing.)
fn is_event_stream(headers: &HeaderMap, is_due: bool) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let is = |wanted: &str| {
        content_type
            .and_then(|value| value.trim_start().get(..wanted.len()))
            .is_some_and(|start| start.eq_ignore_ascii_case(wanted))
    };
    let is_vague = content_type.is_none() || is("text/plain") || is("application/octet-stream");
    is("text/event-stream") || (is_due && is_vague)
}

/// A status that says "not now" before anything was done, so that another try or another upstream may answer.
fn is_passing_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504 | 529)
}

fn unanswered(error: &CallError) -> Refusal {
    match error {
        CallError::Silent(_) => Refusal::new(
            Code::UpstreamTimeout,
            "The upstream did not answer in time.",
        ),
        CallError::Full(_) => Refusal::new(
            Code::Overloaded,
            "The upstream has as many requests as it takes.",
        ),
        CallError::Connect(_) => {
            Refusal::new(Code::UpstreamUnreachable, "The upstream cannot be reached.")
        }
        CallError::Switched(_) => Refusal::new(
            Code::UpstreamUnreachable,
            "The upstream gave no answer but changed the protocol.",
        ),
        CallError::Broken(_) => Refusal::new(
            Code::UpstreamUnreachable,
            "The upstream closed the connection without an answer.",
        ),
    }
    .detail(error.to_string())
}
