//! One request's line in the ledger.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::ids::{AccountId, KeyId, ModelName, PlanId, RequestId, UpstreamId};
use crate::money::Money;
use crate::price::{CostByClass, PricedBy};
use crate::tokens::{Usage, UsageSource};

/// One request that was let through or rejected, with its exact cost. Never changed once written, only corrected by a
/// further entry whose [`Entry::corrects`] names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, the client's `x-weir-request-id`.
    pub id: RequestId,
    /// When the request's head was read. Kept to the millisecond, as all times here.
    pub started_at: Timestamp,
    /// When its end was known.
    pub ended_at: Timestamp,
    /// The accounts that it counts against, from the root down; the last one is `account`. Kept as they stood at the
    /// time, so that moving an account later does not move what was spent.
    pub lineage: Arc<[AccountId]>,
    /// The key that it came with.
    pub key: KeyId,
    /// The account's plan at the time.
    pub plan: PlanId,
    /// `chat.completions`, `responses`, `messages`, …
    pub endpoint: Arc<str>,
    /// The name that the client asked for.
    pub model: Option<ModelName>,
    /// The model that the upstream says it used.
    pub served_model: Option<ModelName>,
    /// Where it went.
    pub upstream: Option<UpstreamId>,
    /// The tier that the upstream says it served.
    pub service_tier: Option<Arc<str>>,
    /// HTTP status, as the client got it.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// For a rejected request, why; for a correction, what it corrects and why.
    pub reason: Option<Arc<str>>,
    /// Whether the client asked for a stream.
    pub streamed: bool,
    /// Tokens by class.
    pub usage: Usage,
    /// How they came about.
    pub usage_source: UsageSource,
    /// What it cost, by class; the sum is `cost_usd`.
    pub cost: CostByClass,
    /// What it would have cost without caches and discounts.
    pub undiscounted: Money,
    /// The price rows that were used; empty means unpriced. More than one where several models served one answer.
    pub priced_by: Vec<PricedBy>,
    /// From the request's head to the first token of the answer.
    pub first_token_ms: Option<u32>,
    /// From the request's head to the answer's end.
    pub duration_ms: u32,
    /// Upstream calls beyond the first.
    pub retries: u8,
    /// The caller's own user, as it named it.
    pub end_user: Option<Arc<str>>,
    /// What the caller attributes it to.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// The entry that this one corrects: its usage and cost are then *differences*.
    pub corrects: Option<RequestId>,
}

impl Entry {
    /// The account that made the request.
    pub fn account(&self) -> Option<&AccountId> {
        self.lineage.last()
    }

    /// The request ended `now` and took `duration`. The clock may have been set back meanwhile: its end is never before its
    /// beginning.
    pub fn end(&mut self, now: Timestamp, duration: Duration) {
        self.ended_at = now.max(self.started_at);
        self.duration_ms = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    }

    /// The exact cost.
    pub fn cost_usd(&self) -> Money {
        self.cost.total()
    }

    /// Whether something was used that no price covers.
    pub fn is_unpriced(&self) -> bool {
        self.priced_by.is_empty() && self.usage_source != UsageSource::None
    }

    /// What the entry adds to a count of unpriced requests: 1 when it has no price, -1 when it is the correction that
    /// gives one to an entry that had none (see [`WAS_UNPRICED`]). A correction carries its entry's `started_at`,
    /// account, key, models and upstream, so that both fall in the same hour's sums.
    pub fn unpriced_delta(&self) -> i64 {
        match (&self.corrects, &self.reason) {
            (None, _) => i64::from(self.is_unpriced()),
            (Some(_), Some(reason)) if reason.starts_with(WAS_UNPRICED) => -1,
            (Some(_), _) => 0,
        }
    }
}

/// How the `reason` of a correction begins when the entry that it corrects had no price.
pub const WAS_UNPRICED: &str = "was unpriced";

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole answer, status below 400.
    Completed,
    /// The client went away first.
    ClientClosed,
    /// The upstream answered 400 or more, or broke off.
    UpstreamFailed,
    /// The gateway died.
    Interrupted,
    /// By the gateway.
    Rejected,
}

impl Outcome {
    /// All outcomes, in the order of their codes in the store.
    pub const ALL: [Outcome; 5] = [
        Outcome::Completed,
        Outcome::ClientClosed,
        Outcome::UpstreamFailed,
        Outcome::Interrupted,
        Outcome::Rejected,
    ];

    /// Its code in the store: its place in [`Outcome::ALL`].
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// The outcome of that code.
    pub(super) fn of_code(code: u8) -> Option<Outcome> {
        Outcome::ALL.get(usize::from(code)).copied()
    }

    /// The outcome of that name.
    pub fn parse(text: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// The name in ledger and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::ClientClosed => "client_closed",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::Interrupted => "interrupted",
            Outcome::Rejected => "rejected",
        }
    }
}

impl UsageSource {
    /// Its code in the store: its place in [`UsageSource::ALL`].
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// The source of that code.
    pub(super) fn of_code(code: u8) -> Option<UsageSource> {
        UsageSource::ALL.get(usize::from(code)).copied()
    }
}
