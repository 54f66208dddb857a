//! The ledger against a provider's own bill: by day and model, each difference with its likely cause.
//!
//! Models are compared by their entry in the price table, so that a bill's dated snapshot meets the name that clients
//! asked for. A cause is a likelihood, read from what the two sides have and lack; it is never a correction.

pub mod bill;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::MarginError;
use super::days::{DAY_MS, date_of, midnight_ms, timestamp_of};
use super::reading::Progress;
use crate::ids::UpstreamId;
use crate::ledger::entry::Outcome;
use crate::ledger::store::{Grain, RollupRow, Store, TimeRange};
use crate::money::Money;
use crate::price::PriceTable;

use bill::{Bill, Billed, Kind};

/// The ledger beside a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconciliation {
    /// The first moment: the bill's first day.
    pub since: Timestamp,
    /// The first moment after the bill's last day.
    pub until: Timestamp,
    /// What kind of file the bill was.
    pub bill: Kind,
    /// The upstreams whose entries were compared; empty means all.
    pub upstreams: Vec<UpstreamId>,
    /// Whether every line agrees: cost to the cent, counts exactly.
    pub agrees: bool,
    /// Each day and model, in order.
    pub rows: Vec<Line>,
    /// All days and models.
    pub total: Compared,
}

/// One day and model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The day (UTC).
    pub day: Date,
    /// The model; `None` for what the bill does not tell apart by model.
    pub model: Option<String>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Compared,
    /// Whether they agree.
    pub agrees: bool,
    /// Why they may not.
    pub causes: Vec<Cause>,
}

/// Both sides of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// What the provider billed.
    pub billed: Billed,
    /// What the ledger has.
    pub ledger: Booked,
    /// Billed less booked cost; `None` where the bill has no cost.
    pub difference_usd: Option<Money>,
    /// Billed less booked tokens; `None` where the bill has none.
    pub difference_tokens: Option<i128>,
    /// Billed less booked requests; `None` where the bill has none.
    pub difference_requests: Option<i128>,
}

/// What the ledger has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Booked {
    /// The cost of use.
    pub cost_usd: Money,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Requests that reached an upstream.
    pub requests: u64,
    /// Of these, without a price.
    pub unpriced_requests: u64,
    /// Of these, whose answer did not end well for the client: their tokens may have been counted, not reported.
    pub broken_requests: u64,
}

/// A likely cause of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Which.
    pub cause: CauseKind,
    /// A sentence about it.
    pub detail: String,
}

/// The kinds of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// The ledger has requests without a price.
    Unpriced,
    /// The provider served what the ledger does not know: another key, or a client that goes round the gateway.
    AnotherKey,
    /// Requests are the same and tokens are not: some were counted here, not reported.
    Uncounted,
    /// The ledger has what the bill does not: another upstream or account, or a bill that is not closed yet.
    NotBilled,
    /// Tokens are the same and cost is not: another price.
    Price,
    /// The difference is made up on the day before or after: the provider booked it on the other side of midnight.
    Midnight,
}

/// Compares.
///
/// # Errors
/// [`MarginError::Store`].
pub fn reconcile(
    store: &dyn Store,
    prices: &PriceTable,
    bill: &Bill,
    upstreams: &[UpstreamId],
    progress: Progress<'_>,
) -> Result<Reconciliation, MarginError> {
    let days: BTreeSet<Date> = bill.lines.keys().map(|(day, _)| *day).collect();
    let (first, last) = match (days.first(), days.last()) {
        (Some(first), Some(last)) => (midnight_ms(*first), midnight_ms(*last) + DAY_MS),
        _ => (0, 0),
    };
    let canonical = |model: &str| {
        prices
            .model(model)
            .map_or_else(|| model.to_owned(), |entry| entry.model.to_string())
    };
    let mut lines: BTreeMap<(Date, Option<String>), (Billed, Booked)> = BTreeMap::new();
    let mut keys: BTreeMap<(Date, Option<String>), BTreeSet<&str>> = BTreeMap::new();
    for ((day, model), billed) in &bill.lines {
        let line = (*day, model.as_deref().map(canonical));
        if let Some(names) = bill.keys.get(&(*day, model.clone())) {
            let known = keys.entry(line.clone()).or_default();
            known.extend(names.iter().map(String::as_str));
        }
        lines.entry(line).or_default().0.merge(billed);
    }
    // Days on which the bill tells no models apart are compared whole.
    let whole: BTreeSet<Date> = days
        .iter()
        .filter(|day| {
            let named = (**day, Some(String::new()))..;
            lines
                .range(named)
                .next()
                .is_none_or(|((on, _), _)| on != *day)
        })
        .copied()
        .collect();
    let mut at = first;
    while at < last {
        let range = TimeRange {
            since: timestamp_of(at),
            until: timestamp_of(at + DAY_MS),
        };
        let day = date_of(at);
        store.rollup(Grain::Hour, range, &mut |row| {
            let wanted = match &row.upstream {
                _ if upstreams.is_empty() => true,
                Some(upstream) => upstreams.contains(upstream),
                None => false,
            };
            if !wanted {
                return;
            }
            let booked = Booked::of(row);
            if booked == Booked::default() {
                return;
            }
            let model = row.served_model.as_ref().or(row.model.as_ref());
            let model = (!whole.contains(&day))
                .then(|| model.map_or_else(|| "(none)".to_owned(), |m| canonical(m.as_str())));
            lines.entry((day, model)).or_default().1.add(&booked);
        })?;
        at += DAY_MS;
        progress((at - first).unsigned_abs(), (last - first).unsigned_abs());
    }
    let mut total = (Billed::default(), Booked::default());
    for (billed, booked) in lines.values() {
        total.0.merge(billed);
        total.1.add(booked);
    }
    let compared: BTreeMap<&(Date, Option<String>), Compared> = lines
        .iter()
        .map(|(line, (billed, booked))| (line, Compared::of(*billed, *booked)))
        .collect();
    let rows: Vec<Line> = compared
        .iter()
        .map(|((day, model), figures)| {
            let beside = |days: i64| {
                let day = day.checked_add(jiff::Span::new().days(days)).ok()?;
                compared.get(&(day, model.clone()))
            };
            let agrees = figures.agrees();
            let keys = keys.get(&(*day, model.clone()));
            Line {
                day: *day,
                model: model.clone(),
                figures: *figures,
                agrees,
                causes: if agrees {
                    Vec::new()
                } else {
                    causes(figures, keys, beside(-1), beside(1))
                },
            }
        })
        .collect();
    Ok(Reconciliation {
        since: timestamp_of(first),
        until: timestamp_of(last),
        bill: bill.kind,
        upstreams: upstreams.to_vec(),
        agrees: rows.iter().all(|row| row.agrees),
        rows,
        total: Compared::of(total.0, total.1),
    })
}

/// Amounts that differ by less than half a cent agree: bills are rounded.
const HALF_A_CENT: Money = Money::from_picos(5_000_000_000);

fn causes(
    figures: &Compared,
    keys: Option<&BTreeSet<&str>>,
    before: Option<&Compared>,
    after: Option<&Compared>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut add = |cause, detail: String| causes.push(Cause { cause, detail });
    let (billed, booked) = (&figures.billed, &figures.ledger);
    let more_requests = figures.difference_requests.unwrap_or(0);
    let more_tokens = figures.difference_tokens.unwrap_or(0);
    let more_cost = figures.difference_usd.unwrap_or(Money::ZERO);
    if booked.unpriced_requests > 0 {
        add(
            CauseKind::Unpriced,
            format!(
                "{} requests in the ledger have no price: add one and run weir reprice",
                booked.unpriced_requests
            ),
        );
    }
    let evens_out = |other: Option<&Compared>| {
        other.is_some_and(|other| {
            let tokens = other.difference_tokens.unwrap_or(0);
            let cost = other.difference_usd.unwrap_or(Money::ZERO);
            (more_tokens != 0 && tokens == -more_tokens)
                || (more_cost.abs() >= HALF_A_CENT && (cost + more_cost).abs() < HALF_A_CENT)
        })
    };
    if evens_out(before) || evens_out(after) {
        add(
            CauseKind::Midnight,
            "the same difference stands on the neighbouring day with the other sign".to_owned(),
        );
        return causes;
    }
    if booked.requests == 0 {
        add(
            CauseKind::AnotherKey,
            format!("the ledger has nothing of it{}", on_keys(keys)),
        );
    } else if *billed == Billed::default() {
        add(
            CauseKind::NotBilled,
            "the bill has nothing of it: another upstream or account served it, or the bill is not closed"
                .to_owned(),
        );
    } else if more_requests > 0 || (figures.difference_requests.is_none() && more_tokens > 0) {
        add(
            CauseKind::AnotherKey,
            format!(
                "the provider served more than passed through the gateway{}",
                on_keys(keys)
            ),
        );
    } else if more_requests < 0 || (figures.difference_requests.is_none() && more_tokens < 0) {
        add(
            CauseKind::NotBilled,
            "the ledger has more than the bill: another upstream or account, or a bill that is not closed"
                .to_owned(),
        );
    } else if more_tokens != 0 {
        add(
            CauseKind::Uncounted,
            format!(
                "requests agree and tokens do not: {} answers broke off, whose tokens the gateway counted itself",
                booked.broken_requests
            ),
        );
    }
    let tokens_agree = figures.difference_tokens == Some(0);
    if tokens_agree && more_cost.abs() >= HALF_A_CENT && booked.unpriced_requests == 0 {
        add(
            CauseKind::Price,
            "tokens agree and cost does not: the price table, the service tier or a discount differs".to_owned(),
        );
    }
    if causes.is_empty() && more_cost.abs() >= HALF_A_CENT {
        let (cause, what) = if more_cost.is_negative() {
            (
                CauseKind::NotBilled,
                "the ledger has more cost than the bill: use of another account, or a lower price",
            )
        } else {
            (
                CauseKind::AnotherKey,
                "the bill has more cost than the ledger: use of another key, or a higher price",
            )
        };
        causes.push(Cause {
            cause,
            detail: format!("{what}; a usage report would tell which{}", on_keys(keys)),
        });
    }
    causes
}

/// Names at most a few keys.
fn on_keys(keys: Option<&BTreeSet<&str>>) -> String {
    match keys {
        Some(keys) if !keys.is_empty() => {
            let named: Vec<&str> = keys.iter().take(5).copied().collect();
            let more = if keys.len() > named.len() {
                ", …"
            } else {
                ""
            };
            format!("; billed on {}{more}", named.join(", "))
        }
        _ => String::new(),
    }
}

impl Booked {
    fn of(row: &RollupRow) -> Booked {
        let ended = |wanted: &[Outcome]| -> u64 {
            Outcome::ALL
                .iter()
                .zip(row.sums.outcomes)
                .filter(|(outcome, _)| wanted.contains(outcome))
                .map(|(_, count)| count)
                .sum()
        };
        let rejected = ended(&[Outcome::Rejected]);
        Booked {
            cost_usd: row.sums.cost.total(),
            input_tokens: row.sums.usage.input_tokens,
            output_tokens: row.sums.usage.output_tokens,
            requests: row.sums.requests.saturating_sub(rejected),
            unpriced_requests: u64::try_from(row.sums.unpriced_requests).unwrap_or(0),
            broken_requests: ended(&[
                Outcome::ClientClosed,
                Outcome::UpstreamFailed,
                Outcome::Interrupted,
            ]),
        }
    }

    fn add(&mut self, other: &Booked) {
        self.cost_usd += other.cost_usd;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.requests += other.requests;
        self.unpriced_requests += other.unpriced_requests;
        self.broken_requests += other.broken_requests;
    }
}

impl Compared {
    fn of(billed: Billed, ledger: Booked) -> Compared {
        let less = |billed: Option<u64>, booked: u64| {
            billed.map(|billed| i128::from(billed) - i128::from(booked))
        };
        // A line that the bill lacks altogether was billed at nothing.
        let absent = billed == Billed::default();
        let input = less(billed.input_tokens, ledger.input_tokens);
        let output = less(billed.output_tokens, ledger.output_tokens);
        let tokens = match (input, output) {
            (None, None) if absent => {
                Some(-i128::from(ledger.input_tokens) - i128::from(ledger.output_tokens))
            }
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0) + output.unwrap_or(0)),
        };
        Compared {
            billed,
            ledger,
            difference_usd: match billed.cost_usd {
                Some(cost) => Some(cost - ledger.cost_usd),
                None => absent.then_some(-ledger.cost_usd),
            },
            difference_tokens: tokens,
            difference_requests: less(billed.requests, ledger.requests),
        }
    }

    fn agrees(&self) -> bool {
        let cost = self.difference_usd.unwrap_or(Money::ZERO);
        cost.abs() < HALF_A_CENT
            && self.difference_tokens.unwrap_or(0) == 0
            && self.difference_requests.unwrap_or(0) == 0
            && self.ledger.unpriced_requests == 0
    }
}
