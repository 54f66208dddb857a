//! What a stream without a stated maximum may still put out: its reservation, extended in steps for as long as its limits
//! have room.

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;

use super::refusal::limit_name;
use crate::gateway::Gateway;
use crate::ids::RequestId;
use crate::measure::Measured;
use crate::meter::OutputText;
use crate::meter::count::{Running, Tokenizer};
use crate::money::Money;
use crate::price::{HeldPrice, InputKinds};
use crate::quota::{Bound, Demand, ReserveError};

/// The output that a stream has reserved, and what is needed to reserve more.
pub struct Allowance {
    id: RequestId,
    bounds: Vec<Bound>,
    pricing: Pricing,
    running: Running,
    /// Output tokens reserved so far.
    held: u64,
    /// The most that the model gives: more need never be reserved.
    output_max: u64,
    /// After a refusal, at how many tokens to ask again.
    ask_again_at: u64,
    refusal: Option<usize>,
}

/// How much of its allowance a stream has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Enough,
    /// So little that more should be reserved by the way.
    Low,
    /// None: the event that was looked at must not go out before more is reserved.
    Out,
}

/// What an extension came to: tokens, or the index of the limit that has no room (`None`: nobody could say).
type Extended = Result<u64, Option<usize>>;

/// An extension on its way.
pub type Extending = Pin<Box<dyn Future<Output = Extended> + Send>>;

/// An answer that was ended at its reservation.
#[derive(Clone, Debug)]
pub struct Cut {
    output_max: u64,
    reason: Arc<str>,
}

/// What a further token costs at most.
#[derive(Clone)]
pub(super) struct Pricing {
    pub(super) price: Option<HeldPrice>,
    pub(super) input_tokens: u64,
    pub(super) kinds: InputKinds,
    pub(super) tier: Option<Box<str>>,
}

/// With fewer tokens left, more are asked for: a second or so of a fast stream.
const LOW: u64 = 64;
/// The least and the most that is asked for at once: few calls for a long answer, little locked up by a short one.
const STEP: std::ops::RangeInclusive<u64> = 256..=4096;
/// The least that is worth reserving.
const STEP_MIN: u64 = 16;

impl Allowance {
    pub(super) fn new(
        id: RequestId,
        bounds: &[Bound],
        pricing: Pricing,
        tokenizer: Tokenizer,
        held: u64,
        output_max: u64,
    ) -> Allowance {
        Allowance {
            id,
            bounds: bounds.to_vec(),
            pricing,
            running: Running::new(tokenizer),
            held,
            output_max,
            ask_again_at: 0,
            refusal: None,
        }
    }

    /// What is left after the output that came so far.
    pub fn look(&mut self, output: &OutputText) -> Room {
        if self.held >= self.output_max || self.running.at_most(output) + LOW <= self.held {
            return Room::Enough;
        }
        let tokens = self.running.count(output);
        if tokens > self.held {
            return Room::Out;
        }
        if tokens + LOW > self.held && tokens >= self.ask_again_at {
            return Room::Low;
        }
        Room::Enough
    }

    /// Reserves more: as much as the answer has needed so far suggests, less where that does not fit, at least what
    /// `output` lacks.
    pub fn extend(&self, gateway: &Arc<Gateway>, output: &OutputText) -> Extending {
        let (id, gateway, held) = (self.id, Arc::clone(gateway), self.held);
        let pricing = self.pricing.clone();
        let lacks = self.running.at_most(output).saturating_sub(held) + STEP_MIN;
        let usual = (held / 2).clamp(*STEP.start(), *STEP.end());
        let most = self.output_max.saturating_sub(held);
        let mut steps = vec![lacks.max(usual).min(most)];
        while let Some(last) = steps.last()
            && last / 2 >= lacks
        {
            steps.push(last / 2);
        }
        Box::pin(async move {
            let mut refusal = None;
            for tokens in steps {
                let more = Demand {
                    cost: pricing.cost(held.saturating_add(tokens)) - pricing.cost(held),
                    input_tokens: 0,
                    output_tokens: tokens,
                };
                match gateway.quota.top_up(id, &more, Timestamp::now()).await {
                    Ok(()) => return Ok(tokens),
                    Err(ReserveError::Denied(denied)) => refusal = Some(denied.bound),
                    Err(_) => return Err(None),
                }
            }
            Err(refusal)
        })
    }

    /// Takes what an extension came to. Whether there is more now.
    pub fn extended(&mut self, extended: Extended) -> bool {
        match extended {
            Ok(tokens) => {
                self.held = self.held.saturating_add(tokens);
                (self.refusal, self.ask_again_at) = (None, 0);
                true
            }
            Err(refusal) => {
                self.refusal = refusal;
                self.ask_again_at = self.held.saturating_sub(LOW) + STEP_MIN;
                false
            }
        }
    }

    /// The stream ends here: at what, and why.
    pub fn cut(&self, gateway: &Gateway) -> Cut {
        let bound = self.refusal.and_then(|at| self.bounds.get(at));
        let reason = match bound {
            Some(bound) => {
                gateway.limit_reached(&bound.rule, bound.window);
                gateway
                    .metrics
                    .event("stream_cut", bound.rule.plan.as_str());
                limit_name(&bound.rule)
            }
            None => {
                gateway.metrics.event("stream_cut", "quota_unavailable");
                "the limits could not be checked".to_owned()
            }
        };
        tracing::debug!(id = %self.id, reason, tokens = self.held, "a stream was ended at its limit");
        Cut {
            output_max: self.held,
            reason: reason.into(),
        }
    }

    /// A stream that nobody takes any more ends here.
    pub fn cut_unseen(&self) -> Cut {
        Cut {
            output_max: self.held,
            reason: "read on up to its reservation".into(),
        }
    }
}

impl Cut {
    /// Why, for the ledger.
    pub fn reason(&self) -> Arc<str> {
        Arc::clone(&self.reason)
    }

    /// What was not passed on is not counted: the answer was ended within its reservation, and the upstream told to stop.
    pub fn apply(&self, measured: &mut Measured) {
        let usage = &mut measured.usage;
        usage.output_tokens = usage.output_tokens.min(self.output_max);
        usage.reasoning_output_tokens = usage.reasoning_output_tokens.min(usage.output_tokens);
        if let [only] = measured.parts.as_mut_slice() {
            only.usage = measured.usage;
        }
    }
}

impl Pricing {
    pub(super) fn cost(&self, output_tokens: u64) -> Money {
        let row = self.price.as_ref().and_then(HeldPrice::row);
        row.map_or(Money::ZERO, |row| {
            row.upper_bound(
                self.input_tokens,
                output_tokens,
                self.kinds,
                self.tier.as_deref(),
            )
        })
    }
}
