//! One request as the gateway would have booked it, also where it goes wrong.

use std::sync::Arc;

use jiff::Timestamp;

use super::day::SubscriberDay;
use crate::demo::tasks::{Api, Task};
use crate::ids::{PlanId, RequestId};
use crate::ledger::{Entry, Outcome};
use crate::money::Money;
use crate::price::{Part, price_parts};
use crate::tokens::{Usage, UsageSource};

/// The requests of a few in a thousand go wrong.
const REFUSED_UPSTREAM: u32 = 9;
const BROKE_OFF: u32 = 4;
const CLIENT_GONE: u32 = 25;
const RETRIED: u32 = 6;
const WRONG_MODEL: u32 = 2;

impl SubscriberDay<'_> {
    /// A request of a task, priced; what goes wrong with it is in its outcome.
    pub(super) fn entry(&mut self, task: &Task, at: Timestamp, plan: &PlanId) -> Entry {
        let usage = task.usage(self.habit.size, &mut self.chance);
        let first_token_ms = self.chance.around(520.0, 0.5).clamp(90.0, 30_000.0) as u32
            + usage.reasoning_output_tokens as u32 * 7;
        let streamed = self.chance.permille(task.streamed);
        let id = uuid::Builder::from_unix_timestamp_millis(
            u64::try_from(at.as_millisecond()).unwrap_or(0),
            &self.chance.bytes(),
        );
        let answer_ms = u32::try_from(usage.output_tokens).unwrap_or(u32::MAX) / 80 * 1000;
        let mut entry = Entry {
            id: RequestId(id.into_uuid()),
            started_at: at,
            ended_at: at,
            lineage: Arc::clone(&self.subscriber.lineage),
            key: self.subscriber.key.clone(),
            plan: plan.clone(),
            endpoint: task.api.endpoint().into(),
            model: Some(task.model.into()),
            served_model: Some(task.served.into()),
            upstream: Some(task.api.upstream().into()),
            service_tier: service_tier(task).map(Arc::from),
            status: 200,
            outcome: Outcome::Completed,
            reason: None,
            streamed,
            usage,
            usage_source: UsageSource::Reported,
            cost: Default::default(),
            undiscounted: Money::ZERO,
            priced_by: Vec::new(),
            first_token_ms: Some(first_token_ms),
            duration_ms: first_token_ms.saturating_add(answer_ms),
            retries: u8::from(self.chance.permille(RETRIED)),
            end_user: None,
            tags: Vec::new(),
            corrects: None,
        };
        if self.subscriber.people > 1 {
            let person = self.chance.below(self.subscriber.people);
            entry.end_user = Some(format!("customer-{:02}", person + 1).into());
        }
        if let Some(feature) = task.feature {
            entry.tags.push(("feature".into(), feature.into()));
        }
        self.go_wrong(&mut entry);
        self.price(&mut entry, task.served);
        let took = i64::from(entry.duration_ms);
        entry.ended_at = Timestamp::from_millisecond(at.as_millisecond() + took).unwrap_or(at);
        entry
    }

    /// What goes wrong now and then.
    fn go_wrong(&mut self, entry: &mut Entry) {
        if self.chance.permille(REFUSED_UPSTREAM) {
            entry.status = if self.chance.permille(600) { 429 } else { 500 };
            entry.outcome = Outcome::UpstreamFailed;
            entry.served_model = None;
            entry.service_tier = None;
            entry.first_token_ms = None;
            entry.duration_ms = 180 + self.chance.below(900) as u32;
            unused(entry);
        } else if entry.streamed && self.chance.permille(CLIENT_GONE) {
            entry.outcome = Outcome::ClientClosed;
            self.cut(entry);
        } else if entry.streamed && self.chance.permille(BROKE_OFF) {
            entry.outcome = Outcome::UpstreamFailed;
            self.cut(entry);
        } else if self.chance.permille(WRONG_MODEL) {
            entry.model = Some("gpt-4o-latest-please".into());
            refuse(entry, 404, "model_not_found");
        }
    }

    /// An answer of which only a part came: its tokens were counted, reasoning and cache unseen.
    fn cut(&mut self, entry: &mut Entry) {
        let part = 5 + self.chance.below(90);
        entry.usage = Usage {
            input_tokens: entry.usage.input_tokens,
            output_tokens: (entry.usage.output_tokens - entry.usage.reasoning_output_tokens) * part
                / 100,
            ..Usage::default()
        };
        entry.usage_source = UsageSource::Counted;
        entry.service_tier = None;
        entry.duration_ms = entry.duration_ms / 100 * part as u32;
    }

    /// The price that held on that day.
    fn price(&self, entry: &mut Entry, served: &str) {
        if entry.usage_source == UsageSource::None {
            return;
        }
        let part = Part {
            model: served,
            asked: None,
            usage: entry.usage,
        };
        let tier = entry.service_tier.as_deref();
        // Tokens below a million cannot leave the range of money.
        if let Ok(priced) = price_parts(self.prices, &[part], tier, entry.started_at) {
            entry.cost = priced.cost.by_class;
            entry.undiscounted = priced.cost.undiscounted;
            entry.priced_by = priced.priced_by;
        }
    }
}

/// The tier that the provider says it served.
fn service_tier(task: &Task) -> Option<&'static str> {
    match task.api {
        Api::Messages => Some("standard"),
        Api::Chat | Api::Responses => Some(task.tier.unwrap_or("default")),
        Api::Completions | Api::Embeddings => None,
    }
}

/// Turns an entry into that of a request which the gateway refused.
pub(super) fn refuse(entry: &mut Entry, status: u16, reason: &str) {
    entry.status = status;
    entry.outcome = Outcome::Rejected;
    entry.reason = Some(reason.into());
    entry.served_model = None;
    entry.upstream = None;
    entry.service_tier = None;
    entry.first_token_ms = None;
    entry.duration_ms = 1;
    entry.ended_at = entry
        .started_at
        .checked_add(jiff::SignedDuration::from_millis(1))
        .unwrap_or(entry.started_at);
    entry.retries = 0;
    unused(entry);
}

fn unused(entry: &mut Entry) {
    entry.usage = Usage::default();
    entry.usage_source = UsageSource::None;
    entry.cost = Default::default();
    entry.undiscounted = Money::ZERO;
    entry.priced_by = Vec::new();
}
