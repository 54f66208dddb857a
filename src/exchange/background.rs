//! Responses made in the background: billed once each, when their usage is first seen.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Exchange, Settled, traffic_key};
use crate::dialect::Endpoint;
use crate::ids::RequestId;
use crate::ledger::store::EntryFilter;
use crate::ledger::{Entry, Outcome};
use crate::measure;
use crate::meter::Reading;
use crate::metrics::Observation;
use crate::quota::Demand;
use crate::secret::SecretSha256;
use crate::tokens::UsageSource;

/// A response that was made in the background: the id of its bill, and when it was made.
pub(super) struct MadeInBackground {
    bill: RequestId,
    at: Option<Timestamp>,
}

/// How long the ledger may take to say whether a response was billed.
const LOOK_UP: Duration = Duration::from_secs(2);

impl Exchange {
    /// The response that an answer brings, where it was made in the background and is there.
    pub(super) fn made_in_background(&self, reading: &Reading) -> Option<MadeInBackground> {
        let response = reading.response_id.as_ref()?;
        if !reading.background || reading.queued {
            return None;
        }
        // The moment of its making, so that every look at it books the very same entry.
        let at = reading
            .created_at
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .filter(|at| {
                let age = self.entry.started_at.duration_since(*at);
                !age.is_negative() && age < BACKGROUND_AGE
            });
        Some(MadeInBackground {
            bill: background_id(response),
            at,
        })
    }

    /// The end of a request that brought a response made in the background: streamed as it was made, or fetched. It is billed
    /// when its usage is first seen, by an entry whose id is made of the response's own: however often it is fetched, by
    /// whichever gateway and after whatever restart, the ledger takes that entry once. What was asked is an entry without
    /// use.
    pub(super) async fn settle_made(
        mut self: Box<Self>,
        made: MadeInBackground,
        reading: Reading,
        outcome: Outcome,
    ) -> Settled {
        let asked = self.entry.clone();
        self.note_served(&reading);
        let measured = match measure::without_counting(&self.question, reading, self.entry.status) {
            Ok(measured) => measured,
            Err(reading) => self.count(*reading).await,
        };
        if measured.source == UsageSource::None {
            return self.settle_measured(measured, outcome);
        }
        let measured = self.apply_cut(measured);
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
        let now = Timestamp::now().max(self.entry.started_at);
        let billed = Entry {
            id: made.bill,
            ended_at: now,
            endpoint: Endpoint::Responses.as_str().into(),
            model: self.entry.model.clone().or(self.entry.served_model.clone()),
            outcome: Outcome::Completed,
            ..*std::mem::replace(&mut self.entry, asked)
        };
        let key = traffic_key(&self.snapshot, &billed);
        // The bill's, not of the entry that says what was asked.
        let incomplete = std::mem::take(&mut self.incomplete);
        let observation = Observation {
            usage,
            cost: billed.cost_usd(),
            unpriced: billed.is_unpriced() || incomplete,
            ..Observation::default()
        };
        let spent = Demand::settled(billed.cost_usd(), &usage);
        self.gateway.metrics.observe(key, &observation);
        self.gateway.book(billed);
        let unpriced = observation.unpriced || self.billed_beside;
        let mut settled = self.close_having_spent(outcome, spent);
        settled.usage = usage;
        settled.unpriced = unpriced;
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
}

/// A response is kept by its provider for 30 days: a moment farther away is no moment of a making.
const BACKGROUND_AGE: SignedDuration = SignedDuration::from_hours(31 * 24);

/// The ledger's id of a response that was made in the background: the same for each fetch, also where several upstreams lead to
/// the provider that keeps it. Providers draw the ids of what they keep at random.
fn background_id(response: &str) -> RequestId {
    let digest = SecretSha256::of(response.as_bytes());
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
