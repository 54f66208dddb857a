//! From sums to a report: revenue is set against them, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::By;
use super::books::Books;
use super::concentration::Concentration;
use super::days::{date_of, day_number, day_span, day_start, month_end, span_of, timestamp_of};
use super::forecast::{METHOD, Rate, Variance};
use super::ratio::ratio;
use super::report::{BreakEven, CostLines, Hidden, Projected, Report, Row, Unallocated, Unpriced};
use super::tally::{Daily, Pair, Part, Sums, Tally};
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

    fn since_ms(&self) -> i64 {
        self.passed.start_ms
    }

    fn as_of_ms(&self) -> i64 {
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
    let total = whole.row("total", &all, frame.ahead);
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
struct Standing {
    /// Where its rate is taken from.
    window_start_ms: i64,
    rate: Rate,
    /// The part of the time ahead in which it will have the plan.
    open_ms: i64,
    passed: Worth,
    ahead: Worth,
    /// Whether it had the plan in the range.
    member: bool,
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

/// One account on one plan in one row.
struct Line<'a> {
    account: u32,
    plan: u32,
    counts: bool,
    sums: Sums,
    daily: &'a Daily,
    passed: Worth,
    ahead: Worth,
    cost_ahead: Money,
    variance: Variance,
}

struct Lines<'a> {
    books: &'a Books,
    tally: &'a Tally,
    frame: &'a Frame,
    standings: &'a [Standing],
}

impl<'a> Lines<'a> {
    /// Every account on every plan, whole.
    fn pairs(&self) -> Vec<Line<'a>> {
        self.tally
            .pairs()
            .iter()
            .zip(self.standings)
            .map(|(pair, standing)| Line {
                account: pair.account,
                plan: pair.plan,
                counts: standing.member || pair.sums.requests > 0,
                sums: pair.sums,
                daily: &pair.daily,
                passed: standing.passed,
                ahead: standing.ahead,
                cost_ahead: standing.rate.cost_in(standing.open_ms),
                variance: standing.rate.variance_in(standing.open_ms),
            })
            .collect()
    }

    /// Rows of plans or accounts.
    fn grouped(&self, lines: Vec<Line<'a>>, key: impl Fn(&Line) -> u32) -> Vec<Row> {
        let mut groups: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
        for line in lines {
            groups.entry(key(&line)).or_default().push(line);
        }
        let by_account = self.tally.by() == By::Account;
        let mut rows: Vec<Row> = groups
            .into_iter()
            .filter(|(_, lines)| {
                lines
                    .iter()
                    .any(|line| line.counts || line.passed != Worth::default())
            })
            .map(|(key, lines)| {
                let id = if by_account {
                    self.tally.account_name(key)
                } else {
                    self.tally.plan_name(key)
                };
                let mut row = self.row(id, &lines, self.frame.ahead);
                if by_account {
                    row.plan = self.plan_of(key, &lines);
                    row.concentration = None;
                }
                row
            })
            .collect();
        rows.sort_by(|a, b| a.margin_usd.cmp(&b.margin_usd).then(a.id.cmp(&b.id)));
        rows
    }

    fn plan_of(&self, account: u32, lines: &[Line]) -> Option<String> {
        let last_ms = self.frame.as_of_ms().saturating_sub(1);
        self.books
            .accounts()
            .get(account as usize)
            .and_then(|book| book.plan_at(last_ms))
            .or_else(|| lines.last().map(|line| self.tally.plan_name(line.plan)))
            .map(str::to_owned)
    }

    /// A row for each day that has passed, the running one included.
    fn by_day(&self) -> Vec<Row> {
        let passed = self.frame.passed;
        if passed.duration_ms() == 0 {
            return Vec::new();
        }
        let days = day_number(passed.start_ms)..=day_number(passed.end_ms - 1);
        days.map(|day| {
            let span = day_span(day).intersection(passed);
            let rest = day_span(day).intersection(self.frame.ahead);
            let lines: Vec<Line> = (0_u32..)
                .zip(self.tally.pairs())
                .zip(self.standings)
                .filter_map(|((index, pair), standing)| {
                    self.day_line(day, (index, pair), standing, span, rest)
                })
                .collect();
            let id = date_of(day_start(day)).to_string();
            let rest = WindowSpan {
                start_ms: span.end_ms,
                end_ms: span.end_ms.max(rest.end_ms),
            };
            self.row(&id, &lines, rest)
        })
        .collect()
    }

    fn day_line(
        &self,
        day: i32,
        (index, pair): (u32, &'a Pair),
        standing: &Standing,
        span: WindowSpan,
        rest: WindowSpan,
    ) -> Option<Line<'a>> {
        let sums = self.tally.day_sums(day, index);
        let plan = self.tally.plan_name(pair.plan);
        let book = self.books.accounts().get(pair.account as usize);
        let since_ms = self.frame.since_ms();
        let mut line = Line {
            account: pair.account,
            plan: pair.plan,
            counts: sums.requests > 0,
            sums,
            daily: &EMPTY,
            passed: Worth::default(),
            ahead: Worth::default(),
            cost_ahead: Money::ZERO,
            variance: Variance::default(),
        };
        if let Some(book) = book {
            line.counts |= book
                .tenures_on(plan)
                .any(|tenure| tenure.span.intersection(span).duration_ms() > 0);
            line.passed = recognised(book, plan, &pair.daily, span, since_ms);
        }
        if rest.duration_ms() > 0 {
            let open_ms = rest.duration_ms().min(standing.open_ms);
            line.cost_ahead = standing.rate.cost_in(open_ms);
            line.variance = standing.rate.variance_in(open_ms);
            if let Some(book) = book {
                line.ahead = ahead(book, plan, &pair.daily, rest, since_ms, &standing.rate);
            }
        }
        let nothing = line.passed == Worth::default() && sums.cost.total() == Money::ZERO;
        (line.counts || !nothing).then_some(line)
    }

    /// Rows of models, keys, upstreams or tags: each account's revenue and other costs are shared out by the cost of
    /// its use (by its requests, where nothing cost anything).
    fn allocated(&self) -> (Vec<Row>, Option<Unallocated>) {
        let weights = |sums: &Sums| (sums.cost.total().picos().max(0), i128::from(sums.requests));
        let mut wholes = vec![(0_i128, 0_i128); self.standings.len()];
        for cell in self.tally.cells() {
            if let Some((cost, requests)) = wholes.get_mut(cell.pair as usize) {
                let (cell_cost, cell_requests) = weights(&cell.sums);
                *cost += cell_cost;
                *requests += cell_requests;
            }
        }
        let overlapping = self.tally.by() == By::Tag;
        if overlapping {
            // Rows of tags overlap: each gets its share of the account, and shares do not add up to one.
            for (whole, pair) in wholes.iter_mut().zip(self.tally.pairs()) {
                *whole = weights(&pair.sums);
            }
        }
        let mut given = vec![((0_i128, 0_i128), Worth::default(), Worth::default()); wholes.len()];
        let mut groups: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
        let mut cells: Vec<_> = self.tally.cells().iter().collect();
        cells.sort_by_key(|cell| {
            (
                self.tally.row_name(cell.row),
                self.tally
                    .pairs()
                    .get(cell.pair as usize)
                    .map(|pair| (pair.account, pair.plan)),
            )
        });
        for cell in cells {
            let position = cell.pair as usize;
            let (Some(pair), Some(standing), Some(whole), Some(given)) = (
                self.tally.pairs().get(position),
                self.standings.get(position),
                wholes.get(position),
                given.get_mut(position),
            ) else {
                continue;
            };
            let (cost, requests) = weights(&cell.sums);
            // What falls to a cell is the difference of two running shares, so that the cells of an account add up.
            let before = given.0;
            given.0 = (before.0 + cost, before.1 + requests);
            let share = |worth: Worth| {
                let (from, to, of) = if whole.0 > 0 {
                    (before.0, given.0.0, whole.0)
                } else {
                    (before.1, given.0.1, whole.1)
                };
                if of == 0 {
                    Worth::default()
                } else if overlapping {
                    worth.part(to - from, of)
                } else {
                    worth.part(to, of) - worth.part(from, of)
                }
            };
            let (passed, ahead) = (share(standing.passed), share(standing.ahead));
            given.1 += passed;
            given.2 += ahead;
            let rate = Rate::of(&cell.daily, standing.window_start_ms, self.frame.as_of_ms());
            groups.entry(cell.row).or_default().push(Line {
                account: pair.account,
                plan: pair.plan,
                counts: cell.sums.requests > 0,
                sums: cell.sums,
                daily: &cell.daily,
                passed,
                ahead,
                cost_ahead: rate.cost_in(standing.open_ms),
                variance: rate.variance_in(standing.open_ms),
            });
        }
        let mut rows: Vec<Row> = groups
            .into_iter()
            .filter(|(_, lines)| {
                lines
                    .iter()
                    .any(|line| line.counts || line.sums.cost.total() != Money::ZERO)
            })
            .map(|(row, lines)| self.row(self.tally.row_name(row), &lines, self.frame.ahead))
            .collect();
        rows.sort_by(|a, b| b.cost_usd.cmp(&a.cost_usd).then(a.id.cmp(&b.id)));
        let mut rest = Worth::default();
        for (standing, given) in self.standings.iter().zip(&given) {
            if !overlapping || given.0 == (0, 0) {
                rest += standing.passed - given.1;
            }
        }
        let unallocated = Unallocated {
            revenue_usd: rest.revenue,
            cost_usd: rest.costs(),
        };
        (rows, Some(unallocated))
    }

    /// One row out of its lines.
    fn row(&self, id: &str, lines: &[Line], ahead: WindowSpan) -> Row {
        let mut sums = Sums::default();
        let (mut passed, mut later) = (Worth::default(), Worth::default());
        let (mut cost_ahead, mut variance) = (Money::ZERO, Variance::default());
        let mut accounts: BTreeMap<u32, (Money, Money)> = BTreeMap::new();
        for line in lines {
            sums += &line.sums;
            passed += line.passed;
            later += line.ahead;
            cost_ahead += line.cost_ahead;
            variance += line.variance;
            let used = line.sums.cost.total();
            let margin = line.passed.revenue - line.passed.costs() - used;
            if line.counts || margin != Money::ZERO {
                let (margins, costs) = accounts.entry(line.account).or_default();
                *margins += margin;
                *costs += used;
            }
        }
        let cost = CostLines {
            use_by_class: sums.cost,
            fixed: passed.fixed,
            payment_fee: passed.payment_fee,
        };
        let used = sums.cost.total();
        let cost_usd = used + passed.costs();
        let margin_usd = passed.revenue - cost_usd;
        let margins = || accounts.values().map(|(margin, _)| *margin);
        let projected_margin = margin_usd + later.revenue - later.costs() - cost_ahead;
        let range = variance.range();
        Row {
            id: id.to_owned(),
            plan: None,
            accounts: accounts.len() as u64,
            loss_making_accounts: margins().filter(|margin| margin.is_negative()).count() as u64,
            requests: sums.requests,
            unpriced_requests: u64::try_from(sums.unpriced_requests).unwrap_or(0),
            outcomes: sums.outcomes,
            usage: sums.usage,
            revenue_usd: passed.revenue,
            cost_usd,
            cost,
            margin_usd,
            margin_ratio: ratio(margin_usd, passed.revenue),
            break_even: self.break_even(lines, &sums, passed, later, cost_ahead, ahead),
            projected: Projected {
                until: timestamp_of(ahead.end_ms),
                revenue_usd: passed.revenue + later.revenue,
                cost_usd: cost_usd + later.costs() + cost_ahead,
                margin_usd: projected_margin,
                low_usd: projected_margin - range,
                // Costs ahead cannot fall below nothing.
                high_usd: projected_margin + range.min(cost_ahead.max(Money::ZERO)),
                method: if ahead.duration_ms() == 0 {
                    "the period is over: as it was"
                } else {
                    METHOD
                },
            },
            concentration: Some(Concentration::of(
                accounts.values().map(|(_, cost)| *cost).collect(),
            )),
            breakage_usd: margins().filter(|margin| !margin.is_negative()).sum(),
            losses_usd: -margins()
                .filter(|margin| margin.is_negative())
                .sum::<Money>(),
            hidden: Hidden {
                reasoning_usd: sums.cost.reasoning_output,
                client_closed_usd: sums.client_closed_cost,
                failed_usd: sums.failed_cost,
                retries: sums.retries,
            },
            savings_usd: sums.undiscounted - used,
        }
    }

    fn break_even(
        &self,
        lines: &[Line],
        sums: &Sums,
        passed: Worth,
        later: Worth,
        cost_ahead: Money,
        ahead: WindowSpan,
    ) -> BreakEven {
        let may_cost = passed.revenue + later.revenue - passed.costs() - later.costs();
        let used = sums.cost.total();
        let at_mix = |count: u64| {
            let affordable = may_cost.picos().max(0);
            (used > Money::ZERO)
                .then(|| affordable.checked_mul(i128::from(count)))
                .flatten()
                .and_then(|product| u64::try_from(product / used.picos()).ok())
        };
        let mut by_day: BTreeMap<i32, Money> = BTreeMap::new();
        for day in lines.iter().flat_map(|line| line.daily.days()) {
            if day.part == Part::Within {
                *by_day.entry(day.day).or_default() += day.cost;
            }
        }
        let mut so_far = Money::ZERO;
        let passed_on = by_day.into_iter().find_map(|(day, cost)| {
            so_far += cost;
            (so_far > may_cost).then_some(day)
        });
        let reached = used > may_cost && passed_on.is_some();
        let date = if reached {
            passed_on.map(|day| date_of(day_start(day)))
        } else {
            let left = may_cost - used;
            (cost_ahead > left && !left.is_negative())
                .then(|| {
                    let whole = Money::from_picos(i128::from(ahead.duration_ms()));
                    whole.mul_ratio(left.picos(), cost_ahead.picos())
                })
                .flatten()
                .and_then(|ms| i64::try_from(ms.picos()).ok())
                .map(|ms| date_of(ahead.start_ms.saturating_add(ms)))
        };
        BreakEven {
            cost_usd: may_cost,
            tokens: at_mix(sums.usage.total_tokens()),
            requests: at_mix(sums.requests),
            date,
            reached,
        }
    }
}

static EMPTY: Daily = Daily::NONE;
