//! Admission: a request reserves the most that it can use on every limit that it counts against, or goes no further.
//!
//! A request that states no maximum must not lock up a whole budget. Where its worst case is small beside the limit it
//! is reserved as it is. Where it is not, or does not fit, admission reserves what such requests have needed so far. A
//! stream is then counted as it passes and its reservation extended in steps ([`Allowance`]); when no limit has room for
//! another, the gateway ends it with the dialect's `length` stop. An answer that cannot be followed (one that is no
//! stream, or of a model that thinks unseen) is bounded by its upstream: the reservation is sent along as its maximum.
//! Either way the limit holds.

mod allowance;
mod conversations;
mod habits;
mod limit_headers;
mod pieces;
mod refusal;
mod reservation;
mod reserve;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

pub use allowance::{Allowance, Cut, Extending, Room};
pub use conversations::{Conversations, Turn, TurnId};
pub use habits::Habits;
pub use limit_headers::LimitHeaders;
pub use reservation::Admission;

use crate::config::ServiceTier;
use crate::dialect::ask::Ask;
use crate::dialect::error_body::Code;
use crate::dialect::splice::{self, Edit};
use crate::dialect::{Dialect, Endpoint};
use crate::gateway::{Gateway, Origin};
use crate::identify::Caller;
use crate::ids::{ModelName, RequestId};
use crate::money::Money;
use crate::plan::Action;
use crate::price::{HeldPrice, InputKinds, PriceRow};
use crate::quota::ReserveError;
use crate::refuse::Refusal;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use refusal::{refuse_limit, refuse_quota};
use reserve::reserve;

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
    let mut now = admitted_at;
    let mut bounds = chain.bounds(asked, now);
    let mut served = Served::new(snapshot, &applicant, route, None, now)?;
    let mut cap = None;
    let mut downgraded = false;

    // Each turn without an answer clears one bound that no longer refuses, so there are at most as many turns as bounds.
    for _ in 0..=bounds.len() {
        let denied = match reserve(
            gateway,
            snapshot,
            &applicant,
            &served,
            &mut bounds,
            cap,
            now,
        )
        .await
        {
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
        // It may have waited.
        now = Timestamp::now();
        let Some(bound) = bounds.get_mut(denied.bound) else {
            return Err(refuse_quota(&ReserveError::WrongState));
        };
        match &bound.rule.then {
            // Who asks for the cheaper model itself has what others are given.
            Action::Downgrade(model) if served.model.as_ref() == Some(model) => {
                bound.enforced = false;
            }
            // Who names no model cannot be sent elsewhere.
            Action::Downgrade(model) if applicant.ask.model_span.is_some() => {
                bound.enforced = false;
                let route =
                    snapshot
                        .router
                        .route(applicant.endpoint, applicant.dialect, Some(model))?;
                served = Served::new(snapshot, &applicant, route, Some(model), now)?;
                downgraded = true;
            }
            Action::CapOutput(tokens)
                if applicant.endpoint.takes_maximum() && cap.is_none_or(|cap| *tokens < cap) =>
            {
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
                return Err(refuse_limit(&bounds, denied, now));
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
    /// The dearest tier that it may be served in: the one asked for, or one that an upstream of the route always serves.
    tier: Option<Box<str>>,
}

impl Served {
    fn new(
        snapshot: &Snapshot,
        applicant: &Applicant<'_>,
        route: Route,
        downgrade: Option<&ModelName>,
        now: Timestamp,
    ) -> Result<Served, Refusal> {
        let rename = route.rename.clone().or_else(|| downgrade.cloned());
        let model = rename.clone().or_else(|| applicant.ask.model.clone());
        let name = model.as_ref().map_or("", ModelName::as_str);
        let price = snapshot.prices.held(name, now);
        // Whoever checks texts need not say by what.
        let may_do_without = model.is_none() && applicant.endpoint.as_str() == "moderations";
        let is_priced =
            applicant.endpoint.is_metered() || (applicant.endpoint.may_report() && !may_do_without);
        if price.is_none() && snapshot.rejects_unpriced() && is_priced {
            return Err(Refusal::new(
                Code::UnpricedModel,
                format!("The model `{name}` has no price, and models without one are not served."),
            )
            .param("model"));
        }
        let likely = if price.is_none() && !name.is_empty() {
            snapshot.prices.dearest_like(name, now)
        } else {
            None
        };
        let mut served = Served {
            route,
            model,
            rename,
            price,
            likely,
            tier: None,
        };
        served.tier = served.dearest_tier(applicant.ask.service_tier.as_deref());
        Ok(served)
    }

    fn dearest_tier(&self, asked: Option<&str>) -> Option<Box<str>> {
        let fixed = self.route.upstreams.iter().filter_map(|upstream| {
            match &upstream.settings.service_tier {
                ServiceTier::Fixed(tier) => Some(&**tier),
                ServiceTier::Served | ServiceTier::Requested => None,
            }
        });
        let row = self.row()?;
        let costs = |tier: &&str| row.upper_bound(1_000, 1_000, InputKinds::default(), Some(tier));
        asked
            .into_iter()
            .chain(fixed)
            .max_by_key(costs)
            .map(Into::into)
    }

    /// The most output tokens of one answer, and who says so.
    fn output_max(&self, applicant: &Applicant<'_>) -> (u64, SaidBy) {
        let listed = |served: &Served| {
            let price = served.price.as_ref().or(served.likely.as_ref());
            price.and_then(|price| price.entry.max_output_tokens)
        };
        if !applicant.endpoint.is_metered() {
            let output = match pieces::has_output(applicant.endpoint) {
                true => listed(self).unwrap_or(UNKNOWN_OUTPUT_MAX),
                false => 0,
            };
            return (output, SaidBy::Request);
        }
        if let Some(stated) = applicant.ask.max_output(applicant.endpoint) {
            return (stated, SaidBy::Request);
        }
        match listed(self) {
            Some(model) => (model, SaidBy::PriceTable),
            None => (UNKNOWN_OUTPUT_MAX, SaidBy::Nobody),
        }
    }

    fn row(&self) -> Option<&PriceRow> {
        let price = self.price.as_ref().or(self.likely.as_ref());
        price.and_then(HeldPrice::row)
    }

    fn cost(&self, input: u64, output: u64, kinds: InputKinds) -> Money {
        self.row().map_or(Money::ZERO, |row| {
            row.upper_bound(input, output, kinds, self.tier.as_deref())
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

/// Who bounds an answer's output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SaidBy {
    /// The client, or the endpoint.
    Request,
    /// The model's entry in the price table.
    PriceTable,
    /// Nobody: more may come.
    Nobody,
}

/// What a model whose limit nobody knows is taken to put out.
const UNKNOWN_OUTPUT_MAX: u64 = 16_384;
