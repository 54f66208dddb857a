//! A margin report as users see it: the object of `weir margin --format json` and of the admin API.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Serialize, Serializer};

use super::By;
use super::concentration::Concentration;
use crate::ledger::entry::Outcome;
use crate::money::Money;
use crate::price::CostByClass;
use crate::tokens::Usage;

/// Revenue against cost over a time range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The first moment.
    pub since: Timestamp,
    /// The first moment after it. Revenue and cost are recognised up to now at most, even if this lies ahead.
    pub until: Timestamp,
    /// What the rows are.
    pub by: By,
    /// One for each plan, account, …
    pub rows: Vec<Row>,
    /// All accounts together.
    pub total: Row,
    /// Requests whose model has no price: their cost is unknown and in no sum.
    pub unpriced: Vec<Unpriced>,
    /// How revenue is told apart between rows.
    pub method: &'static str,
    /// Revenue and costs of accounts that used nothing: in the total, but in no row where rows are models, keys,
    /// upstreams or tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unallocated: Option<Unallocated>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// A model without a price and how often it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpriced {
    /// The served model, or the one asked for where the upstream named none.
    pub model: String,
    /// Requests in the range.
    pub requests: u64,
}

/// What lies in no row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unallocated {
    /// Revenue.
    pub revenue_usd: Money,
    /// Fixed costs and payment fees.
    pub cost_usd: Money,
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What the row is about: the plan, the account, …; `total` for all.
    pub id: String,
    /// The plan that an account has (or had last); in reports by account only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Accounts that had the plan or used something.
    pub accounts: u64,
    /// Of these, whose margin in this row is below zero.
    pub loss_making_accounts: u64,
    /// Requests, rejected ones included.
    pub requests: u64,
    /// Of these, with something used and no price.
    pub unpriced_requests: u64,
    /// Of these, by how they ended.
    #[serde(serialize_with = "outcomes")]
    pub outcomes: [u64; 5],
    /// Tokens.
    pub usage: Usage,
    /// Revenue recognised.
    pub revenue_usd: Money,
    /// All costs: use, fixed costs and payment fees.
    pub cost_usd: Money,
    /// The costs, each once.
    pub cost: CostLines,
    /// Revenue less cost.
    pub margin_usd: Money,
    /// Margin as a share of revenue, four decimals; `None` without revenue.
    pub margin_ratio: Option<String>,
    /// The use at which the row turns.
    pub break_even: BreakEven,
    /// The row at the end of the calendar month in which the range ends.
    pub projected: Projected,
    /// How unevenly accounts cost; `None` in reports by account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concentration: Option<Concentration>,
    /// Margins above zero, added up: paid for and not used.
    pub breakage_usd: Money,
    /// Margins below zero, added up (a positive amount): what breakage pays for.
    pub losses_usd: Money,
    /// Costs that nobody sees. They overlap and are all within `cost_usd`.
    pub hidden: Hidden,
    /// What caches and cheaper tiers took off the price.
    pub savings_usd: Money,
}

/// The parts of a row's cost; their sum is `cost_usd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostLines {
    /// By token class.
    #[serde(flatten)]
    pub use_by_class: CostByClass,
    /// Fixed costs of accounts.
    pub fixed: Money,
    /// What payment providers keep.
    pub payment_fee: Money,
}

/// The use at which revenue and cost are equal, at the mix of models and classes that the row has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakEven {
    /// What use may cost: the revenue from `since` to `projected.until` less fixed costs and payment fees.
    pub cost_usd: Money,
    /// So many tokens cost that.
    pub tokens: Option<u64>,
    /// So many requests cost that.
    pub requests: Option<u64>,
    /// The day on which cost passed it, or will at today's rate; `None` if that is not before `projected.until`.
    pub date: Option<Date>,
    /// Whether that day has come.
    pub reached: bool,
}

/// A row at the end of the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Projected {
    /// The period's end.
    pub until: Timestamp,
    /// Revenue from `since` to then.
    pub revenue_usd: Money,
    /// All costs to then.
    pub cost_usd: Money,
    /// Revenue less cost.
    pub margin_usd: Money,
    /// The margin's lower bound.
    pub low_usd: Money,
    /// The margin's upper bound.
    pub high_usd: Money,
    /// How it was made.
    pub method: &'static str,
}

/// Costs that nobody sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// Reasoning tokens.
    pub reasoning_usd: Money,
    /// Answers whose client had gone.
    pub client_closed_usd: Money,
    /// Answers that failed or broke off.
    pub failed_usd: Money,
    /// Upstream calls beyond the first.
    pub retries: u64,
}

fn outcomes<S: Serializer>(counts: &[u64; 5], serializer: S) -> Result<S::Ok, S::Error> {
    let named = Outcome::ALL.iter().map(|outcome| outcome.as_str());
    serializer.collect_map(named.zip(counts))
}
