//! Sums over rollup rows: what a report needs, in one pass, whatever order the rows come in.

use std::collections::HashMap;
use std::sync::Arc;

use super::By;
use super::books::Books;
use super::days::{date_of, day_number, day_start};
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{RollupRow, Sums};
use crate::money::Money;

/// Sums of a report in the making.
pub(super) struct Tally {
    by: By,
    accounts: Names,
    plans: Names,
    rows: Names,
    days: HashMap<i32, u32>,
    pairs: Vec<Pair>,
    pair_index: HashMap<(u32, u32), u32>,
    cells: Vec<Cell>,
    cell_index: HashMap<(u32, u32), u32>,
    unpriced: HashMap<Box<str>, i64>,
    /// The accounts, plan and pair of the row before: rows mostly come account by account, and share their texts.
    last: Option<(Arc<[AccountId]>, PlanId, u32)>,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Before the report's range: known only for rates and for quotas of the billing period.
    Before,
    /// In the report's range.
    Within,
}

/// One account on one plan.
#[derive(Debug)]
pub(super) struct Pair {
    /// Index of the account: a position in [`Books::accounts`], or beyond it for accounts that are no longer known.
    pub(super) account: u32,
    /// Index of the plan in [`Tally::plan_names`].
    pub(super) plan: u32,
    /// Sums within the range.
    pub(super) sums: Sums,
    /// Day by day.
    pub(super) daily: Daily,
}

/// One account on one plan in one row of the report.
#[derive(Debug)]
pub(super) struct Cell {
    /// Index of the row in [`Tally::row_names`].
    pub(super) row: u32,
    /// Index of the pair.
    pub(super) pair: u32,
    /// Sums within the range.
    pub(super) sums: Sums,
    /// Day by day; empty in a report by day.
    pub(super) daily: Daily,
}

/// Cost and tokens day by day.
#[derive(Clone, Debug, Default)]
pub(super) struct Daily(Vec<DayUse>);

/// One day of a [`Daily`].
#[derive(Clone, Copy, Debug)]
pub(super) struct DayUse {
    /// Days since 1970.
    pub(super) day: i32,
    /// Whether it lies in the report's range (the range's first day may lie in both parts).
    pub(super) part: Part,
    /// What was used cost.
    pub(super) cost: Money,
    /// Input and output tokens.
    pub(super) tokens: u64,
}

impl Tally {
    /// Nothing yet. Accounts of the books have their position there as their index.
    pub(super) fn new(by: By, books: &Books) -> Tally {
        let mut accounts = Names::default();
        for book in books.accounts() {
            accounts.index(book.id.as_str());
        }
        Tally {
            by,
            accounts,
            plans: Names::default(),
            rows: Names::default(),
            days: HashMap::new(),
            pairs: Vec::new(),
            pair_index: HashMap::new(),
            cells: Vec::new(),
            cell_index: HashMap::new(),
            unpriced: HashMap::new(),
            last: None,
        }
    }

    /// Adds what was read: a row, with its entry's tags where it is a single entry.
    pub(super) fn take(
        &mut self,
        row: &RollupRow,
        tags: Option<&[(Arc<str>, Arc<str>)]>,
        books: &Books,
        part: Part,
    ) {
        match tags {
            Some(tags) if self.by == By::Tag => self.add_tagged(row, tags, books, part),
            // Single entries also stand for the edges of other reports.
            _ => self.add(row, part),
        }
    }

    /// Adds a row to the sums of its account, and to the row of the report that it belongs to.
    fn add(&mut self, row: &RollupRow, part: Part) {
        let pair = self.add_to_account(row, part);
        match self.by {
            By::Plan | By::Account | By::Tag => {}
            By::Day => {
                if part == Part::Within {
                    let report_row = self.day_row(day_number(row.start.as_millisecond()));
                    let cell = self.cell(report_row, pair);
                    cell.sums += &row.sums;
                }
            }
            By::Model => self.add_named(row.model.as_ref().map(|id| id.as_str()), pair, row, part),
            By::Key => self.add_named(row.key.as_ref().map(|id| id.as_str()), pair, row, part),
            By::Upstream => {
                self.add_named(row.upstream.as_ref().map(|id| id.as_str()), pair, row, part);
            }
        }
    }

    /// Adds the row of one entry to the sums of its account and to every tag that the entry or its account has.
    fn add_tagged(
        &mut self,
        row: &RollupRow,
        entry_tags: &[(Arc<str>, Arc<str>)],
        books: &Books,
        part: Part,
    ) {
        let pair = self.add_to_account(row, part);
        let account_tags = row
            .lineage
            .last()
            .and_then(|id| books.account(id))
            .map_or(&[][..], |book| &book.tags);
        let mut labels: Vec<String> = entry_tags
            .iter()
            .chain(account_tags)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        labels.sort();
        labels.dedup();
        if labels.is_empty() {
            self.add_named(None, pair, row, part);
        }
        for label in &labels {
            self.add_named(Some(label), pair, row, part);
        }
    }

    /// Adds the sums of another tally of the same report.
    pub(super) fn absorb(&mut self, other: Tally) {
        for day in other.days.keys() {
            self.day_row(*day);
        }
        let mut pairs = Vec::with_capacity(other.pairs.len());
        for pair in other.pairs {
            let account = self.accounts.index(other.accounts.name(pair.account));
            let index = self.pair(account, other.plans.name(pair.plan));
            pairs.push(index);
            if let Some(sum) = self.pairs.get_mut(index as usize) {
                sum.sums += &pair.sums;
                sum.daily.0.extend(pair.daily.0);
            }
        }
        for cell in other.cells {
            let row = self.rows.index(other.rows.name(cell.row));
            let Some(pair) = pairs.get(cell.pair as usize) else {
                continue;
            };
            let sum = self.cell(row, *pair);
            sum.sums += &cell.sums;
            sum.daily.0.extend(cell.daily.0);
        }
        for (model, count) in other.unpriced {
            *self.unpriced.entry(model).or_default() += count;
        }
    }

    fn add_to_account(&mut self, row: &RollupRow, part: Part) -> u32 {
        let pair = self.pair_of(row);
        let day = day_number(row.start.as_millisecond());
        if let Some(pair) = self.pairs.get_mut(pair as usize) {
            pair.daily.add(day, part, row);
            if part == Part::Within {
                pair.sums += &row.sums;
            }
        }
        if part == Part::Within && row.sums.unpriced_requests != 0 {
            let model = row.served_model.as_ref().or(row.model.as_ref());
            let name = model.map_or(NONE, |model| model.as_str());
            match self.unpriced.get_mut(name) {
                Some(count) => *count += row.sums.unpriced_requests,
                None => {
                    self.unpriced
                        .insert(name.into(), row.sums.unpriced_requests);
                }
            }
        }
        pair
    }

    fn add_named(&mut self, name: Option<&str>, pair: u32, row: &RollupRow, part: Part) {
        let report_row = self.rows.index(name.unwrap_or(NONE));
        let day = day_number(row.start.as_millisecond());
        let cell = self.cell(report_row, pair);
        cell.daily.add(day, part, row);
        if part == Part::Within {
            cell.sums += &row.sums;
        }
    }

    fn pair_of(&mut self, row: &RollupRow) -> u32 {
        if let Some((last_lineage, last_plan, pair)) = &self.last
            && Arc::ptr_eq(last_lineage, &row.lineage)
            && *last_plan == row.plan
        {
            return *pair;
        }
        let account = row.lineage.last().map_or(NONE, |account| account.as_str());
        let index = self.accounts.index(account);
        let pair = self.pair(index, row.plan.as_str());
        self.last = Some((Arc::clone(&row.lineage), row.plan.clone(), pair));
        pair
    }

    /// The index of the sums of an account on a plan, made if there are none yet.
    pub(super) fn pair(&mut self, account: u32, plan: &str) -> u32 {
        let plan = self.plans.index(plan);
        *self.pair_index.entry((account, plan)).or_insert_with(|| {
            self.pairs.push(Pair {
                account,
                plan,
                sums: Sums::default(),
                daily: Daily::default(),
            });
            index_of(self.pairs.len() - 1)
        })
    }

    /// The index of a day's row, made if there is none yet.
    pub(super) fn day_row(&mut self, day: i32) -> u32 {
        if let Some(row) = self.days.get(&day) {
            return *row;
        }
        let row = self.rows.index(&date_of(day_start(day)).to_string());
        self.days.insert(day, row);
        row
    }

    fn cell(&mut self, row: u32, pair: u32) -> &mut Cell {
        let index = *self.cell_index.entry((row, pair)).or_insert_with(|| {
            self.cells.push(Cell {
                row,
                pair,
                sums: Sums::default(),
                daily: Daily::default(),
            });
            index_of(self.cells.len() - 1)
        });
        // The index was made from this very vector, which only grows.
        #[expect(clippy::indexing_slicing, reason = "indexes are made from the vector")]
        &mut self.cells[index as usize]
    }

    /// Makes a tally by plan one by account: both have the same sums.
    pub(super) fn turn_to_accounts(&mut self) {
        debug_assert_eq!(self.by, By::Plan);
        self.by = By::Account;
    }

    /// What the report's rows are.
    pub(super) fn by(&self) -> By {
        self.by
    }

    /// All accounts on all plans.
    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// All cells; none in a report by plan or account, whose cells are the pairs.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The sums of an account on a plan on a day, in a report by day.
    pub(super) fn day_sums(&self, day: i32, pair: u32) -> Sums {
        self.days
            .get(&day)
            .and_then(|row| self.cell_index.get(&(*row, pair)))
            .and_then(|cell| self.cells.get(*cell as usize))
            .map_or_else(Sums::default, |cell| cell.sums)
    }

    /// The name of an account by its index.
    pub(super) fn account_name(&self, account: u32) -> &str {
        self.accounts.name(account)
    }

    /// The name of a plan by its index.
    pub(super) fn plan_name(&self, plan: u32) -> &str {
        self.plans.name(plan)
    }

    /// The name of a row by its index.
    pub(super) fn row_name(&self, row: u32) -> &str {
        self.rows.name(row)
    }

    /// Unpriced requests by model, most first.
    pub(super) fn unpriced(&self) -> Vec<(&str, u64)> {
        let mut unpriced: Vec<(&str, u64)> = self
            .unpriced
            .iter()
            .filter_map(|(model, count)| Some((&**model, u64::try_from(*count).ok()?)))
            .filter(|(_, count)| *count > 0)
            .collect();
        unpriced.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
        unpriced
    }
}

impl Daily {
    /// No days.
    pub(super) const NONE: Daily = Daily(Vec::new());

    fn add(&mut self, day: i32, part: Part, row: &RollupRow) {
        let cost = row.sums.cost.total();
        let tokens = row.sums.usage.total_tokens();
        match self.0.last_mut() {
            Some(last) if last.day == day && last.part == part => {
                last.cost += cost;
                last.tokens += tokens;
            }
            _ => self.0.push(DayUse {
                day,
                part,
                cost,
                tokens,
            }),
        }
    }

    /// The days in no order; a day may stand there several times.
    pub(super) fn days(&self) -> &[DayUse] {
        &self.0
    }
}

/// What stands for a model, key, upstream or tag where the request had none.
pub(super) const NONE: &str = "(none)";

/// Names by index, so that sums are kept by small numbers.
#[derive(Default)]
struct Names {
    index: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn index(&mut self, name: &str) -> u32 {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        let index = index_of(self.names.len());
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.index.insert(name, index);
        index
    }

    fn name(&self, index: u32) -> &str {
        self.names.get(index as usize).map_or(NONE, |name| name)
    }
}

/// Four billion accounts, rows or cells do not fit in memory anyway.
fn index_of(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
