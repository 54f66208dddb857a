//! A request that is at an upstream, until it is settled: what was asked and admitted, and what its end means.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;

use crate::admit::{Admission, Allowance, Cut};
use crate::answer::AnswerError;
use crate::config::{ServiceTier, Timeouts};
use crate::dialect::Endpoint;
use crate::gateway::Gateway;
use crate::ids::{ModelName, RequestId};
use crate::ledger::{Entry, Outcome};
use crate::measure::{self, Measured, Question};
use crate::meter::Reading;
use crate::metrics::{InFlight, Observation, TrafficKey};
use crate::money::Money;
use crate::price;
use crate::quota::Demand;
use crate::request::Place;
use crate::secret::SecretSha256;
use crate::snapshot::Snapshot;
use crate::tokens::{Usage, UsageSource};
use crate::upstream::{Slot, Upstream};

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
    pub(crate) entry: Entry,
    pub(crate) started: Instant,
    pub(crate) first_token: Option<Duration>,
    pub(crate) in_flight: InFlight,
    pub(crate) place: Option<Place>,
}

/// What a settlement found.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// The exact cost.
    pub cost: Money,
    /// The tokens.
    pub usage: Usage,
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
        self.snapshot.config.server.drain_after_close
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
    pub async fn settle(mut self: Box<Self>, reading: Reading, outcome: Outcome) -> Settled {
        self.slot = None;
        let outcome = self.outcome(&reading, outcome);
        if self.question.fetched {
            return self.settle_fetched(reading, outcome);
        }
        self.note_served(&reading);
        let prices = Arc::clone(&self.snapshot.prices);
        let mut measured = measure::measure(
            &self.gateway.counter,
            &prices,
            &self.question,
            reading,
            self.entry.status,
        )
        .await;
        if let Some(cut) = self.cut.take() {
            cut.apply(&mut measured);
            self.entry.reason = Some(cut.reason());
        }
        self.price(measured);
        self.close(outcome)
    }

    /// The end of a request that no upstream answered: nothing was used.
    pub fn settle_unanswered(mut self: Box<Self>, status: u16, outcome: Outcome) -> Settled {
        self.entry.status = status;
        self.close(outcome)
    }

    /// The end of a fetch. A response that was made in the background is billed when its usage is first seen, by an entry
    /// whose id is made of the response's own: however often it is fetched, by whichever gateway and after whatever
    /// restart, the ledger takes that entry once.
    fn settle_fetched(mut self: Box<Self>, reading: Reading, outcome: Outcome) -> Settled {
        let bill = match (&reading.response_id, reading.usage) {
            (Some(response), Some(usage)) if reading.background && reading.usage_final => {
                let id = background_id(self.upstream.settings.id.as_str(), response);
                self.gateway.background.first(id).then_some((id, usage))
            }
            _ => None,
        };
        // The moment of its making, so that every fetch books the very same entry.
        let made_at = reading
            .created_at
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .filter(|at| {
                let age = self.entry.started_at.duration_since(*at);
                !age.is_negative() && age < BACKGROUND_AGE
            });
        let Some((id, usage)) = bill else {
            return self.close(outcome);
        };
        let fetch = self.entry.clone();
        self.note_served(&reading);
        self.entry.started_at = made_at.unwrap_or(self.entry.started_at);
        self.price(Measured {
            usage,
            parts: reading.parts,
            source: UsageSource::Reported,
            note: Some("a response made in the background"),
        });
        let now = Timestamp::now();
        let billed = Entry {
            id,
            ended_at: now,
            endpoint: Endpoint::Responses.as_str().into(),
            model: self.entry.model.clone().or(reading.served_model),
            outcome: Outcome::Completed,
            ..std::mem::replace(&mut self.entry, fetch)
        };
        let key = traffic_key(&self.snapshot, &billed);
        let observation = Observation {
            usage,
            cost: billed.cost_usd(),
            unpriced: billed.is_unpriced(),
            ..Observation::default()
        };
        let spent = Demand::settled(billed.cost_usd(), &usage);
        self.gateway.metrics.observe(key, &observation);
        self.gateway.book(billed);
        self.close_having_spent(outcome, spent)
    }

    fn outcome(&self, reading: &Reading, outcome: Outcome) -> Outcome {
        let failed = self.entry.status >= 400 || reading.failed.is_some();
        if outcome == Outcome::Completed && failed {
            Outcome::UpstreamFailed
        } else {
            outcome
        }
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
    fn price(&mut self, measured: Measured) {
        let entry = &mut self.entry;
        entry.usage = measured.usage;
        entry.usage_source = measured.source;
        if let Some(note) = measured.note {
            entry.reason = Some(note.into());
        }
        // What a path without usage costs is not known: it is unpriced, whatever a model of that name costs elsewhere.
        if measured.source == UsageSource::None || self.question.unmetered {
            return;
        }
        let asked = self.question.model.as_ref();
        let parts: Vec<price::Part<'_>> = measured
            .parts
            .iter()
            .map(|part| price::Part {
                model: part.model.as_ref().or(asked).map_or("", ModelName::as_str),
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
            }
            Err(error) => tracing::error!(id = %entry.id, %error, "a usage could not be priced"),
        }
    }

    fn close(self: Box<Self>, outcome: Outcome) -> Settled {
        let spent = Demand::settled(self.entry.cost_usd(), &self.entry.usage);
        self.close_having_spent(outcome, spent)
    }

    fn close_having_spent(self: Box<Self>, outcome: Outcome, spent: Demand) -> Settled {
        let mut this = *self;
        let duration = this.started.elapsed();
        let entry = &mut this.entry;
        entry.outcome = outcome;
        entry.ended_at = Timestamp::now().max(entry.started_at);
        entry.duration_ms = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        entry.first_token_ms = this
            .first_token
            .map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        let cost = entry.cost_usd();
        let observation = Observation {
            usage: entry.usage,
            cost,
            unpriced: entry.is_unpriced(),
            duration,
            first_token: this.first_token,
        };
        let usage = entry.usage;
        let key = traffic_key(&this.snapshot, entry);
        // The entry first: shared counters that are rebuilt in between find it in the ledger.
        this.gateway.book(this.entry);
        this.admission.settle(&this.gateway, spent);
        this.gateway.metrics.observe(key, &observation);
        drop(this.in_flight);
        drop(this.place);
        Settled { cost, usage }
    }
}

/// A response is kept by its provider for 30 days: a moment farther away is no moment of a making.
const BACKGROUND_AGE: SignedDuration = SignedDuration::from_hours(31 * 24);

/// The ledger's id of a response that was made in the background: the same for each fetch.
fn background_id(upstream: &str, response: &str) -> RequestId {
    let digest = SecretSha256::of(format!("{upstream} {response}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.0.first_chunk::<16>().unwrap_or(&[0; 16]));
    RequestId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Responses made in the background that this gateway has billed. The ledger itself takes each once; this keeps quotas and
/// metrics from counting a second fetch.
#[derive(Debug, Default)]
pub struct Background(Mutex<HashSet<RequestId>>);

impl Background {
    /// More are forgotten, which costs nothing but a count.
    const KEPT: usize = 100_000;

    /// Whether it was not seen before.
    fn first(&self, id: RequestId) -> bool {
        let mut billed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if billed.len() >= Self::KEPT {
            billed.clear();
        }
        billed.insert(id)
    }
}

/// The bounded labels of an entry.
pub(crate) fn traffic_key(snapshot: &Snapshot, entry: &Entry) -> TrafficKey {
    let model = entry.served_model.as_ref().or(entry.model.as_ref());
    TrafficKey {
        endpoint: Arc::clone(&entry.endpoint),
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
