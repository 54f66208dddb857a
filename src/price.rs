//! Price tables: dollars per token by class, each row valid from a day.

mod cost;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::money::Money;
use crate::plan::ModelPattern;

pub use cost::{Cost, CostByClass, CostError};

/// The price of *one* unit (token, request, image, second, call) of each class, in exact money.
/// A class without a price of its own costs what the class that contains it costs: a cache read without
/// `cache_read_input` costs `input`, reasoning without `reasoning_output` costs `output`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Text input.
    pub input: Option<Money>,
    /// Input read from the prompt cache.
    pub cache_read_input: Option<Money>,
    /// Input written to the prompt cache (5 minutes, or the only lifetime there is).
    pub cache_write_input: Option<Money>,
    /// Input written to the prompt cache for an hour.
    pub cache_write_1h_input: Option<Money>,
    /// Audio input.
    pub audio_input: Option<Money>,
    /// Image input, by the token.
    pub image_input: Option<Money>,
    /// Output.
    pub output: Option<Money>,
    /// Reasoning output, where it has a price of its own.
    pub reasoning_output: Option<Money>,
    /// Audio output.
    pub audio_output: Option<Money>,
    /// Image output, by the token.
    pub image_output: Option<Money>,
    /// Each request.
    pub request: Option<Money>,
    /// Each image made.
    pub image: Option<Money>,
    /// Each second of audio.
    pub second: Option<Money>,
    /// Each call of the provider's own web search.
    pub web_search: Option<Money>,
}

/// One price of one model, from a day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    /// The first day (UTC) on which it holds.
    pub from: Date,
    /// The rates.
    pub rates: Rates,
    /// Rates of requests with more input than a threshold, ascending by threshold.
    pub above: Vec<Above>,
    /// Rates by service tier (`batch`, `flex`, `priority`, …). A class absent there costs what the standard tier asks.
    pub tiers: BTreeMap<Arc<str>, TierRates>,
    /// Where the figures come from.
    pub source: Arc<str>,
}

/// The rates of a long-context tier: they apply to the whole request when its input exceeds the threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// The threshold; a request *at* it still has the ordinary price.
    pub input_tokens: u64,
    /// The rates above it.
    pub rates: Rates,
}

/// The rates of a service tier, with long-context rates of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierRates {
    /// The rates.
    pub rates: Rates,
    /// Its long-context rates.
    pub above: Vec<Above>,
}

/// What the table knows of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct PricedModel {
    /// The entry's name: an exact id or a glob.
    pub model: Arc<str>,
    /// Further exact names of the same model (a dated snapshot, a provider's own spelling).
    pub aliases: Vec<Arc<str>>,
    /// tiktoken's encoding for it (`o200k_base`, `cl100k_base`), where the table names one.
    pub tokenizer: Option<Arc<str>>,
    /// The most output tokens that the model can give: the reservation of a request that states no maximum.
    pub max_output_tokens: Option<u64>,
    /// Its prices, ascending by day.
    pub rows: Vec<PriceRow>,
}

/// Which price was used: the ledger's `priced_by`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PricedBy {
    /// The table's entry.
    pub model: Arc<str>,
    /// The day from which the row holds.
    pub from: Date,
}

/// All price tables together.
#[derive(Debug, Default)]
pub struct PriceTable {
    exact: HashMap<Arc<str>, Arc<PricedModel>>,
    /// Globs, longest first: the longest match wins.
    globs: Vec<(ModelPattern, Arc<PricedModel>)>,
}

impl PriceTable {
    /// A table of these models. Names are unique: the configuration refuses a model named twice.
    pub fn new(models: impl IntoIterator<Item = PricedModel>) -> PriceTable {
        let mut table = PriceTable::default();
        for mut model in models {
            model.rows.sort_by_key(|row| row.from);
            let model = Arc::new(model);
            for alias in &model.aliases {
                table.exact.insert(Arc::clone(alias), Arc::clone(&model));
            }
            if model.model.contains(['*', '?']) {
                table.globs.push((ModelPattern::new(&model.model), model));
            } else {
                table.exact.insert(Arc::clone(&model.model), model);
            }
        }
        table.globs.sort_by(|(_, a), (_, b)| {
            b.model
                .len()
                .cmp(&a.model.len())
                .then_with(|| a.model.cmp(&b.model))
        });
        table
    }

    /// The entry for a model: its exact name, else the longest glob that matches.
    pub fn model(&self, model: &str) -> Option<&Arc<PricedModel>> {
        self.exact.get(model).or_else(|| {
            self.globs
                .iter()
                .find(|(pattern, _)| pattern.matches(model))
                .map(|(_, entry)| entry)
        })
    }

    /// The price of a model that held at a moment: the entry, and its latest row that began on or before that day (UTC).
    pub fn price(&self, model: &str, at: Timestamp) -> Option<(&Arc<PricedModel>, &PriceRow)> {
        let entry = self.model(model)?;
        let day = jiff::tz::Offset::UTC.to_datetime(at).date();
        entry
            .rows
            .iter()
            .rev()
            .find(|row| row.from <= day)
            .map(|row| (entry, row))
    }

    /// Every entry once, in no order.
    pub fn models(&self) -> impl Iterator<Item = &Arc<PricedModel>> {
        self.exact
            .iter()
            .filter(|(name, entry)| **name == entry.model)
            .map(|(_, entry)| entry)
            .chain(self.globs.iter().map(|(_, entry)| entry))
    }
}
