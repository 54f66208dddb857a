//! Advice: the price, and the least limits, at which a plan reaches a margin; each proved by its what-if.
//!
//! Margins rise with a plan's price, and with every request that a limit refuses: so both are found by halving, on
//! figures in memory, and what is found is then asked of [`what_if`] over the same ledger.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::assemble::{Frame, assemble};
use super::books::Books;
use super::reading::{self, Progress, Reads};
use super::report::Row;
use super::tally::Tally;
use super::whatif::limits::{Cap, Gauge, Slots};
use super::whatif::{Changes, WhatIf, what_if};
use super::{By, MarginError, percent};
use crate::ids::PlanId;
use crate::ledger::store::{Store, TimeRange};
use crate::money::Money;
use crate::plan::{Amount, Measure, Window};
use crate::price::PriceTable;

/// What would make a plan reach a margin, on the recorded traffic of a range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// The plan.
    pub plan: PlanId,
    /// The first moment of the range.
    pub since: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// The margin to be reached, as a share of revenue.
    pub target_margin_ratio: String,
    /// Whether it is reached as things are.
    pub reached: bool,
    /// The plan as it was.
    pub actual: Standing,
    /// The lowest price that reaches the target; `None` if no price does.
    pub price: Option<PriceAdvice>,
    /// For each measure the highest limit per billing period that reaches the target; empty when it is reached.
    pub limits: Vec<LimitAdvice>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// The figures of a plan that advice is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Accounts.
    pub accounts: u64,
    /// Of these, those that lose.
    pub loss_making_accounts: u64,
    /// Revenue.
    pub revenue_usd: Money,
    /// All costs.
    pub cost_usd: Money,
    /// Revenue less cost.
    pub margin_usd: Money,
    /// Margin as a share of revenue.
    pub margin_ratio: Option<String>,
}

/// A price that reaches the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceAdvice {
    /// US dollars a period, in whole cents.
    pub price_usd: Money,
    /// The plan with that price, by its what-if.
    pub whatif: Standing,
    /// Accounts whose bill changes.
    pub touched_accounts: u64,
}

/// A limit that reaches the target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitAdvice {
    /// The limit, as `weir whatif --limit` takes it.
    #[serde(serialize_with = "spoken")]
    pub limit: Cap,
    /// The plan with that limit, by its what-if.
    pub whatif: Standing,
    /// What use would have cost less.
    pub saving_usd: Money,
    /// Accounts that it would have stopped.
    pub touched_accounts: u64,
    /// Of these, the ones that paid something.
    pub touched_paying_accounts: u64,
}

/// What advice is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The plan.
    pub plan: PlanId,
    /// The margin to be reached, in parts per million of revenue; below one million.
    pub target_ppm: i32,
    /// The traffic that it is tried on.
    pub range: TimeRange,
}

/// Finds the price and the limits.
///
/// # Errors
/// [`MarginError::NoSuchPlan`], [`MarginError::Store`].
pub fn advise(
    store: &dyn Store,
    books: &Books,
    prices: &PriceTable,
    question: &Question,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<Advice, MarginError> {
    let plan = books
        .plan(question.plan.as_str())
        .ok_or_else(|| MarginError::NoSuchPlan(question.plan.clone()))?;
    let asked: Vec<Cap> = MEASURES.map(|on| cap(question, on, 0)).to_vec();
    let mut gauge = Gauge::new(books, &asked);
    let frame = Frame::new(question.range, now);
    let mut reads = Reads::of(books, &frame, By::Plan);
    let since_ms = question.range.since.as_millisecond();
    reads.from_ms = reads.from_ms.min(gauge.history_start(since_ms));
    // The ledger is read once here, once to prove the price, and twice to prove each limit; seldom oftener.
    let passes = 2 + 2 * MEASURES.len() as u64;
    let step = std::cell::Cell::new(0);
    let part = |done: u64, all: u64| {
        progress((step.get() * all + done).min(passes * all), passes * all);
    };
    let fresh = || (Tally::new(By::Plan, books), Gauge::new(books, &asked));
    let parts = reading::read(
        store,
        &frame,
        reads,
        now,
        &part,
        fresh,
        |_| {},
        |(tally, gauge), row, tags, part| {
            tally.take(row, tags, books, part);
            gauge.add(row, part);
        },
    )?;
    let mut tally = Tally::new(By::Plan, books);
    for (part, uses) in parts {
        tally.absorb(part);
        gauge.absorb(uses);
    }
    let slots = gauge.in_order();
    let report = assemble(books, &mut tally, &frame);
    let row = plan_row(&report.rows, &question.plan);
    let actual = Standing::of(row);
    let mut notes = report.notes;
    if row.is_some_and(|row| row.unpriced_requests > 0) {
        notes.push("some requests have no price: what they cost is not known here".to_owned());
    }
    if &*plan.currency != "USD" {
        notes.push(format!(
            "the plan is priced in {}: the advised price is in US dollars",
            plan.currency
        ));
    }
    let proof = |changes: &Changes| {
        step.set(step.get() + 1);
        what_if(
            store,
            books,
            prices,
            changes,
            By::Plan,
            question.range,
            now,
            &part,
        )
    };

    let mut advice = Advice {
        plan: question.plan.clone(),
        since: report.since,
        until: report.until,
        target_margin_ratio: share(question.target_ppm),
        reached: actual.reaches(question.target_ppm),
        price: None,
        limits: Vec::new(),
        notes,
        actual,
    };
    match lowest_price(books, &mut tally, &frame, question)? {
        Ok(price_usd) => {
            let answer = proof(&Changes {
                plan_prices: vec![(question.plan.clone(), price_usd)],
                ..Changes::default()
            })?;
            advice.price = Some(PriceAdvice {
                price_usd,
                whatif: Standing::of(plan_row(&answer.whatif.rows, &question.plan)),
                touched_accounts: answer.touched_accounts,
            });
        }
        Err(dearest) if dearest.revenue_usd > Money::ZERO => advice.notes.push(format!(
            "no price reaches the target: payment fees leave a margin of {} at any price",
            dearest.percent()
        )),
        Err(_) => advice
            .notes
            .push("no price reaches the target: nobody paid for the plan in the range".to_owned()),
    }
    if advice.reached {
        return Ok(advice);
    }
    for on in MEASURES {
        match proved_limit(&slots, &advice.actual, question, on, &proof)? {
            Found::Limit(limit) => advice.limits.push(limit),
            Found::Nothing(why) => advice
                .notes
                .push(format!("no limit on {}: {why}", on.as_str())),
        }
    }
    Ok(advice)
}

const MEASURES: [Measure; 3] = [Measure::Cost, Measure::Tokens, Measure::Requests];

/// No plan costs more for a period.
const MAX_PRICE_CENTS: i128 = 100_000_000_000;
const PICOS_PER_CENT: i128 = 10_000_000_000;

/// The lowest price in whole cents at which the plan's row reaches the target; where none does, the plan at the highest.
fn lowest_price(
    books: &Books,
    tally: &mut Tally,
    frame: &Frame,
    question: &Question,
) -> Result<Result<Money, Standing>, MarginError> {
    let mut at = |cents: i128| {
        let price = Money::from_picos(cents * PICOS_PER_CENT);
        let books = books.with_price(&question.plan, price)?;
        let report = assemble(&books, tally, frame);
        Ok::<Standing, MarginError>(Standing::of(plan_row(&report.rows, &question.plan)))
    };
    let dearest = at(MAX_PRICE_CENTS)?;
    if !dearest.reaches(question.target_ppm) {
        return Ok(Err(dearest));
    }
    let (mut fails, mut holds) = (-1, MAX_PRICE_CENTS);
    while holds - fails > 1 {
        let middle = fails + (holds - fails) / 2;
        if at(middle)?.reaches(question.target_ppm) {
            holds = middle;
        } else {
            fails = middle;
        }
    }
    Ok(Ok(Money::from_picos(holds * PICOS_PER_CENT)))
}

/// What the search for a limit came to.
enum Found {
    Limit(LimitAdvice),
    /// None, and why.
    Nothing(String),
}

/// The highest limit that reaches the target, and its proof.
///
/// The search counts what a limit saves in memory; the what-if has the last word. They differ by roundings, where
/// accounts lie below each other, and where use beyond a quota is charged. So each proof says by how much the count was
/// off, the next candidate allows for that, and all lie between the highest limit that was proved to reach the target
/// and the lowest that was proved not to.
fn proved_limit(
    slots: &Slots<'_>,
    actual: &Standing,
    question: &Question,
    on: Measure,
    proof: &dyn Fn(&Changes) -> Result<WhatIf, MarginError>,
) -> Result<Found, MarginError> {
    if actual.revenue_usd <= Money::ZERO {
        let why = "the plan earned nothing in the range";
        return Ok(Found::Nothing(why.to_owned()));
    }
    let counted = |max: i128| {
        let saving = slots.saving(&cap(question, on, max));
        surplus(
            actual.margin_usd + saving,
            actual.revenue_usd,
            question.target_ppm,
        )
    };
    let unit = if on == Measure::Cost {
        PICOS_PER_CENT
    } else {
        1
    };
    let mut best: Option<(i128, LimitAdvice)> = None;
    // At the most that anybody used, the plan is as it was, and that does not reach the target.
    let mut fails = slots.most(on) / unit + 1;
    let mut off = 0;
    let mut step = 1;
    let mut lowest = None;
    for turn in 0..PROOFS {
        let holds = best.as_ref().map_or(-1, |(max, _)| *max);
        if fails - holds <= 1 {
            break;
        }
        let middle = holds + (fails - holds) / 2;
        let mut candidate = middle;
        if turn < COUNTED_PROOFS {
            candidate = halve(holds, fails, |max| counted(max).saturating_sub(off) >= 0).max(0);
            if candidate == holds && off.abs() < ROUNDINGS {
                // What counts so exactly need not be asked whether one more would do, too.
                break;
            }
            if candidate == holds {
                candidate = middle.min(holds + step);
                step *= 2;
            }
        }
        let limit = cap(question, on, candidate);
        let answer = proof(&Changes {
            limits: vec![limit.clone()],
            ..Changes::default()
        })?;
        let whatif = Standing::of(plan_row(&answer.whatif.rows, &question.plan));
        let proved = surplus(whatif.margin_usd, whatif.revenue_usd, question.target_ppm);
        off = counted(candidate).saturating_sub(proved);
        if whatif.reaches(question.target_ppm) {
            let advice = LimitAdvice {
                limit,
                saving_usd: -answer.difference.cost_usd,
                whatif,
                touched_accounts: answer.touched_accounts,
                touched_paying_accounts: answer.touched_paying_accounts,
            };
            best = Some((candidate, advice));
        } else {
            fails = candidate;
            lowest = Some((limit, whatif));
        }
    }
    Ok(match (best, lowest) {
        (Some((_, advice)), _) => Found::Limit(advice),
        (None, Some((limit, whatif))) => Found::Nothing(format!(
            "even {limit} leaves a margin of {}",
            whatif.percent()
        )),
        (None, None) => Found::Nothing("there was no use to limit in the range".to_owned()),
    })
}

/// The highest number between the two (the lower one, if there is none) of which something is true that is true of all
/// lower ones.
fn halve(lower: i128, upper: i128, holds: impl Fn(i128) -> bool) -> i128 {
    let (mut held, mut failed) = (lower, upper);
    while failed - held > 1 {
        let middle = held + (failed - held) / 2;
        if holds(middle) {
            held = middle;
        } else {
            failed = middle;
        }
    }
    held
}

/// How often a limit is tried at most. All but the first few times the stretch in question is halved, so that this is
/// enough for any number of tokens.
const PROOFS: usize = 64;

/// A millionth of a dollar, as [`surplus`] counts: rows of sums, each cut by itself, do not differ by more.
const ROUNDINGS: i128 = 1_000_000_000_000;

/// How often the count says which limit to try.
const COUNTED_PROOFS: usize = 8;

/// A limit per billing period: of so many cents, tokens or requests.
fn cap(question: &Question, on: Measure, max: i128) -> Cap {
    let max = match on {
        Measure::Cost => Amount::Money(Money::from_picos(max * PICOS_PER_CENT)),
        _ => Amount::Count(u64::try_from(max).unwrap_or(u64::MAX)),
    };
    Cap {
        plan: question.plan.clone(),
        on,
        max,
        per: Window::Period,
    }
}

fn plan_row<'a>(rows: &'a [Row], plan: &PlanId) -> Option<&'a Row> {
    rows.iter().find(|row| row.id == plan.as_str())
}

impl Standing {
    fn of(row: Option<&Row>) -> Standing {
        let money = |member: fn(&Row) -> Money| row.map_or(Money::ZERO, member);
        Standing {
            accounts: row.map_or(0, |row| row.accounts),
            loss_making_accounts: row.map_or(0, |row| row.loss_making_accounts),
            revenue_usd: money(|row| row.revenue_usd),
            cost_usd: money(|row| row.cost_usd),
            margin_usd: money(|row| row.margin_usd),
            margin_ratio: row.and_then(|row| row.margin_ratio.clone()),
        }
    }

    fn percent(&self) -> String {
        self.margin_ratio
            .as_deref()
            .map_or_else(|| "nothing".to_owned(), percent)
    }

    fn reaches(&self, target_ppm: i32) -> bool {
        reaches(self.margin_usd, self.revenue_usd, target_ppm)
    }
}

/// Whether a margin is at least such a part of a revenue.
fn reaches(margin: Money, revenue: Money, target_ppm: i32) -> bool {
    revenue > Money::ZERO && surplus(margin, revenue, target_ppm) >= 0
}

/// By how much a margin is above the target, in millionths of pico-dollars.
fn surplus(margin: Money, revenue: Money, target_ppm: i32) -> i128 {
    let scaled = margin.picos().saturating_mul(1_000_000);
    let wanted = revenue.picos().saturating_mul(i128::from(target_ppm));
    scaled.saturating_sub(wanted)
}

/// Parts per million as a decimal with four places.
fn share(ppm: i32) -> String {
    super::ratio::ratio(
        Money::from_picos(i128::from(ppm)),
        Money::from_picos(1_000_000),
    )
    .unwrap_or_default()
}

fn spoken<S: Serializer>(limit: &Cap, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(limit)
}
