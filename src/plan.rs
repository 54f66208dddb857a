//! Plans: what an account pays and what it may use.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{AccountId, ModelName, PlanId};
use crate::money::Money;

/// What an account pays and what it may use. An internal team budget is a plan of price 0 with a cost limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub id: PlanId,
    /// What an account pays for each period, in the plan's currency.
    pub price: Money,
    /// ISO 4217 code of the price; `USD` unless the configuration's dated `[[currencies]]` table has another.
    pub currency: Arc<str>,
    /// How often the price is paid, counted from the account's `since`.
    pub period: Period,
    /// What an account may use.
    pub limits: Vec<Limit>,
    /// What an account costs each period beside tokens (support, storage), in US dollars.
    pub fixed_cost: Money,
    /// What the payment provider keeps of each payment.
    pub payment_fee: PaymentFee,
    /// What is charged beyond a quota.
    pub overage: Option<Overage>,
    /// Days from `since` on which nothing is paid.
    pub trial_days: u32,
}

impl Plan {
    /// All that revenue depends on: the plan without its limits.
    pub fn terms(&self) -> Plan {
        Plan {
            limits: Vec::new(),
            ..self.clone()
        }
    }
}

/// How often a plan's price is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Every day.
    Day,
    /// Every seven days.
    Week,
    /// Every month, on the day of the month of `since` (or the month's last day).
    Month,
    /// Every year.
    Year,
}

/// What the payment provider keeps of each payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentFee {
    /// Parts per million of the price: 2.9 % is 29,000.
    pub ppm: u32,
    /// A fixed sum for each payment.
    pub fixed: Money,
}

/// What is charged beyond a quota of cost in each period: revenue beside the plan's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overage {
    /// The cost (or tokens) of a period that the price covers.
    pub above: Amount,
    /// How what lies above is charged.
    pub charge: OverageCharge,
}

/// How overage is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverageCharge {
    /// Dollars for each token above the quota.
    PerToken(Money),
    /// Cost above the quota times this many parts per million (1,200,000 is cost plus 20 %).
    MarkupPpm(u32),
}

/// One limit: at most `max` of `on` in each window `per`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What is measured.
    pub on: Measure,
    /// The most that a window may hold.
    pub max: Amount,
    /// The window; `None` for [`Measure::Concurrent`] alone.
    pub per: Option<Window>,
    /// Names or globs of models that count towards it; empty means all.
    pub models: Vec<ModelPattern>,
    /// What happens to a request that would pass it.
    pub then: Action,
    /// Shares of `max`, in parts per million, at which a warning is given once a window.
    pub warn_at_ppm: Vec<u32>,
    /// How long a request may wait for open reservations to settle before it is refused, in milliseconds.
    pub queue_ms: u32,
}

/// What a limit measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// US dollars.
    Cost,
    /// Input and output tokens together.
    Tokens,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// Requests.
    Requests,
    /// Requests in flight.
    Concurrent,
}

impl Measure {
    /// The name in configuration, ledger and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Cost => "cost",
            Measure::Tokens => "tokens",
            Measure::InputTokens => "input_tokens",
            Measure::OutputTokens => "output_tokens",
            Measure::Requests => "requests",
            Measure::Concurrent => "concurrent",
        }
    }

    /// The measure of that name.
    pub fn parse(text: &str) -> Option<Measure> {
        use Measure::{Concurrent, Cost, InputTokens, OutputTokens, Requests, Tokens};
        [
            Cost,
            Tokens,
            InputTokens,
            OutputTokens,
            Requests,
            Concurrent,
        ]
        .into_iter()
        .find(|m| m.as_str() == text)
    }
}

/// An amount of whatever a limit measures: pico-dollars for cost, else a count.
/// One integer type serves both, so that quota arithmetic is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Money, for [`Measure::Cost`].
    Money(Money),
    /// Tokens or requests.
    Count(u64),
}

impl Amount {
    /// Pico-dollars or the count.
    pub fn units(self) -> i128 {
        match self {
            Amount::Money(money) => money.picos(),
            Amount::Count(count) => i128::from(count),
        }
    }
}

/// The stretch of time that a limit counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A calendar minute, UTC.
    Minute,
    /// A calendar hour, UTC.
    Hour,
    /// A calendar day, UTC.
    Day,
    /// A calendar week from Monday, UTC.
    Week,
    /// A calendar month, UTC.
    Month,
    /// The account's own billing period (its plan's `period`, counted from `since`).
    Period,
    /// The last so many milliseconds.
    Rolling(u64),
}

/// The name in configuration, ledger and metrics: `month`, `period`, `5h`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
        ];
        match self {
            Window::Minute => f.pad("minute"),
            Window::Hour => f.pad("hour"),
            Window::Day => f.pad("day"),
            Window::Week => f.pad("week"),
            Window::Month => f.pad("month"),
            Window::Period => f.pad("period"),
            Window::Rolling(length_ms) => {
                let whole = UNITS
                    .into_iter()
                    .find(|(unit_ms, _)| *length_ms > 0 && length_ms % unit_ms == 0);
                let (unit_ms, unit) = whole.unwrap_or((1, "ms"));
                f.pad(&format!("{}{unit}", length_ms / unit_ms))
            }
        }
    }
}

/// What happens to a request that would pass a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is refused.
    Block,
    /// It goes on; the warning is logged, counted and sent.
    Warn,
    /// It is served by this cheaper model.
    Downgrade(ModelName),
    /// Its maximum output is lowered to so many tokens.
    CapOutput(u64),
}

/// A model's name or a glob (`gpt-4o-*`), matched case-sensitively.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPattern {
    glob: wildmatch::WildMatch,
    /// `*`, which most limits have: a request asks each of its limits.
    all: bool,
}

impl ModelPattern {
    /// Reads a name or a glob with `*` and `?`.
    pub fn new(pattern: &str) -> ModelPattern {
        ModelPattern {
            glob: wildmatch::WildMatch::new(pattern),
            all: pattern == "*",
        }
    }

    /// Whether the pattern matches the whole of `model`.
    pub fn matches(&self, model: &str) -> bool {
        self.all || self.glob.matches(model)
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> String {
        self.glob.pattern()
    }
}

impl Serialize for ModelPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.pattern())
    }
}

impl<'de> Deserialize<'de> for ModelPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ModelPattern, D::Error> {
        let pattern = String::deserialize(deserializer)?;
        Ok(ModelPattern::new(&pattern))
    }
}

/// Who pays: a customer, a team, a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// Its plan.
    pub plan: PlanId,
    /// The account above it: a request counts against both.
    pub parent: Option<AccountId>,
    /// The first day of its first billing period.
    pub since: Date,
    /// The day from which it no longer pays or may send requests.
    pub until: Option<Date>,
    /// A name for people.
    pub name: Option<Arc<str>>,
    /// The currency in which it pays the plan's price, where that is not the plan's own.
    pub currency: Option<Arc<str>>,
    /// Facts about it, for reports by tag.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// Limits of its own, beside its plan's.
    pub limits: Vec<Limit>,
}
