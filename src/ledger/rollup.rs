//! Sums of entries: what reports read instead of the entries themselves. Pure.

use jiff::Timestamp;

use super::codec::{self, Reader};
use super::entry::{Entry, Outcome};
use crate::hash::HashMap;
use crate::money::Money;
use crate::price::CostByClass;
use crate::tokens::Usage;

/// Milliseconds of an hour.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// What was used and what it cost: the figures of a rollup row, and of whatever is added up from rows.
///
/// A correction adds its signed cost and counts as no request. Its usage is a difference too, but tokens are counts
/// that never fall: corrections of usage are booked with the tokens that were missed, and none for what was too much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Entries that are no corrections.
    pub requests: u64,
    /// Of these, with something used and no price: the sum of [`Entry::unpriced_delta`]. Below zero in a row that holds
    /// only the corrections of another row's entries (a correction's own tokens put it in band 0).
    pub unpriced_requests: i64,
    /// Of these, by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; 5],
    /// Upstream calls beyond the first.
    pub retries: u64,
    /// Tokens.
    pub usage: Usage,
    /// Cost by class.
    pub cost: CostByClass,
    /// Cost without caches and discounts.
    pub undiscounted: Money,
    /// Cost of entries that ended `client_closed`.
    pub client_closed_cost: Money,
    /// Cost of entries that ended `upstream_failed` or `interrupted`.
    pub failed_cost: Money,
}

impl Sums {
    /// The sums of one entry.
    pub(super) fn of(entry: &Entry) -> Sums {
        let mut sums = Sums::default();
        sums.add_entry(entry);
        sums
    }

    /// Adds one entry.
    pub(super) fn add_entry(&mut self, entry: &Entry) {
        self.unpriced_requests += entry.unpriced_delta();
        if entry.corrects.is_none() {
            self.requests += 1;
            if let Some(count) = self.outcomes.get_mut(usize::from(entry.outcome.code())) {
                *count += 1;
            }
            self.retries += u64::from(entry.retries);
        }
        self.usage += entry.usage;
        self.cost += entry.cost;
        self.undiscounted += entry.undiscounted;
        match entry.outcome {
            Outcome::ClientClosed => self.client_closed_cost += entry.cost_usd(),
            Outcome::UpstreamFailed | Outcome::Interrupted => self.failed_cost += entry.cost_usd(),
            Outcome::Completed | Outcome::Rejected => {}
        }
    }

    /// As bytes: a sum of money may leave 64 bits, and most figures are zero.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        codec::put(out, self.requests);
        codec::put_signed(out, self.unpriced_requests.into());
        for count in self.outcomes {
            codec::put(out, count);
        }
        codec::put(out, self.retries);
        codec::put_usage(out, &self.usage);
        codec::put_cost(out, &self.cost);
        codec::put_signed(out, self.undiscounted.picos());
        codec::put_signed(out, self.client_closed_cost.picos());
        codec::put_signed(out, self.failed_cost.picos());
    }

    /// Reads what [`Sums::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Sums> {
        let mut from = Reader { rest: bytes };
        let mut sums = Sums {
            requests: from.number()?,
            unpriced_requests: i64::try_from(from.signed()?).ok()?,
            ..Sums::default()
        };
        for count in &mut sums.outcomes {
            *count = from.number()?;
        }
        sums.retries = from.number()?;
        sums.usage = from.usage()?;
        sums.cost = from.cost()?;
        sums.undiscounted = Money::from_picos(from.signed()?);
        sums.client_closed_cost = Money::from_picos(from.signed()?);
        sums.failed_cost = Money::from_picos(from.signed()?);
        from.rest.is_empty().then_some(sums)
    }
}

impl std::ops::AddAssign<&Sums> for Sums {
    fn add_assign(&mut self, other: &Sums) {
        self.requests += other.requests;
        self.unpriced_requests += other.unpriced_requests;
        for (count, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *count += more;
        }
        self.retries += other.retries;
        self.usage += other.usage;
        self.cost += other.cost;
        self.undiscounted += other.undiscounted;
        self.client_closed_cost += other.client_closed_cost;
        self.failed_cost += other.failed_cost;
    }
}

/// Sums by key, in the keys' order: writers that update rows in one order cannot deadlock each other.
pub(super) fn sorted<K: Ord>(sums: HashMap<K, Sums>) -> Vec<(K, Sums)> {
    let mut sorted: Vec<_> = sums.into_iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    sorted
}

/// The start of the hour that a moment falls in, in milliseconds since 1970.
pub(super) fn hour_of(moment: Timestamp) -> i64 {
    let ms = moment.as_millisecond();
    ms - ms.rem_euclid(HOUR_MS)
}
