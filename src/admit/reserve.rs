//! How much of its limits a request holds: its worst case where that is cheap, else what such requests have needed.

use jiff::{SignedDuration, Timestamp};

use super::allowance::Pricing;
use super::pieces::{self, Pieces};
use super::{Allowance, Applicant, SaidBy, Served, TurnId, habits};
use crate::config::ReservationMode;
use crate::dialect::{Dialect, Endpoint, splice};
use crate::gateway::Gateway;
use crate::ids::{ModelName, RequestId};
use crate::meter::count::{Extent, Tokenizer, upper_bound_input};
use crate::money::Money;
use crate::plan::Measure;
use crate::price::InputKinds;
use crate::quota::{Bound, Demand, Quota, ReserveError};
use crate::snapshot::Snapshot;

/// An answer that would need more than this share of a limit is not reserved at its worst case.
const WORST_CASE_SHARE: i128 = 50;
/// A reservation holds no longer than a call can take, and somewhat more for its settlement.
const SETTLE_TIME: SignedDuration = SignedDuration::from_secs(60);

/// What was reserved.
pub(super) struct Reserved {
    pub(super) demand: Demand,
    /// The maximum that must be sent along so that the reservation holds.
    pub(super) capped: Option<u64>,
    /// Or what is needed to hold a stream to it.
    pub(super) allowance: Option<Box<Allowance>>,
}

/// Reserves for a request that is served in this way; `cap` is what a limit allows its output at most.
pub(super) async fn reserve(
    gateway: &Gateway,
    snapshot: &Snapshot,
    applicant: &Applicant<'_>,
    served: &Served,
    bounds: &mut [Bound],
    cap: Option<u64>,
    now: Timestamp,
) -> Result<Reserved, ReserveError> {
    let need = Need::new(gateway, snapshot, applicant, served, cap);
    let open_at_most = SignedDuration::try_from(snapshot.longest_call())
        .unwrap_or(SignedDuration::from_hours(1))
        + SETTLE_TIME;
    let (quota, id) = (&gateway.quota, applicant.id);

    let generous = need.demand(need.input_max(), need.output_max);
    if !need.locks_up(bounds, &generous)
        && reserve_whole(quota, id, bounds, &generous, open_at_most, now).await?
    {
        let more_may_come = need.said_by == SaidBy::Nobody
            && need.followed
            && bounds.iter().any(|bound| holds_output(&bound));
        return Ok(Reserved {
            capped: None,
            allowance: more_may_come.then(|| need.allowance(bounds, &generous)),
            demand: generous,
        });
    }
    // It did not fit, or would lock up too much: count the input, and bound the output.
    let input = need.counted_input();
    let usual = need.usual_output(gateway);
    if let Some(roomy) = need
        .roomy_output(bounds, input)
        .filter(|most| *most > usual)
    {
        let demand = need.demand(input, roomy);
        // The first try may have waited.
        if reserve_whole(quota, id, bounds, &demand, open_at_most, Timestamp::now()).await? {
            return Ok(Reserved {
                demand,
                capped: (roomy < need.output_max).then_some(roomy),
                allowance: None,
            });
        }
    }
    let (mut output, mut tight) = (usual, need.demand(input, usual));
    let mut reserved = quota
        .reserve_or_wait(id, bounds, &tight, open_at_most, Timestamp::now)
        .await;
    if need.followed
        && output > habits::LEAST
        && matches!(&reserved, Err(ReserveError::Denied(denied)) if denied.settled)
    {
        // The rest of a limit is still good for a short answer.
        (output, tight) = (habits::LEAST, need.demand(input, habits::LEAST));
        let now = Timestamp::now();
        let expires = now.saturating_add(open_at_most).unwrap_or(Timestamp::MAX);
        reserved = quota.reserve(id, bounds, &tight, now, expires).await;
    }
    reserved?;
    let partial = need.adaptive && output < need.output_max;
    let follows = need.followed && (partial || need.said_by == SaidBy::Nobody);
    Ok(Reserved {
        capped: (partial && !need.followed).then_some(output),
        allowance: follows.then(|| need.allowance(bounds, &tight)),
        demand: tight,
    })
}

/// Reserves a demand, and waits where it is not its size that is refused: a smaller one would not fit either. `false` where it
/// is too large.
async fn reserve_whole(
    quota: &Quota,
    id: RequestId,
    bounds: &mut [Bound],
    demand: &Demand,
    open_at_most: SignedDuration,
    now: Timestamp,
) -> Result<bool, ReserveError> {
    let expires = now.saturating_add(open_at_most).unwrap_or(Timestamp::MAX);
    let mut reserved = quota.reserve(id, bounds, demand, now, expires).await;
    if matches!(reserved, Err(ReserveError::Denied(_))) && fits(bounds, demand) {
        reserved = quota
            .reserve_or_wait(id, bounds, demand, open_at_most, Timestamp::now)
            .await;
    }
    match reserved {
        Ok(()) => Ok(true),
        Err(ReserveError::Denied(_)) if !fits(bounds, demand) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a request may need.
struct Need<'a> {
    applicant: &'a Applicant<'a>,
    served: &'a Served,
    name: &'a str,
    extent: Extent,
    /// Input tokens of earlier turns that the body does not show.
    earlier: u64,
    kinds: InputKinds,
    choices: u64,
    /// What may be billed by the piece, at the endpoints that know such a thing.
    pieces: Option<Pieces>,
    /// The most output tokens of one choice, and who says so.
    output_max: u64,
    said_by: SaidBy,
    /// Whether less than the worst case may be reserved.
    adaptive: bool,
    /// Whether what the answer costs can be seen as it passes, and the answer be ended where its limits end.
    followed: bool,
}

impl<'a> Need<'a> {
    fn new(
        gateway: &Gateway,
        snapshot: &Snapshot,
        applicant: &'a Applicant<'a>,
        served: &'a Served,
        cap: Option<u64>,
    ) -> Need<'a> {
        let name = served.model.as_ref().map_or("", ModelName::as_str);
        let (endpoint, body) = (applicant.endpoint, applicant.body);
        let long_strings = &applicant.ask.long_strings;
        let choices = applicant.ask.choices.max(1);
        let (extent, pieces) = match endpoint.is_metered() {
            true => (Extent::knowing(body, long_strings), None),
            false if endpoint.may_report() => {
                let (extent, pieces) = pieces::most(endpoint, body, long_strings, choices);
                (extent, Some(pieces))
            }
            false => (Extent::default(), None),
        };
        let (most, asked_by) = served.output_max(applicant);
        let (output_max, said_by) = match cap {
            // A limit's cap is sent along.
            Some(cap) if cap < most || asked_by == SaidBy::Nobody => {
                (cap.min(most), SaidBy::PriceTable)
            }
            _ => (most, asked_by),
        };
        let adaptive = snapshot.config.quota.mode == ReservationMode::Adaptive
            && asked_by != SaidBy::Request
            && applicant.endpoint.takes_maximum();
        Need {
            applicant,
            served,
            name,
            kinds: InputKinds {
                cache_1h: applicant.dialect == Dialect::Anthropic
                    && memchr::memmem::find(applicant.body, b"\"1h\"").is_some(),
                audio: extent.audio_bytes > 0,
                images: extent.images > 0,
            },
            extent,
            earlier: earlier_tokens(gateway, applicant),
            choices,
            pieces,
            output_max,
            said_by,
            adaptive,
            followed: adaptive && can_be_followed(applicant, name),
        }
    }

    /// What counts its tokens, where they must be counted.
    fn tokenizer(&self) -> Tokenizer {
        let price = self.served.price.as_ref();
        Tokenizer::for_model(self.name, price.map(|price| &*price.entry))
    }

    fn demand(&self, input_tokens: u64, output: u64) -> Demand {
        let output_tokens = output.saturating_mul(self.choices);
        if let Some(pieces) = self.pieces {
            // Files say little of their tokens: the bound is many times what most need, and a limit on tokens would refuse
            // what fits into it well.
            let row = self.served.row();
            let cost = self.served.cost(input_tokens, output_tokens, self.kinds);
            return Demand {
                cost: cost + row.map_or(Money::ZERO, |row| pieces.cost(row)),
                ..Demand::default()
            };
        }
        Demand {
            cost: self.served.cost(input_tokens, output_tokens, self.kinds),
            input_tokens,
            output_tokens,
        }
    }

    /// Whether a demand would take so much of a limit that others could not be served beside it.
    fn locks_up(&self, bounds: &[Bound], demand: &Demand) -> bool {
        self.adaptive
            && bounds.iter().filter(holds_output).any(|bound| {
                let units = demand.units(bound.rule.counter.on());
                units.saturating_mul(WORST_CASE_SHARE) > bound.rule.max.units()
            })
    }

    fn input_max(&self) -> u64 {
        self.extent
            .upper_bound(self.name)
            .saturating_add(self.earlier)
    }

    fn counted_input(&self) -> u64 {
        if self.pieces.is_some() {
            return self.input_max();
        }
        let Applicant { endpoint, body, .. } = self.applicant;
        upper_bound_input(endpoint, self.tokenizer(), self.name, body).saturating_add(self.earlier)
    }

    /// What such requests have needed.
    fn usual_output(&self, gateway: &Gateway) -> u64 {
        if !self.adaptive {
            return self.output_max;
        }
        let habit = self.served.habit(self.applicant);
        let usual = habit.and_then(|habit| gateway.habits.usual(&habit));
        usual.unwrap_or(habits::FIRST).min(self.output_max)
    }

    /// For an answer that cannot be followed, whose reservation is sent along as its maximum: the most that locks up little.
    fn roomy_output(&self, bounds: &[Bound], input: u64) -> Option<u64> {
        if !self.adaptive || self.followed {
            return None;
        }
        let (least, most) = (self.demand(input, 0), self.demand(input, self.output_max));
        let room = |bound: &Bound| {
            let on = bound.rule.counter.on();
            let share = bound.rule.max.units() / WORST_CASE_SHARE - least.units(on);
            let whole = (most.units(on) - least.units(on)).max(1);
            let tokens = i128::from(self.output_max).saturating_mul(share.max(0)) / whole;
            u64::try_from(tokens).unwrap_or(u64::MAX)
        };
        let rooms = bounds.iter().filter(holds_output).map(room);
        Some(rooms.fold(self.output_max, u64::min))
    }

    /// What holds a stream to what it has reserved.
    fn allowance(&self, bounds: &[Bound], held: &Demand) -> Box<Allowance> {
        let pricing = Pricing {
            price: self
                .served
                .price
                .clone()
                .or_else(|| self.served.likely.clone()),
            input_tokens: held.input_tokens,
            kinds: self.kinds,
            tier: self.served.tier.clone(),
        };
        let most = match self.said_by {
            SaidBy::Nobody => u64::MAX,
            _ => self.output_max.saturating_mul(self.choices),
        };
        Box::new(Allowance::new(
            self.applicant.id,
            bounds,
            pricing,
            self.tokenizer(),
            held.output_tokens,
            most,
        ))
    }
}

/// Those of the turns that a request continues.
fn earlier_tokens(gateway: &Gateway, applicant: &Applicant<'_>) -> u64 {
    let continues = applicant.ask.continues(applicant.endpoint);
    continues.map_or(0, |id| {
        gateway.conversations.tokens_before(&TurnId {
            account: applicant.caller.member.account.id.clone(),
            id: id.into(),
        })
    })
}

/// Whether a demand has room on every limit that its size matters to, as they stood when they were last asked.
fn fits(bounds: &[Bound], demand: &Demand) -> bool {
    bounds
        .iter()
        .filter(|bound| {
            let on = bound.rule.counter.on();
            bound.enforced && !matches!(on, Measure::Requests | Measure::Concurrent)
        })
        .all(|bound| demand.units(bound.rule.counter.on()) <= bound.remaining().max(0))
}

fn holds_output(bound: &&Bound) -> bool {
    bound.enforced
        && matches!(
            bound.rule.counter.on(),
            Measure::Cost | Measure::Tokens | Measure::OutputTokens
        )
}

fn can_be_followed(applicant: &Applicant<'_>, model: &str) -> bool {
    let ask = applicant.ask;
    let streams = matches!(
        applicant.endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Messages
            | Endpoint::Responses
    );
    // The body may be large: it is looked through last.
    streams
        && ask.stream
        && !ask.background
        && !splice::may_think_unseen(model)
        && memchr::memmem::find(applicant.body, b"\"modalities\"").is_none()
}
