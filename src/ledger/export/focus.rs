//! An entry as rows of FOCUS 1.0, the FinOps Open Cost and Usage Specification (focus.finops.org): one row for each class
//! of cost, so that every row has one SKU, one quantity and one unit.

use jiff::civil::Date;
use jiff::tz::Offset;

use super::super::entry::Entry;
use super::super::json::{rfc3339, tags_to_text};
use crate::ids::AccountId;
use crate::money::Money;

/// The columns, in order.
///
/// The billing account is the root of the account's tree, the sub-account is the account; provider and publisher are the
/// upstream; the SKU is `price entry:class`; the resource is the served model. `ListCost` holds what the same tokens cost
/// without caches and discounts: an entry knows that only as a whole, so the difference stands in its row of cache reads
/// (else of cache writes, else in its first row). The parts of an entry always add up to its `cost_usd`.
pub const FOCUS_COLUMNS: [&str; 28] = [
    "BilledCost",
    "EffectiveCost",
    "ContractedCost",
    "ListCost",
    "BillingCurrency",
    "BillingAccountId",
    "SubAccountId",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "InvoiceIssuerName",
    "ServiceCategory",
    "ServiceName",
    "ResourceId",
    "SkuId",
    "Tags",
];

/// A class of cost with its share of the entry.
struct Charge {
    class: &'static str,
    cost: Money,
    list: Money,
    quantity: u64,
    unit: &'static str,
}

/// The rows of an entry; none where nothing was used and nothing is to be paid.
pub(super) fn rows(entry: &Entry) -> Vec<Vec<String>> {
    let charges = charges(entry);
    let mut rows = Vec::with_capacity(charges.len());
    let (month, next_month) = billing_month(entry);
    let tags = tags_to_text(&entry.tags).unwrap_or_default();
    let account = |account: Option<&AccountId>| account.map_or("", AccountId::as_str).to_owned();
    let upstream = entry
        .upstream
        .as_ref()
        .map_or("", |upstream| upstream.as_str());
    let served = entry.served_model.as_ref().or(entry.model.as_ref());
    let served = served.map_or("", |model| model.as_str());
    let priced = entry.priced_by.first().map_or(served, |row| &*row.model);
    let class = match entry.corrects {
        Some(_) => "Correction",
        None => "",
    };
    for charge in charges {
        let quantity = charge.quantity.to_string();
        rows.push(vec![
            charge.cost.to_string(),
            charge.cost.to_string(),
            charge.cost.to_string(),
            charge.list.to_string(),
            "USD".to_owned(),
            account(entry.lineage.first()),
            account(entry.account()),
            month.clone(),
            next_month.clone(),
            rfc3339(entry.started_at).to_string(),
            rfc3339(entry.ended_at).to_string(),
            "Usage".to_owned(),
            class.to_owned(),
            format!("{served} {} ({})", charge.class, entry.outcome.as_str()),
            "Usage-Based".to_owned(),
            quantity.clone(),
            charge.unit.to_owned(),
            "Standard".to_owned(),
            quantity,
            charge.unit.to_owned(),
            upstream.to_owned(),
            upstream.to_owned(),
            upstream.to_owned(),
            "AI and Machine Learning".to_owned(),
            entry.endpoint.to_string(),
            served.to_owned(),
            format!("{priced}:{}", charge.class),
            tags.clone(),
        ]);
    }
    rows
}

fn charges(entry: &Entry) -> Vec<Charge> {
    let usage = &entry.usage;
    let media_input = usage.audio_input_tokens + usage.image_input_tokens;
    let media_output = usage.audio_output_tokens + usage.image_output_tokens;
    // The disjoint classes of cost, in their order; a part never pushes the rest below zero.
    let quantities = [
        usage
            .input_tokens
            .saturating_sub(usage.cache_read_input_tokens)
            .saturating_sub(usage.cache_write_input_tokens)
            .saturating_sub(media_input),
        usage.cache_read_input_tokens,
        usage.cache_write_input_tokens,
        media_input,
        usage
            .output_tokens
            .saturating_sub(usage.reasoning_output_tokens)
            .saturating_sub(media_output),
        usage.reasoning_output_tokens,
        media_output,
        u64::from(entry.cost.other != Money::ZERO && entry.corrects.is_none()),
    ];
    let mut charges: Vec<Charge> = entry
        .cost
        .classes()
        .into_iter()
        .zip(quantities)
        .filter(|((_, cost), quantity)| *cost != Money::ZERO || *quantity > 0)
        .map(|((class, cost), quantity)| Charge {
            class,
            cost,
            list: cost,
            quantity,
            unit: match class {
                "other" => "Requests",
                _ => "Tokens",
            },
        })
        .collect();
    let saved = entry.undiscounted - entry.cost_usd();
    let at = ["cache_read_input", "cache_write_input"]
        .iter()
        .find_map(|class| charges.iter().position(|charge| charge.class == *class))
        .unwrap_or(0);
    if let Some(charge) = charges.get_mut(at) {
        charge.list += saved;
    }
    charges
}

/// The first moments of the calendar month and of the next one.
fn billing_month(entry: &Entry) -> (String, String) {
    let first: Date = Offset::UTC
        .to_datetime(entry.started_at)
        .date()
        .first_of_month();
    let next = first.last_of_month().tomorrow().unwrap_or(first);
    (format!("{first}T00:00:00Z"), format!("{next}T00:00:00Z"))
}
