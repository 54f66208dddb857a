//! A request that is at an upstream, until it is settled: what was asked and admitted, and what its end means.

mod background;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use crate::admit::{Admission, Allowance, Cut, Turn, TurnId};
use crate::answer::AnswerError;
use crate::config::{ServiceTier, Timeouts};
use crate::dialect::{Endpoint, endpoint_label};
use crate::gateway::Gateway;
use crate::ids::ModelName;
use crate::ledger::{Entry, Outcome};
use crate::measure::{self, Charge, Measured, Question};
use crate::meter::Reading;
use crate::metrics::{InFlight, Observation, TrafficKey};
use crate::money::Money;
use crate::price;
use crate::quota::Demand;
use crate::request::Place;
use crate::snapshot::Snapshot;
use crate::tokens::{Usage, UsageSource};
use crate::upstream::{Slot, Upstream};

pub use self::background::Background;
pub(crate) use self::background::is_bill;

/// Everything that the end of a request needs. It is settled exactly once: [`Exchange::settle`] consumes it. It is large and
/// goes from hand to hand, so it lives in a box.
pub struct Exchange {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) slot: Option<Slot>,
    pub(crate) admission: Admission,
    /// For a stream that has less reserved than it may need.
    pub(crate) allowance: Option<Box<Allowance>>,
    /// Set when the gateway ends the answer at its reservation.
    pub(crate) cut: Option<Cut>,
    pub(crate) question: Question,
    /// The entry as far as it is known.
    pub(crate) entry: Box<Entry>,
    /// Whether a part of what was used has no price: the cost is then not all of it.
    pub(crate) incomplete: bool,
    /// Whether something is billed beside the usage, which no price table can know.
    pub(crate) billed_beside: bool,
    pub(crate) started: Instant,
    pub(crate) first_token: Option<Duration>,
    pub(crate) in_flight: InFlight,
    pub(crate) place: Option<Place>,
    /// Whether the answer waits for others once more before it leaves, so that its record can be written with theirs.
    pub(crate) in_company: bool,
}

/// What a settlement found.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// The exact cost.
    pub cost: Money,
    /// Whether something was used that no price covers, or that is billed beside it: then the cost is not all of it.
    pub unpriced: bool,
    /// The tokens.
    pub usage: Usage,
    /// What it held until then.
    pub held: Demand,
    /// What of that was used.
    pub spent: Demand,
}

/// A settlement. Most are done at once; one for which tokens are counted, or the ledger is asked, takes a while.
#[must_use = "an open settlement that is not waited for books nothing"]
pub enum Settlement {
    /// It is done.
    Done(Settled),
    /// It is done at the end of this.
    Open(OpenSettlement),
}

/// A settlement on its way.
pub type OpenSettlement = Pin<Box<dyn Future<Output = Settled> + Send>>;

impl Settlement {
    /// Waits for its end.
    pub async fn done(self) -> Settled {
        match self {
            Settlement::Done(settled) => settled,
            Settlement::Open(open) => open.await,
        }
    }
}

impl Exchange {
    /// The bounds of the upstream call.
    pub fn timeouts(&self) -> &Timeouts {
        &self.upstream.settings.timeouts
    }

    /// When the request's head was read.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long to read on once the client has gone.
    pub fn drain_after_close(&self) -> Duration {
        let time = self.snapshot.config.server.drain_after_close;
        if self.gateway.cut.is_cancelled() {
            time.min(DRAIN_AT_STOP)
        } else {
            time
        }
    }

    /// What an answer is that nobody takes any more: the client left, or the stopping gateway cut it.
    pub fn abandoned(&self) -> Outcome {
        if self.gateway.cut.is_cancelled() {
            Outcome::Interrupted
        } else {
            Outcome::ClientClosed
        }
    }

    /// The tasks that a stopping gateway waits for.
    pub fn tasks(&self) -> TaskTracker {
        self.gateway.tasks.clone()
    }

    /// The first token has come, now or before.
    pub fn first_token(&mut self) {
        if self.first_token.is_none() {
            self.first_token = Some(self.started.elapsed());
        }
    }

    /// Counts an upstream that broke off in the middle of an answer.
    pub fn broke_off(&self, error: &AnswerError) {
        let kind = match error {
            AnswerError::Upstream(_) => "broken",
            AnswerError::Timeout(_) => "timeout",
        };
        self.gateway
            .metrics
            .upstream_error(self.upstream.settings.id.as_str(), kind);
        tracing::warn!(id = %self.entry.id, upstream = %self.upstream.settings.id, %error, "an answer broke off");
    }

    /// The end of a request: measure, price, settle the quota, and hand the entry to the ledger.
    pub fn settle(mut self: Box<Self>, reading: Reading, outcome: Outcome) -> Settlement {
        self.slot = None;
        let outcome = self.outcome(&reading, outcome);
        self.note_conversation(&reading);
        let made = self.made_in_background(&reading);
        let is_fetched = self.question.charge == Charge::Fetched;
        if is_fetched && (made.is_none() || !reading.usage_final) {
            return Settlement::Done(self.close(outcome));
        }
        if let Some(made) = made {
            self.in_company = false;
            return Settlement::Open(Box::pin(self.settle_made(made, reading, outcome)));
        }
        self.note_served(&reading);
        match measure::without_counting(&self.question, reading, self.entry.status) {
            Ok(measured) => Settlement::Done(self.settle_measured(measured, outcome)),
            Err(reading) => Settlement::Open(Box::pin(async move {
                self.in_company = false;
                let measured = self.count(*reading).await;
                self.settle_measured(measured, outcome)
            })),
        }
    }

    /// The tokens of an answer that did not report them.
    async fn count(&self, reading: Reading) -> Measured {
        let Question { ask, endpoint, .. } = &self.question;
        let turn = ask.continues(endpoint).and_then(|id| self.turn(id));
        let earlier = turn.map_or(0, |turn| self.gateway.conversations.tokens_before(&turn));
        let (counter, prices) = (&self.gateway.counter, &self.snapshot.prices);
        measure::count(counter, prices, &self.question, earlier, reading).await
    }

    fn settle_measured(mut self: Box<Self>, measured: Measured, outcome: Outcome) -> Settled {
        let measured = self.apply_cut(measured);
        self.price(measured);
        self.close(outcome)
    }

    /// The gateway's own end of an answer bounds what it used.
    fn apply_cut(&mut self, mut measured: Measured) -> Measured {
        if let Some(cut) = self.cut.take() {
            cut.apply(&mut measured);
            self.entry.reason = Some(cut.reason());
        }
        measured
    }

    /// The end of a request that no upstream answered: nothing was used.
    pub fn settle_unanswered(mut self: Box<Self>, status: u16, outcome: Outcome) -> Settled {
        self.entry.status = status;
        self.close(outcome)
    }

    fn outcome(&self, reading: &Reading, outcome: Outcome) -> Outcome {
        let failed = self.entry.status >= 400 || reading.failed.is_some();
        if outcome == Outcome::Completed && failed {
            Outcome::UpstreamFailed
        } else {
            outcome
        }
    }

    /// A request that continues this one is billed for what both of them had, and goes to the same upstream.
    fn note_conversation(&self, reading: &Reading) {
        if self.question.metered_as() != Endpoint::Responses {
            return;
        }
        let used = |usage: &Usage| usage.input_tokens.saturating_add(usage.output_tokens);
        let tokens = reading.usage.as_ref().map(used);
        // What is only fetched adds nothing to a conversation, whatever its request says.
        let conversation = &self.question.ask.conversation;
        let conversation = conversation
            .as_ref()
            .filter(|_| self.question.charge != Charge::Fetched);
        let ids = [reading.response_id.as_ref(), conversation];
        let conversations = &self.gateway.conversations;
        for id in ids.into_iter().flatten().filter_map(|id| self.turn(id)) {
            let turn = Turn {
                tokens: tokens.unwrap_or_else(|| conversations.tokens_before(&id)),
                upstream: self.upstream.settings.id.clone(),
            };
            conversations.note(id, turn);
        }
    }

    fn turn(&self, id: &str) -> Option<TurnId> {
        Some(TurnId {
            account: self.entry.account()?.clone(),
            id: id.into(),
        })
    }

    /// What the answer said of itself.
    fn note_served(&mut self, reading: &Reading) {
        let entry = &mut self.entry;
        entry.served_model = reading.served_model.clone();
        entry.service_tier = match &self.upstream.settings.service_tier {
            ServiceTier::Served => reading.service_tier.as_deref().map(Arc::from),
            ServiceTier::Requested => reading
                .service_tier
                .as_deref()
                .or(self.question.ask.service_tier.as_deref())
                .map(Arc::from),
            ServiceTier::Fixed(tier) => Some(Arc::clone(tier)),
        };
    }

    /// Usage times the price of the served model and tier on the day of the request.
    fn price(&mut self, mut measured: Measured) {
        let entry = &mut self.entry;
        // An answer that names no model is what the upstream was asked for: after a rename or a downgrade not what the client
        // asked for.
        if entry.served_model.is_none() && measured.source != UsageSource::None {
            let renamed = self.question.model.as_ref();
            entry.served_model = renamed
                .filter(|model| Some(*model) != entry.model.as_ref())
                .cloned();
        }
        let asked = self.question.model.as_ref().map(ModelName::as_str);
        let is_told = measured.source == UsageSource::Reported;
        let mut has_price = true;
        if self.question.charge == Charge::Reported && !is_told {
            let model = entry.served_model.as_ref().map(ModelName::as_str);
            let row_of = |model: &str| self.snapshot.prices.price(model, entry.started_at);
            let row = model.and_then(row_of).or_else(|| row_of(asked?));
            if let Some((_, row)) = row {
                measured.keep_what_is_asked(&row.rates);
            }
            has_price =
                !measured.usage.is_zero() || row.is_some_and(|(_, row)| row.costs_without_usage());
        }
        entry.usage = measured.usage;
        entry.usage_source = measured.source;
        if let Some(note) = measured.note {
            entry.reason = Some(note.into());
        }
        // What a path costs that nobody knows is not known: it is unpriced, whatever a model of that name costs elsewhere.
        if measured.source == UsageSource::None
            || self.question.charge == Charge::Unknown
            || !has_price
        {
            return;
        }
        let parts: Vec<price::Part<'_>> = measured
            .parts
            .iter()
            .map(|part| price::Part {
                model: part
                    .model
                    .as_ref()
                    .map(ModelName::as_str)
                    .or(asked)
                    .unwrap_or(""),
                asked: asked.filter(|_| !part.by_tool),
                usage: part.usage,
            })
            .collect();
        let priced = price::price_parts(
            &self.snapshot.prices,
            &parts,
            entry.service_tier.as_deref(),
            entry.started_at,
        );
        match priced {
            Ok(priced) => {
                entry.cost = priced.cost.by_class;
                entry.undiscounted = priced.cost.undiscounted;
                entry.priced_by = priced.priced_by;
                self.incomplete = priced.cost.incomplete || priced.stood_in;
                self.billed_beside = measured.billed_beside || priced.cost.billed_beside;
                if entry.reason.is_none() {
                    let has_price = !entry.priced_by.is_empty();
                    let why = [
                        (priced.stood_in, STOOD_IN),
                        (priced.cost.incomplete, INCOMPLETE),
                        (self.billed_beside && has_price, BILLED_BESIDE),
                    ];
                    let why = why.iter().find(|(holds, _)| *holds);
                    entry.reason = why.map(|(_, why)| (*why).into());
                }
            }
            Err(error) => tracing::error!(id = %entry.id, %error, "a usage could not be priced"),
        }
    }

    fn close(self: Box<Self>, outcome: Outcome) -> Settled {
        let spent = Demand::settled(self.entry.cost_usd(), &self.entry.usage);
        self.close_having_spent(outcome, spent)
    }

    fn close_having_spent(mut self: Box<Self>, outcome: Outcome, spent: Demand) -> Settled {
        let duration = self.started.elapsed();
        let entry = &mut self.entry;
        entry.outcome = outcome;
        entry.end(Timestamp::now(), duration);
        entry.first_token_ms = self
            .first_token
            .map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        let cost = entry.cost_usd();
        let observation = Observation {
            usage: entry.usage,
            cost,
            unpriced: entry.is_unpriced() || self.incomplete,
            duration,
            first_token: self.first_token,
        };
        let (ended_at, usage, unpriced) = (
            entry.ended_at,
            entry.usage,
            observation.unpriced || self.billed_beside,
        );
        let held = *self.admission.held();
        let key = traffic_key(&self.snapshot, entry);
        // The entry first: shared counters that are rebuilt in between find it in the ledger.
        if self.in_company {
            self.gateway.put_down(self.entry);
        } else {
            self.gateway.book(self.entry);
        }
        self.admission.settle(&self.gateway, spent, ended_at);
        self.gateway.metrics.observe(key, &observation);
        drop(self.in_flight);
        drop(self.place);
        Settled {
            cost,
            unpriced,
            usage,
            held,
            spent,
        }
    }
}

/// What an entry says whose served model has no price. A vendor that points a name at a new model must not make it free of
/// a sudden: limits would hold nobody. It counts as unpriced in the metrics until the table knows the model.
const STOOD_IN: &str = "the served model has no price: the asked one's stands in for it";

/// What an entry says whose price lacks a part of what was used: searches of a model whose table has no price for them.
/// It counts as unpriced in the metrics, which is where such a thing is seen.
const INCOMPLETE: &str = "a part of what was used has no price";

/// What an entry says where the provider's own tools were called that are billed beside the usage. In the metrics it does not count
/// as unpriced, where a price could be added.
const BILLED_BESIDE: &str =
    "calls of code_interpreter, image_generation or a hosted shell are billed beside this cost";

/// A stopping gateway reads on no longer than this, whatever it does otherwise.
const DRAIN_AT_STOP: Duration = Duration::from_secs(2);

/// The bounded labels of an entry.
pub(crate) fn traffic_key(snapshot: &Snapshot, entry: &Entry) -> TrafficKey {
    let model = entry.served_model.as_ref().or(entry.model.as_ref());
    TrafficKey {
        endpoint: endpoint_label(&entry.endpoint),
        model: model.map_or_else(
            || "none".into(),
            |model| snapshot.model_label(model.as_str()),
        ),
        upstream: entry.upstream.clone(),
        plan: entry.plan.clone(),
        outcome: entry.outcome,
        status: entry.status,
    }
}
