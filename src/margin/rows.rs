//! Which lines make which rows: an account on a plan stands whole in a row of its plan or account, by time in the rows
//! of days, and by what its use cost in rows of models, keys, upstreams and tags.

use std::collections::BTreeMap;

use super::By;
use super::assemble::{Frame, Standing};
use super::books::Books;
use super::days::{date_of, day_number, day_span, day_start};
use super::forecast::{Rate, Variance};
use super::report::{Row, Unallocated};
use super::row::{Line, row};
use super::tally::{Daily, Pair, Tally};
use super::worth::{Worth, ahead, recognised};
use crate::ledger::store::Sums;
use crate::money::Money;
use crate::period::WindowSpan;

/// All that rows are made of.
pub(super) struct Lines<'a> {
    pub(super) books: &'a Books,
    pub(super) tally: &'a Tally,
    pub(super) frame: &'a Frame,
    /// One for each pair of the tally, in its order.
    pub(super) standings: &'a [Standing],
}

impl<'a> Lines<'a> {
    /// Every account on every plan, whole.
    pub(super) fn pairs(&self) -> Vec<Line<'a>> {
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
    pub(super) fn grouped(&self, lines: Vec<Line<'a>>, key: impl Fn(&Line) -> u32) -> Vec<Row> {
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
                let mut row = row(id, &lines, self.frame.ahead);
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
    pub(super) fn by_day(&self) -> Vec<Row> {
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
            row(&id, &lines, rest)
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
    pub(super) fn allocated(&self) -> (Vec<Row>, Option<Unallocated>) {
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
            .map(|(index, lines)| row(self.tally.row_name(index), &lines, self.frame.ahead))
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
}

static EMPTY: Daily = Daily::NONE;
