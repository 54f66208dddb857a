//! Plans, accounts, prices and entries for tests, in few words.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use weir::ids::{AccountId, ModelName};
use weir::ledger::store::{AccountChange, AccountEvent, TimeRange};
use weir::ledger::{Entry, Outcome};
use weir::margin::whatif::Changes;
use weir::margin::{Books, By, Report, Row, WhatIf};
use weir::money::Money;
use weir::plan::{Account, PaymentFee, Period, Plan};
use weir::price::{PriceRow, PriceTable, PricedBy, PricedModel, Rates};
use weir::tokens::{Usage, UsageSource};

use crate::ledger::Ledger;

pub(crate) fn at(text: &str) -> Timestamp {
    if text.contains('T') {
        text.parse().unwrap()
    } else {
        format!("{text}T00:00:00Z").parse().unwrap()
    }
}

pub(crate) fn day(text: &str) -> Date {
    text.parse().unwrap()
}

pub(crate) fn usd(text: &str) -> Money {
    Money::parse(text).unwrap()
}

pub(crate) fn range(since: &str, until: &str) -> TimeRange {
    TimeRange {
        since: at(since),
        until: at(until),
    }
}

pub(crate) fn plan(id: &str, price: &str) -> Plan {
    Plan {
        id: id.into(),
        price: usd(price),
        currency: "USD".into(),
        period: Period::Month,
        limits: Vec::new(),
        fixed_cost: Money::ZERO,
        payment_fee: PaymentFee::default(),
        overage: None,
        trial_days: 0,
    }
}

pub(crate) fn account(id: &str, plan: &str, since: &str) -> Account {
    Account {
        id: id.into(),
        plan: plan.into(),
        parent: None,
        since: day(since),
        currency: None,
        until: None,
        name: None,
        tags: Vec::new(),
        limits: Vec::new(),
    }
}

pub(crate) fn event(account: &str, moment: &str, change: AccountChange) -> AccountEvent {
    AccountEvent {
        account: account.into(),
        at: at(moment),
        change,
    }
}

pub(crate) fn on_plan(plan: &str, since: &str) -> AccountChange {
    AccountChange::Plan {
        plan: plan.into(),
        since: day(since),
    }
}

/// Prices in dollars per million tokens: from, input, cache read, output.
pub(crate) fn model(name: &str, rows: &[(&str, &str, &str, &str)]) -> PricedModel {
    let price = |text: &str| Some(Money::parse_per_million(text).unwrap());
    PricedModel {
        model: name.into(),
        aliases: Vec::new(),
        tokenizer: None,
        max_output_tokens: None,
        rows: rows
            .iter()
            .map(|(from, input, cached, output)| PriceRow {
                from: day(from),
                rates: Rates {
                    input: price(input),
                    cache_read_input: price(cached),
                    output: price(output),
                    ..Rates::default()
                },
                above: Vec::new(),
                tiers: Default::default(),
                source: "test".into(),
            })
            .collect(),
    }
}

pub(crate) fn prices() -> PriceTable {
    PriceTable::new([
        model(
            "gpt-4o",
            &[
                ("2024-05-13", "5", "5", "15"),
                ("2024-10-02", "2.50", "1.25", "10"),
            ],
        ),
        model("gpt-4.5-preview", &[("2025-02-27", "75", "37.50", "150")]),
        model("gpt-4-0314", &[("2023-03-14", "30", "30", "60")]),
        model("gpt-4-32k-0314", &[("2023-03-14", "60", "60", "120")]),
        model(
            "gpt-3.5-turbo",
            &[
                ("2023-03-01", "2", "2", "2"),
                ("2024-01-25", "0.50", "0.50", "1.50"),
            ],
        ),
        model(
            "o3",
            &[
                ("2025-04-16", "10", "2.50", "40"),
                ("2025-06-10", "2", "0.50", "8"),
            ],
        ),
        model("o3-mini", &[("2025-01-31", "1.10", "0.55", "4.40")]),
        model("claude-opus-4", &[("2025-05-22", "15", "1.50", "75")]),
    ])
}

/// One answered request, priced as the gateway prices it.
pub(crate) fn entry(
    prices: &PriceTable,
    account: &str,
    plan: &str,
    model: &str,
    moment: Timestamp,
    usage: Usage,
) -> Entry {
    let priced = prices.price(model, moment);
    let cost = priced.map(|(_, row)| row.cost(&usage, None).unwrap());
    Entry {
        id: Default::default(),
        started_at: moment,
        ended_at: moment,
        lineage: Arc::new([AccountId::from(account)]),
        key: format!("{account}-key").as_str().into(),
        plan: plan.into(),
        endpoint: "chat.completions".into(),
        model: Some(ModelName::from(model)),
        served_model: Some(ModelName::from(model)),
        upstream: Some("openai".into()),
        service_tier: None,
        status: 200,
        outcome: Outcome::Completed,
        reason: None,
        streamed: false,
        usage,
        usage_source: UsageSource::Reported,
        cost: cost.map(|cost| cost.by_class).unwrap_or_default(),
        undiscounted: cost.map(|cost| cost.undiscounted).unwrap_or_default(),
        priced_by: priced
            .map(|(entry, row)| PricedBy {
                model: Arc::clone(&entry.model),
                from: row.from,
            })
            .into_iter()
            .collect(),
        first_token_ms: None,
        duration_ms: 1,
        retries: 0,
        end_user: None,
        tags: Vec::new(),
        corrects: None,
    }
}

pub(crate) fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input_tokens: input,
        output_tokens: output,
        ..Usage::default()
    }
}

pub(crate) fn report(store: &Ledger, books: &Books, by: By, range: TimeRange, now: &str) -> Report {
    weir::margin::report(&**store, books, by, range, at(now), &|_, _| {}).unwrap()
}

pub(crate) fn what_if(
    store: &Ledger,
    books: &Books,
    prices: &PriceTable,
    changes: &Changes,
    by: By,
    range: TimeRange,
    now: &str,
) -> WhatIf {
    let quiet = |_, _| {};
    weir::margin::what_if(&**store, books, prices, changes, by, range, at(now), &quiet).unwrap()
}

pub(crate) fn row<'a>(report: &'a Report, id: &str) -> &'a Row {
    report
        .rows
        .iter()
        .find(|row| row.id == id)
        .unwrap_or_else(|| panic!("no row {id} in {:?}", report.rows))
}
