//! A request that is at an upstream, until it is settled: what was asked and admitted, and what its end means.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;

use crate::admit::{Admission, Allowance, Cut};
use crate::answer::AnswerError;
use crate::config::{ServiceTier, Timeouts};
use crate::dialect::{Endpoint, endpoint_label};
use crate::gateway::Gateway;
use crate::ids::{ModelName, RequestId};
use crate::ledger::store::EntryFilter;
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
    /// Whether something was used that no price covers: then the cost is not all of it.
    pub unpriced: bool,
    /// The tokens.
    pub usage: Usage,
    /// What it held until then.
    pub held: Demand,
    /// What of that was used.
    pub spent: Demand,
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
    pub async fn settle(mut self: Box<Self>, reading: Reading, outcome: Outcome) -> Settled {
        self.slot = None;
        let outcome = self.outcome(&reading, outcome);
        let made = self.made_in_background(&reading);
        if self.question.fetched && (made.is_none() || !reading.usage_final) {
            return self.close(outcome);
        }
        let asked = made.is_some().then(|| self.entry.clone());
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
        match (made, asked) {
            (Some(made), Some(asked)) if measured.source != UsageSource::None => {
                self.settle_made(made, asked, measured, outcome).await
            }
            _ => {
                self.price(measured);
                self.close(outcome)
            }
        }
    }

    /// The end of a request that no upstream answered: nothing was used.
    pub fn settle_unanswered(mut self: Box<Self>, status: u16, outcome: Outcome) -> Settled {
        self.entry.status = status;
        self.close(outcome)
    }

    /// The response that an answer brings, where it was made in the background and is there.
    fn made_in_background(&self, reading: &Reading) -> Option<MadeInBackground> {
        let response = reading.response_id.as_ref()?;
        if !reading.background || reading.queued {
            return None;
        }
        let upstream = self.upstream.settings.id.as_str();
        // The moment of its making, so that every look at it books the very same entry.
        let at = reading
            .created_at
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .filter(|at| {
                let age = self.entry.started_at.duration_since(*at);
                !age.is_negative() && age < BACKGROUND_AGE
            });
        Some(MadeInBackground {
            bill: background_id(upstream, response),
            at,
        })
    }

    /// The end of a request that brought a response made in the background: streamed as it was made, or fetched. It is billed
    /// when its usage is first seen, by an entry whose id is made of the response's own: however often it is fetched, by
    /// whichever gateway and after whatever restart, the ledger takes that entry once. What was asked is an entry without
    /// use.
    async fn settle_made(
        mut self: Box<Self>,
        made: MadeInBackground,
        asked: Entry,
        measured: Measured,
        outcome: Outcome,
    ) -> Settled {
        let is_new = self.gateway.background.first(made.bill) && !self.is_billed(&made).await;
        if !is_new {
            self.entry = asked;
            return self.close(outcome);
        }
        let usage = measured.usage;
        self.entry.started_at = made.at.unwrap_or(self.entry.started_at);
        self.price(measured);
        self.entry
            .reason
            .get_or_insert_with(|| "a response made in the background".into());
        let now = Timestamp::now();
        let billed = Entry {
            id: made.bill,
            ended_at: now,
            endpoint: Endpoint::Responses.as_str().into(),
            model: self.entry.model.clone().or(self.entry.served_model.clone()),
            outcome: Outcome::Completed,
            ..std::mem::replace(&mut self.entry, asked)
        };
        let key = traffic_key(&self.snapshot, &billed);
        let observation = Observation {
            usage,
            cost: billed.cost_usd(),
            unpriced: is_unpriced(&billed),
            ..Observation::default()
        };
        let spent = Demand::settled(billed.cost_usd(), &usage);
        self.gateway.metrics.observe(key, &observation);
        self.gateway.book(billed);
        let mut settled = self.close_having_spent(outcome, spent);
        settled.usage = usage;
        settled.cost = spent.cost;
        settled
    }

    /// Whether the ledger has a response's bill already: written by another gateway, or before a restart. Limits have counted
    /// it then. A ledger that does not answer in time is taken to have none.
    async fn is_billed(&self, made: &MadeInBackground) -> bool {
        let Some(at) = made.at else {
            return false;
        };
        let (store, id) = (Arc::clone(&self.gateway.store), made.bill);
        let filter = EntryFilter {
            since: Some(at),
            until: at.checked_add(SignedDuration::from_millis(1)).ok(),
            account: self.entry.account().cloned(),
            ..EntryFilter::default()
        };
        let looking = tokio::task::spawn_blocking(move || {
            let mut found = false;
            let scanned = store.scan(&filter, &mut |entry| {
                found |= entry.id == id;
                !found
            });
            scanned.is_ok() && found
        });
        tokio::time::timeout(LOOK_UP, looking)
            .await
            .is_ok_and(|found| found.unwrap_or(false))
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
                if priced.cost.incomplete && entry.reason.is_none() {
                    entry.reason = Some(INCOMPLETE.into());
                }
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
            unpriced: is_unpriced(entry),
            duration,
            first_token: this.first_token,
        };
        let (usage, unpriced) = (entry.usage, observation.unpriced);
        let held = *this.admission.held();
        let key = traffic_key(&this.snapshot, entry);
        // The entry first: shared counters that are rebuilt in between find it in the ledger.
        this.gateway.book(this.entry);
        this.admission.settle(&this.gateway, spent);
        this.gateway.metrics.observe(key, &observation);
        drop(this.in_flight);
        drop(this.place);
        Settled {
            cost,
            unpriced,
            usage,
            held,
            spent,
        }
    }
}

/// A response that was made in the background: the id of its bill, and when it was made.
struct MadeInBackground {
    bill: RequestId,
    at: Option<Timestamp>,
}

fn is_unpriced(entry: &Entry) -> bool {
    entry.is_unpriced() || entry.reason.as_deref() == Some(INCOMPLETE)
}

/// What an entry says whose price lacks a part of what was used: web searches of a model whose table has no price for them.
/// It counts as unpriced in the metrics, which is where such a thing is seen.
const INCOMPLETE: &str = "a part of what was used has no price";

/// A stopping gateway reads on no longer than this, whatever it does otherwise.
const DRAIN_AT_STOP: Duration = Duration::from_secs(2);

/// How long the ledger may take to say whether a response was billed.
const LOOK_UP: Duration = Duration::from_secs(2);

/// A response is kept by its provider for 30 days: a moment farther away is no moment of a making.
const BACKGROUND_AGE: SignedDuration = SignedDuration::from_hours(31 * 24);

/// The ledger's id of a response that was made in the background: the same for each fetch.
fn background_id(upstream: &str, response: &str) -> RequestId {
    let digest = SecretSha256::of(format!("{upstream} {response}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.0.first_chunk::<16>().unwrap_or(&[0; 16]));
    RequestId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Whether an entry is the bill of a response made in the background, told by its id: requests have ids of version 7.
pub(crate) fn is_bill(id: RequestId) -> bool {
    id.0.get_version_num() == 8
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
