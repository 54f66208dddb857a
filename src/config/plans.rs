//! `[[plans]]`, their limits, and `[[currencies]]`.

use std::sync::Arc;

use jiff::civil::Date;

use super::names::Names;
use super::reader::Table;
use super::units;
use super::value::Value;
use crate::ids::PlanId;
use crate::money::Money;
use crate::plan::{Amount, ModelPattern, Overage, OverageCharge, PaymentFee, Period, Plan};

/// What a currency is worth, day by day. US dollars need no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency {
    /// The ISO 4217 code, upper case.
    pub code: Arc<str>,
    /// Its rates, ascending by day, at least one.
    pub rates: Vec<ExchangeRate>,
}

/// An exchange rate from a day on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// The first day (UTC) on which it holds.
    pub from: Date,
    /// What one unit of the currency costs in US dollars, above zero.
    pub usd: Money,
}

impl Currency {
    /// What one unit costs in US dollars on a day; days before the first rate have the first.
    pub fn usd_on(&self, day: Date) -> Option<Money> {
        self.rates
            .iter()
            .rev()
            .find(|rate| rate.from <= day)
            .or(self.rates.first())
            .map(|rate| rate.usd)
    }
}

impl Currency {
    pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<Currency> {
        let code = table.need("code", CODE).and_then(|value| {
            let code = code(&value)?;
            if &*code == USD {
                return value.wrong(USD, "another currency: prices are in US dollars already");
            }
            names.declare(&value, &code).then_some(code)
        });
        let mut rates: Vec<ExchangeRate> = Vec::new();
        let listed = table.need("rates", "an array of { from = DATE, usd = \"RATE\" }");
        let items = listed.and_then(|value| {
            let items = value.items("an array of rates")?;
            if items.is_empty() {
                value.refuse("is empty, expected at least one rate");
            }
            Some(items)
        });
        for item in items.iter().flatten() {
            let Some(rate) = exchange_rate(item) else {
                continue;
            };
            if rates.iter().any(|other| other.from == rate.from) {
                item.refuse(format!(
                    "has the same \"from\" as another rate ({}), expected a day of its own",
                    rate.from
                ));
                continue;
            }
            rates.push(rate);
        }
        rates.sort_by_key(|rate| rate.from);
        Some(Currency { code: code?, rates })
    }
}

fn exchange_rate(value: &Value<'_>) -> Option<ExchangeRate> {
    let table = value.table("a table such as { from = 2025-01-01, usd = \"1.08\" }")?;
    let from = table.need("from", "a date").and_then(|value| value.date());
    let usd = table
        .need("usd", "money such as \"1.08\"")
        .and_then(|value| {
            let usd = value.money()?;
            if usd == Money::ZERO {
                return value.wrong("0", "what one unit of the currency costs in US dollars");
            }
            Some(usd)
        });
    Some(ExchangeRate {
        from: from?,
        usd: usd?,
    })
}

/// Reads one `[[plans]]` table.
pub(super) fn plan(
    table: &Table<'_>,
    names: &mut Names,
    currencies: &Names,
    served: &[ModelPattern],
) -> Option<Plan> {
    let id = table.need("id", "an id").and_then(|value| {
        let id = value.id(PlanId::parse)?;
        names.declare(&value, id.as_str()).then_some(id)
    });
    let price = table
        .need(
            "price",
            "money such as \"20.00\" (\"0\" for an internal budget)",
        )
        .and_then(|value| value.money());
    let period = table.or("period", Period::Month, |value| {
        value.word(&[
            ("day", Period::Day),
            ("week", Period::Week),
            ("month", Period::Month),
            ("year", Period::Year),
        ])
    });
    let currency = table.optional("currency", |value| known_currency(value, currencies));
    let limits = super::limits::limits(table, served);
    let fixed_cost = table.or("fixed_cost", Money::ZERO, |value| value.money());
    let payment_fee = table.or("payment_fee", PaymentFee::default(), payment_fee);
    let overage = table.optional("overage", overage);
    let trial_days = table.or("trial_days", 0, |value| value.small_count(0..=3660));
    Some(Plan {
        id: id?,
        price: price?,
        currency: currency.unwrap_or_else(|| USD.into()),
        period,
        limits,
        fixed_cost,
        payment_fee,
        overage,
        trial_days,
    })
}

/// A currency that has exchange rates, or US dollars.
pub(super) fn known_currency(value: &Value<'_>, currencies: &Names) -> Option<Arc<str>> {
    let code = code(value)?;
    (&*code == USD || currencies.refer(value, &code)).then_some(code)
}

fn code(value: &Value<'_>) -> Option<Arc<str>> {
    let text = value.text(CODE)?;
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Some(text.into());
    }
    value.wrong(text, CODE)
}

/// `"2.9% + 0.30"`, `"2.9%"`, `"0.30"`, or `{ percent = "2.9", fixed = "0.30" }`.
fn payment_fee(value: &Value<'_>) -> Option<PaymentFee> {
    const EXPECTED: &str =
        "a payment fee such as \"2.9% + 0.30\" or { percent = \"2.9\", fixed = \"0.30\" }";
    if value.is_table() {
        let table = value.table(EXPECTED)?;
        return Some(PaymentFee {
            ppm: table.or("percent", 0, percent),
            fixed: table.or("fixed", Money::ZERO, |value| value.money()),
        });
    }
    let text = value.text(EXPECTED)?;
    let (percent, fixed) = match text.split_once('+') {
        Some((percent, fixed)) => (percent.trim(), fixed.trim()),
        None if text.ends_with('%') => (text, "0"),
        None => ("0%", text),
    };
    let ppm = percent
        .ends_with('%')
        .then(|| units::percent_ppm(percent))
        .flatten();
    let fixed = Money::parse(fixed)
        .ok()
        .filter(|fixed| !fixed.is_negative());
    match (ppm, fixed) {
        (Some(ppm @ ..=1_000_000), Some(fixed)) => Some(PaymentFee { ppm, fixed }),
        _ => value.wrong(text, EXPECTED),
    }
}

fn percent(value: &Value<'_>) -> Option<u32> {
    const EXPECTED: &str = "a percentage from 0 to 100 as a string such as \"2.9\"";
    let text = value.text(EXPECTED)?;
    match units::percent_ppm(text) {
        Some(ppm @ ..=1_000_000) => Some(ppm),
        _ => value.wrong(text, EXPECTED),
    }
}

/// `{ above_cost = "150.00", markup_percent = "20" }` or `{ above_tokens = 1000000, per_million_tokens = "5.00" }`.
fn overage(value: &Value<'_>) -> Option<Overage> {
    const EXPECTED: &str = "{ above_cost = \"150.00\", markup_percent = \"20\" } or { above_tokens = 1000000, per_million_tokens = \"5.00\" }";
    let table = value.table(EXPECTED)?;
    let (cost, markup) = (table.get("above_cost"), table.get("markup_percent"));
    let (tokens, price) = (table.get("above_tokens"), table.get("per_million_tokens"));
    match (cost, markup, tokens, price) {
        (Some(cost), Some(markup), None, None) => {
            let (above, percent) = (cost.money(), markup_percent(&markup));
            Some(Overage {
                above: Amount::Money(above?),
                charge: OverageCharge::MarkupPpm(1_000_000 + percent?),
            })
        }
        (None, None, Some(tokens), Some(price)) => {
            let (above, price) = (
                tokens.count(0..=super::value::COUNT_MAX),
                price.money_per_million(),
            );
            Some(Overage {
                above: Amount::Count(above?),
                charge: OverageCharge::PerToken(price?),
            })
        }
        _ => {
            value.refuse(format!(
                "does not say what is charged above what, expected {EXPECTED}"
            ));
            None
        }
    }
}

fn markup_percent(value: &Value<'_>) -> Option<u32> {
    const EXPECTED: &str = "a percentage from 0 to 1000 as a string such as \"20\"";
    let text = value.text(EXPECTED)?;
    match units::percent_ppm(text) {
        Some(ppm @ ..=10_000_000) => Some(ppm),
        _ => value.wrong(text, EXPECTED),
    }
}

/// The currency of all costs.
const USD: &str = "USD";
const CODE: &str = "an ISO 4217 code such as \"EUR\"";
