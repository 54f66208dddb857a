//! The table as it holds on a day, in the words of `prices.toml`: for the command line and the admin API.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use serde::Serialize;

use super::{Above, PriceTable, PricedModel, Rates};

/// One model's price on a day. Prices are decimal strings: US dollars per 1,000,000 tokens, or dollars apiece for
/// `request`, `image`, `second` and the calls of tools (`web_search`, …).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The entry's name.
    pub model: Arc<str>,
    /// Its further names.
    pub aliases: Vec<Arc<str>>,
    /// tiktoken's encoding, where the table names one.
    pub tokenizer: Option<Arc<str>>,
    /// The most output tokens that it can give.
    pub max_output_tokens: Option<u64>,
    /// The first day of this price.
    pub from: Date,
    /// Its last day, where the next price is known.
    pub until: Option<Date>,
    /// The price of each class that has one.
    pub prices: Prices,
    /// Prices of requests with more input than a threshold.
    pub above: Vec<ListedAbove>,
    /// Prices by service tier; a class that is absent costs what the standard tier asks.
    pub tiers: BTreeMap<Arc<str>, ListedTier>,
    /// Where the figures come from.
    pub source: Arc<str>,
}

/// Prices by class, in the order of `prices.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices(pub Vec<(&'static str, String)>);

/// A long-context tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedAbove {
    /// The threshold: it applies to requests with more input than this.
    pub input_tokens: u64,
    /// Its prices.
    pub prices: Prices,
}

/// A service tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedTier {
    /// Its prices.
    pub prices: Prices,
    /// Its long-context tiers.
    pub above: Vec<ListedAbove>,
}

/// Every model that has a price on a day, by name.
pub fn list(table: &PriceTable, day: Date) -> Vec<Listed> {
    let mut listed: Vec<Listed> = table
        .models()
        .filter_map(|entry| on_day(entry, day))
        .collect();
    listed.sort_by(|a, b| a.model.cmp(&b.model));
    listed
}

/// A model's price on a day. `None` before its first.
pub fn on_day(entry: &PricedModel, day: Date) -> Option<Listed> {
    let row = entry.row_on(day)?;
    let tier = |(name, tier): (&Arc<str>, &super::TierRates)| {
        let listed = ListedTier {
            prices: prices(&tier.rates),
            above: above(&tier.above),
        };
        (Arc::clone(name), listed)
    };
    Some(Listed {
        model: Arc::clone(&entry.model),
        aliases: entry.aliases.clone(),
        tokenizer: entry.tokenizer.clone(),
        max_output_tokens: entry.max_output_tokens,
        from: row.from,
        until: entry
            .row_after(day)
            .and_then(|next| next.from.yesterday().ok()),
        prices: prices(&row.rates),
        above: above(&row.above),
        tiers: row.tiers.iter().map(tier).collect(),
        source: Arc::clone(&row.source),
    })
}

fn above(tiers: &[Above]) -> Vec<ListedAbove> {
    let listed = |tier: &Above| ListedAbove {
        input_tokens: tier.input_tokens,
        prices: prices(&tier.rates),
    };
    tiers.iter().map(listed).collect()
}

fn prices(rates: &Rates) -> Prices {
    let priced = rates
        .classes()
        .into_iter()
        .filter_map(|(class, price)| Some((class.name(), class.price_text(price?))));
    Prices(priced.collect())
}

impl Prices {
    /// The price of a class.
    pub fn get(&self, class: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| *name == class)
            .map(|(_, price)| price.as_str())
    }
}

impl Serialize for Prices {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(class, price)| (class, price)))
    }
}
