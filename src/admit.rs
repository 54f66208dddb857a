//! Admission: a request reserves the most that it can use on every limit that it counts against, or goes no further.
//!
//! A request that states no maximum must not lock up a whole budget. Where its worst case is small beside the limit it
//! is reserved as it is. Where it is not, or does not fit, admission reserves what such requests have needed so far. A
//! stream is then counted as it passes and its reservation extended in steps ([`Allowance`]); when no limit has room for
//! another, the gateway ends it with the dialect's `length` stop. An answer that cannot be followed (one that is no
//! stream, or of a model that thinks unseen) is bounded by its upstream: the reservation is sent along as its maximum.
//! Either way the limit holds.

mod allowance;
mod habits;
mod limit_headers;
mod refusal;
mod reservation;

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

pub use allowance::{Allowance, Cut, Extending, Room};
pub use habits::Habits;
pub use limit_headers::LimitHeaders;
pub use reservation::Admission;

use crate::config::ReservationMode;
use crate::dialect::ask::Ask;
use crate::dialect::error_body::Code;
use crate::dialect::splice::{self, Edit};
use crate::dialect::{Dialect, Endpoint};
use crate::gateway::{Gateway, Origin};
use crate::identify::Caller;
use crate::ids::{ModelName, RequestId};
use crate::meter::count::{Extent, Tokenizer, upper_bound_input};
use crate::money::Money;
use crate::plan::{Action, Measure};
use crate::price::{HeldPrice, InputKinds};
use crate::quota::{Bound, Demand, ReserveError};
use crate::refuse::Refusal;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use refusal::{refuse_limit, refuse_quota};

/// Who asks for admission, and for what.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    /// The request.
    pub id: RequestId,
    /// Its sender.
    pub caller: &'a Caller,
    /// Where it asks.
    pub endpoint: &'a Endpoint,
    /// In which dialect.
    pub dialect: Dialect,
    /// What its body asks.
    pub ask: &'a Ask,
    /// The body.
    pub body: &'a Bytes,
}

/// An admitted request, and what its limits made of it.
pub struct Admitted {
    /// What it holds.
    pub admission: Admission,
    /// Where it goes, in the order in which upstreams are tried.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The model to ask for instead: a route's rename, or a limit's downgrade.
    pub rename: Option<ModelName>,
    /// The model that the upstream is asked for.
    pub model: Option<ModelName>,
    /// Further changes of the body.
    pub edits: Vec<Edit>,
    /// What the client is told of its limits.
    pub headers: LimitHeaders,
    /// Set for a stream that has less reserved than it may need.
    pub allowance: Option<Box<Allowance>>,
}

/// An answer that would need more than this share of a limit is not reserved at its worst case.
const WORST_CASE_SHARE: i128 = 50;
/// A reservation holds no longer than a call can take, and somewhat more for its settlement.
const SETTLE_TIME: SignedDuration = SignedDuration::from_secs(60);

/// Admits a request, or says which limit refuses it.
///
/// # Errors
/// `rate_limit_exceeded`, `insufficient_quota`, `unpriced_model`, `overloaded`, and what routing a downgrade can refuse.
pub async fn admit(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    applicant: Applicant<'_>,
    route: Route,
) -> Result<Admitted, Refusal> {
    let caller = applicant.caller;
    let chain = snapshot
        .chains
        .chain(&caller.member.account.id, &caller.key.id)
        .ok_or_else(|| Refusal::new(Code::Internal, "The account has just been removed."))?;
    let asked = applicant.ask.model.as_ref().map_or("", ModelName::as_str);
    let admitted_at = Timestamp::now();
    let mut bounds = chain.bounds(asked, admitted_at);
    let mut served = Served::new(snapshot, &applicant, route, None)?;
    let mut cap = None;
    let mut downgraded = false;

    // Each turn without an answer clears one bound that no longer refuses, so there are at most as many turns as bounds.
    for _ in 0..=bounds.len() {
        let denied = match reserve(gateway, snapshot, &applicant, &served, &mut bounds, cap).await {
            Ok(reserved) => {
                let mut edits = Vec::new();
                let limit = reserved.capped.into_iter().chain(cap).min();
                if let Some(tokens) = limit {
                    let model = served.model.as_ref().map_or("", ModelName::as_str);
                    edits = splice::cap_output(applicant.endpoint, applicant.ask, model, tokens);
                }
                let downgrade = if downgraded {
                    served.model.clone()
                } else {
                    None
                };
                let headers = LimitHeaders::new(&bounds, downgrade, Timestamp::now());
                let admission = Admission::new(
                    gateway,
                    applicant.id,
                    reserved.demand,
                    served.price.clone(),
                    served.habit(&applicant),
                    Origin {
                        generation: snapshot.generation,
                        lineage: Arc::clone(chain.lineage()),
                        key: caller.key.id.clone(),
                        model: applicant.ask.model.clone(),
                        at: admitted_at,
                    },
                );
                return Ok(Admitted {
                    admission,
                    upstreams: served.route.upstreams,
                    rename: served.rename,
                    model: served.model,
                    edits,
                    headers,
                    allowance: reserved.allowance,
                });
            }
            Err(ReserveError::Denied(denied)) => denied,
            Err(error) => return Err(refuse_quota(&error)),
        };
        let Some(bound) = bounds.get_mut(denied.bound) else {
            return Err(refuse_quota(&ReserveError::WrongState));
        };
        match &bound.rule.then {
            Action::Downgrade(model) if served.model.as_ref() != Some(model) => {
                bound.enforced = false;
                let route =
                    snapshot
                        .router
                        .route(applicant.endpoint, applicant.dialect, Some(model))?;
                served = Served::new(snapshot, &applicant, route, Some(model))?;
                downgraded = true;
            }
            Action::CapOutput(tokens) if cap.is_none_or(|cap| *tokens < cap) => {
                cap = Some(*tokens);
                bound.enforced = false;
            }
            // A limit that only warns never refuses.
            Action::Warn => bound.enforced = false,
            _ => {
                let rule = Arc::clone(&bound.rule);
                let per = rule
                    .counter
                    .per()
                    .map_or_else(|| "none".to_owned(), |per| per.to_string());
                gateway.metrics.limit_rejection(
                    rule.plan.as_str(),
                    rule.counter.on().as_str(),
                    &per,
                );
                gateway.limit_reached(&rule, bound.window);
                return Err(refuse_limit(&bounds, denied, Timestamp::now()));
            }
        }
    }
    Err(refuse_quota(&ReserveError::WrongState))
}

/// The model that a request is served by, with its price and its output's bound.
struct Served {
    route: Route,
    model: Option<ModelName>,
    rename: Option<ModelName>,
    price: Option<HeldPrice>,
    /// Without a price of its own, what it may be priced by once the upstream has said what it served.
    likely: Option<HeldPrice>,
}

impl Served {
    fn new(
        snapshot: &Snapshot,
        applicant: &Applicant<'_>,
        route: Route,
        downgrade: Option<&ModelName>,
    ) -> Result<Served, Refusal> {
        let rename = route.rename.clone().or_else(|| downgrade.cloned());
        let model = rename.clone().or_else(|| applicant.ask.model.clone());
        let name = model.as_ref().map_or("", ModelName::as_str);
        let price = snapshot.prices.held(name, Timestamp::now());
        if price.is_none() && snapshot.rejects_unpriced() && applicant.endpoint.is_metered() {
            return Err(Refusal::new(
                Code::UnpricedModel,
                format!("The model `{name}` has no price, and models without one are not served."),
            )
            .param("model"));
        }
        let likely = if price.is_none() && !name.is_empty() {
            snapshot.prices.dearest_like(name, Timestamp::now())
        } else {
            None
        };
        Ok(Served {
            route,
            model,
            rename,
            price,
            likely,
        })
    }

    /// The most output tokens of one answer, and whether the client or the endpoint says so itself.
    fn output_max(&self, applicant: &Applicant<'_>) -> (u64, bool) {
        if !applicant.endpoint.is_metered() {
            return (0, true);
        }
        if let Some(stated) = applicant.ask.max_output(applicant.endpoint) {
            return (stated, true);
        }
        let model = self
            .price
            .as_ref()
            .or(self.likely.as_ref())
            .and_then(|price| price.entry.max_output_tokens);
        (model.unwrap_or(UNKNOWN_OUTPUT_MAX), false)
    }

    fn cost(&self, applicant: &Applicant<'_>, input: u64, output: u64, kinds: InputKinds) -> Money {
        let tier = applicant.ask.service_tier.as_deref();
        let price = self.price.as_ref().or(self.likely.as_ref());
        let row = price.and_then(HeldPrice::row);
        row.map_or(Money::ZERO, |row| {
            row.upper_bound(input, output, kinds, tier)
        })
    }

    fn habit(&self, applicant: &Applicant<'_>) -> Option<habits::Habit> {
        let model = self.model.clone()?;
        Some(habits::Habit {
            account: applicant.caller.member.account.id.clone(),
            model,
        })
    }
}

/// What a model whose limit nobody knows may put out.
const UNKNOWN_OUTPUT_MAX: u64 = 16_384;

/// What was reserved.
struct Reserved {
    demand: Demand,
    /// The maximum that must be sent along so that the reservation holds.
    capped: Option<u64>,
    /// Or what is needed to hold a stream to it.
    allowance: Option<Box<Allowance>>,
}

/// Reserves the worst case where that is cheap, else a tighter one.
async fn reserve(
    gateway: &Gateway,
    snapshot: &Snapshot,
    applicant: &Applicant<'_>,
    served: &Served,
    bounds: &mut [Bound],
    cap: Option<u64>,
) -> Result<Reserved, ReserveError> {
    let (output_max, stated) = served.output_max(applicant);
    let output_max = output_max.min(cap.unwrap_or(u64::MAX));
    let choices = applicant.ask.choices.max(1);
    let extent = Extent::of(applicant.body);
    let name = served.model.as_ref().map_or("", ModelName::as_str);
    let kinds = InputKinds {
        cache_1h: applicant.dialect == Dialect::Anthropic
            && memchr::memmem::find(applicant.body, b"\"1h\"").is_some(),
        audio: extent.audio_bytes > 0,
        images: extent.images > 0,
    };
    let demand = |input: u64, output: u64| {
        let output_tokens = output.saturating_mul(choices);
        Demand {
            cost: served.cost(applicant, input, output_tokens, kinds),
            input_tokens: input,
            output_tokens,
        }
    };
    let open_at_most = SignedDuration::try_from(snapshot.longest_call())
        .unwrap_or(SignedDuration::from_hours(1))
        + SETTLE_TIME;
    let id = applicant.id;

    let generous = demand(extent.upper_bound(name), output_max);
    let measures_tokens = bounds.iter().any(|bound| {
        !matches!(
            bound.rule.counter.on(),
            Measure::Requests | Measure::Concurrent
        )
    });
    let adaptive = snapshot.config.quota.mode == ReservationMode::Adaptive && !stated;
    let locks_up = adaptive
        && bounds.iter().any(|bound| {
            let measure = bound.rule.counter.on();
            measures_output(measure)
                && bound.enforced
                && generous.units(measure).saturating_mul(WORST_CASE_SHARE) > bound.rule.max.units()
        });
    if !measures_tokens || !locks_up {
        let now = Timestamp::now();
        let expires = now.saturating_add(open_at_most).unwrap_or(Timestamp::MAX);
        match gateway
            .quota
            .reserve(id, bounds, &generous, now, expires)
            .await
        {
            Ok(()) => {
                return Ok(Reserved {
                    demand: generous,
                    capped: None,
                    allowance: None,
                });
            }
            Err(ReserveError::Denied(_)) => {}
            Err(error) => return Err(error),
        }
    }
    // It did not fit, or would lock up too much: count the input, and bound the output by habit.
    let priced = served.price.as_ref().map(|price| &*price.entry);
    let tokenizer = Tokenizer::for_model(name, priced);
    let input = upper_bound_input(applicant.endpoint, tokenizer, name, applicant.body);
    let output = if adaptive {
        let habit = served
            .habit(applicant)
            .map(|habit| gateway.habits.usual(&habit));
        habit.flatten().unwrap_or(habits::FIRST).min(output_max)
    } else {
        output_max
    };
    let followed = adaptive && can_be_followed(applicant, name);
    let mut tight = demand(input, output);
    let mut reserved = gateway
        .quota
        .reserve_or_wait(id, bounds, &tight, open_at_most, Timestamp::now)
        .await;
    if followed
        && output > habits::LEAST
        && matches!(&reserved, Err(ReserveError::Denied(denied)) if denied.settled)
    {
        // The rest of a limit is still good for a short answer.
        tight = demand(input, habits::LEAST);
        let now = Timestamp::now();
        let expires = now.saturating_add(open_at_most).unwrap_or(Timestamp::MAX);
        reserved = gateway
            .quota
            .reserve(id, bounds, &tight, now, expires)
            .await;
    }
    reserved?;
    let reserved_output = tight.output_tokens / choices;
    let partial = adaptive && reserved_output < output_max;
    let allowance = (partial && followed).then(|| {
        let pricing = allowance::Pricing {
            price: served.price.clone().or_else(|| served.likely.clone()),
            input_tokens: input,
            kinds,
            tier: applicant.ask.service_tier.clone(),
        };
        let most = output_max.saturating_mul(choices);
        let held = tight.output_tokens;
        Box::new(Allowance::new(id, bounds, pricing, tokenizer, held, most))
    });
    Ok(Reserved {
        demand: tight,
        capped: (partial && !followed).then_some(reserved_output),
        allowance,
    })
}

/// Whether what an answer costs can be seen as it passes, and the answer be ended where its limits end.
fn can_be_followed(applicant: &Applicant<'_>, model: &str) -> bool {
    let ask = applicant.ask;
    let speaks = memchr::memmem::find(applicant.body, b"\"modalities\"").is_some();
    let streams = matches!(
        applicant.endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Messages
            | Endpoint::Responses
    );
    streams && ask.stream && !ask.background && !speaks && !splice::may_think_unseen(model)
}

fn measures_output(measure: Measure) -> bool {
    matches!(
        measure,
        Measure::Cost | Measure::Tokens | Measure::OutputTokens
    )
}
