//! From sums to a report: revenue is set against them, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::By;
use super::books::Books;
use super::days::{month_end, span_of, timestamp_of};
use super::forecast::Rate;
use super::report::{Report, Unpriced};
use super::row::{Line, row};
use super::rows::Lines;
use super::tally::{Pair, Tally};
use super::worth::{Worth, ahead, recognised};
use crate::ledger::store::TimeRange;
use crate::money::Money;
use crate::period::WindowSpan;

/// The moments that a report turns on, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// What was asked for.
    pub(super) range: TimeRange,
    /// The part of it that has passed.
    pub(super) passed: WindowSpan,
    /// From now (or the range's end) to the end of that calendar month.
    pub(super) ahead: WindowSpan,
}

impl Frame {
    /// A report over `range`, made at `now`.
    pub(super) fn new(range: TimeRange, now: Timestamp) -> Frame {
        let asked = span_of(range);
        let as_of = asked.end_ms.min(now.as_millisecond()).max(asked.start_ms);
        let last = asked.end_ms.saturating_sub(1).max(asked.start_ms);
        Frame {
            range,
            passed: WindowSpan {
                start_ms: asked.start_ms,
                end_ms: as_of,
            },
            ahead: WindowSpan {
                start_ms: as_of,
                end_ms: month_end(last),
            },
        }
    }

    pub(super) fn since_ms(&self) -> i64 {
        self.passed.start_ms
    }

    pub(super) fn as_of_ms(&self) -> i64 {
        self.passed.end_ms
    }
}

/// Sets revenue against the sums of a tally.
pub(super) fn assemble(books: &Books, tally: &mut Tally, frame: &Frame) -> Report {
    enrol(books, tally, frame);
    let tally = &*tally;
    let standings: Vec<Standing> = tally
        .pairs()
        .iter()
        .map(|pair| Standing::of(books, tally, pair, frame))
        .collect();
    let whole = Lines {
        books,
        tally,
        frame,
        standings: &standings,
    };
    let all: Vec<Line> = whole.pairs();
    let total = row("total", &all, frame.ahead);
    let (rows, unallocated) = match tally.by() {
        By::Plan => (whole.grouped(all, |line| line.plan), None),
        By::Account => (whole.grouped(all, |line| line.account), None),
        By::Day => (whole.by_day(), None),
        By::Model | By::Key | By::Upstream | By::Tag => whole.allocated(),
    };
    Report {
        since: timestamp_of(frame.since_ms()),
        until: timestamp_of(span_of(frame.range).end_ms),
        by: tally.by(),
        rows,
        total,
        unpriced: tally
            .unpriced()
            .into_iter()
            .map(|(model, requests)| Unpriced {
                model: model.to_owned(),
                requests,
            })
            .collect(),
        method: tally.by().method(),
        unallocated,
        notes: books.notes().to_vec(),
    }
}

/// What one account brought and what its use cost, over all its plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountFigures {
    /// Revenue.
    pub(super) revenue: Money,
    /// Fixed costs and payment fees.
    pub(super) beside: Money,
    /// The cost of its use.
    pub(super) used: Money,
    /// Tokens that it used: a change of model may leave the cost as it was.
    pub(super) tokens: u64,
}

/// The figures of every account in a tally that has been assembled.
pub(super) fn by_account(
    books: &Books,
    tally: &Tally,
    frame: &Frame,
) -> BTreeMap<Arc<str>, AccountFigures> {
    let mut accounts: BTreeMap<Arc<str>, AccountFigures> = BTreeMap::new();
    for pair in tally.pairs() {
        let standing = Standing::of(books, tally, pair, frame);
        let name = tally.account_name(pair.account);
        let figures = match accounts.get_mut(name) {
            Some(figures) => figures,
            None => accounts.entry(name.into()).or_default(),
        };
        figures.revenue += standing.passed.revenue;
        figures.beside += standing.passed.costs();
        figures.used += pair.sums.cost.total();
        figures.tokens += pair.sums.usage.total_tokens();
    }
    accounts
}

/// Gives every account that has a plan in the range, or will have until the period's end, its place in the tally.
fn enrol(books: &Books, tally: &mut Tally, frame: &Frame) {
    let whole = WindowSpan {
        start_ms: frame.since_ms(),
        end_ms: frame.ahead.end_ms,
    };
    for (account, book) in (0_u32..).zip(books.accounts()) {
        for tenure in &book.tenures {
            if tenure.span.intersection(whole).duration_ms() > 0 {
                tally.pair(account, tenure.plan.id.as_str());
            }
        }
        for (at_ms, _) in &book.refunds {
            if let Some(plan) = book.plan_at(*at_ms).filter(|_| whole.contains(*at_ms)) {
                tally.pair(account, plan);
            }
        }
    }
}

/// What an account on a plan brings, and the rate at which it uses.
pub(super) struct Standing {
    /// Where its rate is taken from.
    pub(super) window_start_ms: i64,
    pub(super) rate: Rate,
    /// The part of the time ahead in which it will have the plan.
    pub(super) open_ms: i64,
    pub(super) passed: Worth,
    pub(super) ahead: Worth,
    /// Whether it had the plan in the range.
    pub(super) member: bool,
}

impl Standing {
    fn of(books: &Books, tally: &Tally, pair: &Pair, frame: &Frame) -> Standing {
        let book = books.accounts().get(pair.account as usize);
        let plan = tally.plan_name(pair.plan);
        let first_ms = book
            .and_then(|book| book.tenures_on(plan).next())
            .map_or(i64::MIN, |tenure| tenure.span.start_ms);
        let window_start_ms = Rate::window_start(&pair.daily, first_ms, frame.as_of_ms());
        let rate = Rate::of(&pair.daily, window_start_ms, frame.as_of_ms());
        let mut standing = Standing {
            window_start_ms,
            rate,
            // An account that the directory does not know goes on as it does.
            open_ms: frame.ahead.duration_ms(),
            passed: Worth::default(),
            ahead: Worth::default(),
            member: false,
        };
        let Some(book) = book else {
            return standing;
        };
        let since_ms = frame.since_ms();
        standing.open_ms = book
            .tenures_on(plan)
            .map(|tenure| tenure.span.intersection(frame.ahead).duration_ms())
            .sum();
        standing.passed = recognised(book, plan, &pair.daily, frame.passed, since_ms);
        standing.ahead = ahead(book, plan, &pair.daily, frame.ahead, since_ms, &rate);
        standing.member = book
            .tenures_on(plan)
            .any(|tenure| tenure.span.intersection(frame.passed).duration_ms() > 0);
        standing
    }
}
