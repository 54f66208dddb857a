//! A request's life, top to bottom: identify, route, admit, forward, meter, price, settle.
//!
//! The order of the steps is here and nowhere else. Each step's detail lives in its own room; what a step found out is a
//! value that the next step takes. The frame round the steps (id, clock, the entry of a refusal) is [`serve`].

mod body;
mod models;
mod path;
mod places;
mod tags;

pub(crate) use body::{RequestBody, memory_kib};
pub(crate) use places::Place;
pub use places::Places;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use jiff::Timestamp;

use crate::admit::{self, TurnId};
use crate::answer::AnswerBody;
use crate::dialect::ask::{self, Ask, AskError};
use crate::dialect::error_body::Code;
use crate::dialect::{Dialect, Endpoint};
use crate::exchange::traffic_key;
use crate::forward::{self, Outgoing};
use crate::gateway::Gateway;
use crate::headers;
use crate::identify::{Caller, Peer, identify};
use crate::ids::RequestId;
use crate::ledger::{Entry, Outcome};
use crate::listen::ClientBody;
use crate::measure::{Charge, Question};
use crate::metrics::{InFlight, Observation};
use crate::refuse::Refusal;
use crate::snapshot::Snapshot;

/// Serves one request on the data path. Every request that carried a valid key ends as one ledger entry, refused ones too.
///
/// An `async fn` would hold its arguments twice, and every request's future would be as much larger.
pub fn serve(
    gateway: Arc<Gateway>,
    request: Request<ClientBody>,
    peer: Arc<Peer>,
) -> impl Future<Output = Response<AnswerBody>> {
    let (mut head, mut body) = request.into_parts();
    async move {
        // On HTTP/2 many futures may be made before the first of them has its turn: they are not in flight until then.
        let mut frame = Frame::new(&gateway, &head);
        let expects = head.headers.get(header::EXPECT);
        let expects =
            expects.is_some_and(|word| word.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let response = match live(&gateway, &mut frame, &mut head, &mut body, &peer).await {
            Ok(response) => response,
            Err(refusal) => {
                body::read_off(expects, &mut body).await;
                frame.refuse(&gateway, refusal)
            }
        };
        if frame.put_down {
            // Written when this is dropped: also when the client has gone and nobody comes back to this line.
            let records = Records(&gateway);
            let_others_first(&gateway).await;
            drop(records);
        }
        response
    }
}

/// Records that were put down while others had their turn, on behalf of all of them.
struct Records<'a>(&'a Gateway);

impl Drop for Records<'_> {
    fn drop(&mut self) {
        self.0.write_records();
    }
}

/// Lets others that are ready have their turn before something is sent.
///
/// A write to a socket is dear when whoever is at the other end sleeps and must be woken. So where several requests are
/// ready, their work comes first and their writes follow one another: the peer that the first of them wakes is then awake
/// for the rest, and code and data stay in the caches. Who is alone in flight, or nearly so, does not wait.
pub(crate) async fn let_others_first(gateway: &Gateway) {
    if gateway.metrics.in_flight_requests() > 1 {
        tokio::task::yield_now().await;
    }
}

/// The steps.
async fn live(
    gateway: &Arc<Gateway>,
    frame: &mut Frame,
    head: &mut Parts,
    body: &mut ClientBody,
    peer: &Peer,
) -> Result<Response<AnswerBody>, Refusal> {
    // What is needed until the request sets out is not held while it is on its way.
    let mut journey = {
        let snapshot = Arc::clone(&frame.snapshot);
        let endpoint = frame.endpoint.clone().ok_or_else(no_such_path)?;

        let caller = identify(
            &head.headers,
            peer,
            &snapshot,
            &gateway.pepper,
            frame.started_at,
        )?;
        frame.caller = Some(caller.clone());
        frame.tags = tags::read(&head.headers);
        caller.permit(peer.address.ip(), frame.started_at)?;
        check_target(head)?;
        frame.place = Some(find_place(gateway, &snapshot, &caller)?);
        if let Some(listing) = models::answer(&endpoint, head, &snapshot, &caller, frame.dialect)? {
            return Ok(frame.answered_here(gateway, listing));
        }

        let bounds = &snapshot.config.server;
        let body = body::read(head, body, bounds, &gateway.body_memory).await?;
        let ask = read_ask(&endpoint, head, &body.plain).map_err(refuse_ask)?;
        frame.ask(&ask);
        if let Some(model) = &ask.model
            && !caller.may_use(model.as_str())
        {
            return Err(models::unknown(model));
        }

        let model = ask.model.as_ref();
        let mut route = snapshot.router.route(&endpoint, frame.dialect, model)?;
        if let Some(id) = kept_turn(&endpoint, head.uri.path(), &ask)
            && let Some(turn) = gateway.conversations.turn(&TurnId {
                account: caller.member.account.id.clone(),
                id: id.into(),
            })
        {
            let router = &snapshot.router;
            router.lead_to(&turn.upstream, &mut route, frame.dialect, model);
        }
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
            charge: Charge::of(&endpoint, &head.method),
            endpoint,
            model: admitted.model.clone(),
            body: body.plain.clone(),
            ask,
        };
        let outgoing = Outgoing::new(head, body);
        forward::begin(gateway, frame, admitted, question, outgoing)?
    };
    forward::forward(frame, &mut journey).await
}

/// What is known of a request whatever becomes of it.
pub(crate) struct Frame {
    pub(crate) id: RequestId,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) started: Instant,
    pub(crate) started_at: Timestamp,
    pub(crate) dialect: Dialect,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) place: Option<Place>,
    endpoint: Option<Endpoint>,
    caller: Option<Caller>,
    tags: Vec<(Arc<str>, Arc<str>)>,
    asked: Asked,
    /// Whether its end was put down for the journal, and is to be written before the answer leaves.
    pub(crate) put_down: bool,
}

/// What the body said, for the entry.
#[derive(Default)]
struct Asked {
    model: Option<crate::ids::ModelName>,
    stream: bool,
    end_user: Option<Arc<str>>,
}

impl Frame {
    fn new(gateway: &Arc<Gateway>, head: &Parts) -> Frame {
        let endpoint = Endpoint::of_request(&head.method, head.uri.path());
        let dialect = match &endpoint {
            // A path that both dialects have: Anthropic's SDKs always send this header.
            Some(Endpoint::Other(_) | Endpoint::Models) | None
                if head.headers.contains_key("anthropic-version") =>
            {
                Dialect::Anthropic
            }
            Some(endpoint) => endpoint.error_dialect(),
            None => Dialect::OpenAi,
        };
        let started_at = Timestamp::now();
        Frame {
            id: RequestId::at(started_at),
            snapshot: gateway.snapshot(),
            started: Instant::now(),
            started_at,
            dialect,
            in_flight: Some(gateway.metrics.in_flight()),
            place: None,
            endpoint,
            caller: None,
            tags: Vec::new(),
            asked: Asked::default(),
            put_down: false,
        }
    }

    fn ask(&mut self, ask: &Ask) {
        self.asked = Asked {
            model: ask.model.clone(),
            stream: ask.stream,
            end_user: ask.end_user.as_deref().map(Arc::from),
        };
    }

    /// The entry as far as it is known, its end still its beginning (see [`Entry::end`]); `None` for a stranger, who has no
    /// account to book it on.
    pub(crate) fn entry(&self, status: u16, outcome: Outcome) -> Option<Box<Entry>> {
        let caller = self.caller.as_ref()?;
        Some(Box::new(Entry {
            id: self.id,
            started_at: self.started_at,
            ended_at: self.started_at,
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
            duration_ms: 0,
            retries: 0,
            end_user: self.asked.end_user.clone(),
            tags: self.tags.clone(),
            corrects: None,
        }))
    }

    /// Books a refusal of a known caller, and turns it into the answer.
    fn refuse(&self, gateway: &Gateway, refusal: Refusal) -> Response<AnswerBody> {
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

    fn book(&self, gateway: &Gateway, mut entry: Box<Entry>) {
        let duration = self.started.elapsed();
        entry.end(Timestamp::now(), duration);
        let observation = Observation {
            duration,
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

/// The id of what a provider keeps and a request is about: a turn that it continues, or a response that it fetches, cancels
/// or deletes.
fn kept_turn<'a>(endpoint: &Endpoint, path: &'a str, ask: &'a Ask) -> Option<&'a str> {
    match endpoint {
        Endpoint::Other(_) => path.strip_prefix("/v1/responses/")?.split('/').next(),
        _ => ask.continues(endpoint),
    }
}

/// What a body asks: JSON, or at paths that are only passed through a form.
fn read_ask(endpoint: &Endpoint, head: &Parts, body: &[u8]) -> Result<Ask, AskError> {
    if !endpoint.needs_model()
        && let Some(content_type) = head.headers.get(header::CONTENT_TYPE)
        && let Ok(content_type) = content_type.to_str()
        && let Some(ask) = ask::form::read(content_type, body)?
    {
        return Ok(ask);
    }
    ask::read(endpoint, body)
}

fn refuse_ask(error: AskError) -> Refusal {
    let refusal = Refusal::new(Code::InvalidRequest, error.message);
    match error.param {
        Some(param) => refusal.param(param),
        None => refusal,
    }
}

/// Refuses targets that the server behind may read differently, so that one path would be metered and another served; and
/// methods that tunnel.
fn check_target(head: &Parts) -> Result<(), Refusal> {
    if !path::is_plain(head.uri.path()) {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "The path can be read in more than one way: it has empty or dotted segments, needless escapes or capital letters.",
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

/// Refuses a request when as many are in flight as the configuration allows, or when its key alone has half of them: a
/// flood from one key leaves room for the others.
fn find_place(gateway: &Gateway, snapshot: &Snapshot, caller: &Caller) -> Result<Place, Refusal> {
    let most = snapshot.config.server.requests_max;
    let taken = usize::try_from(gateway.metrics.in_flight_requests()).unwrap_or(0);
    let full =
        |message: &str| Refusal::new(Code::Overloaded, message).retry_after(Duration::from_secs(1));
    if taken > most {
        return Err(full(
            "The gateway has as many requests in flight as it takes.",
        ));
    }
    let place = gateway.places.take(&caller.key.id, most.div_ceil(2));
    place.ok_or_else(|| full("Your key has as many requests in flight as the gateway takes."))
}
