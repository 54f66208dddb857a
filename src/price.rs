//! Price tables: dollars per token by class, each row valid from a day.

mod billed;
mod bound;
mod class;
mod cost;
pub mod import;
pub mod listing;
mod parts;
mod region;
pub mod toml_text;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::hash::HashMap;
use crate::money::Money;
use crate::plan::ModelPattern;

pub use bound::InputKinds;
pub use class::{Class, PER_TOKEN_MAX};
pub use cost::{Cost, CostByClass, CostError};
pub use parts::{Part, Priced, price_parts};
pub use region::tier_in_region;

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
    /// Each call of its search in files.
    pub file_search: Option<Money>,
    /// Each call of its code interpreter, where it is billed by the call.
    pub code_interpreter: Option<Money>,
}

impl Rates {
    /// Every class with its price, in the order of `prices.toml`.
    pub fn classes(&self) -> [(Class, Option<Money>); 16] {
        Class::ALL.map(|class| (class, self.class(class)))
    }

    /// The price of a class.
    pub fn class(&self, class: Class) -> Option<Money> {
        match class {
            Class::Input => self.input,
            Class::CacheReadInput => self.cache_read_input,
            Class::CacheWriteInput => self.cache_write_input,
            Class::CacheWrite1hInput => self.cache_write_1h_input,
            Class::AudioInput => self.audio_input,
            Class::ImageInput => self.image_input,
            Class::Output => self.output,
            Class::ReasoningOutput => self.reasoning_output,
            Class::AudioOutput => self.audio_output,
            Class::ImageOutput => self.image_output,
            Class::Request => self.request,
            Class::Image => self.image,
            Class::Second => self.second,
            Class::WebSearch => self.web_search,
            Class::FileSearch => self.file_search,
            Class::CodeInterpreter => self.code_interpreter,
        }
    }

    /// The place of a class's price.
    pub fn class_mut(&mut self, class: Class) -> &mut Option<Money> {
        match class {
            Class::Input => &mut self.input,
            Class::CacheReadInput => &mut self.cache_read_input,
            Class::CacheWriteInput => &mut self.cache_write_input,
            Class::CacheWrite1hInput => &mut self.cache_write_1h_input,
            Class::AudioInput => &mut self.audio_input,
            Class::ImageInput => &mut self.image_input,
            Class::Output => &mut self.output,
            Class::ReasoningOutput => &mut self.reasoning_output,
            Class::AudioOutput => &mut self.audio_output,
            Class::ImageOutput => &mut self.image_output,
            Class::Request => &mut self.request,
            Class::Image => &mut self.image,
            Class::Second => &mut self.second,
            Class::WebSearch => &mut self.web_search,
            Class::FileSearch => &mut self.file_search,
            Class::CodeInterpreter => &mut self.code_interpreter,
        }
    }
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

impl PricedModel {
    /// The price that held on a day (UTC): the latest row that began on or before it. `None` before the first.
    pub fn row_on(&self, day: Date) -> Option<&PriceRow> {
        self.rows.iter().rev().find(|row| row.from <= day)
    }

    /// The row after the one that held on a day.
    pub fn row_after(&self, day: Date) -> Option<&PriceRow> {
        self.rows.iter().find(|row| row.from > day)
    }
}

/// Which price was used: the ledger's `priced_by`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PricedBy {
    /// The table's entry.
    pub model: Arc<str>,
    /// The day from which the row holds.
    pub from: Date,
}

/// One row of one entry, kept without copying it.
#[derive(Clone, Debug)]
pub struct HeldPrice {
    /// The entry.
    pub entry: Arc<PricedModel>,
    /// Which of its rows.
    index: usize,
}

impl HeldPrice {
    /// The row.
    pub fn row(&self) -> Option<&PriceRow> {
        self.entry.rows.get(self.index)
    }
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

    /// The price of a model that held at a moment: the entry, and its row of that day (UTC).
    pub fn price(&self, model: &str, at: Timestamp) -> Option<(&Arc<PricedModel>, &PriceRow)> {
        let entry = self.model(model)?;
        let day = jiff::tz::Offset::UTC.to_datetime(at).date();
        entry.row_on(day).map(|row| (entry, row))
    }

    /// As [`PriceTable::price`], for whoever needs the price after the table was swapped.
    pub fn held(&self, model: &str, at: Timestamp) -> Option<HeldPrice> {
        let entry = self.model(model)?;
        let day = jiff::tz::Offset::UTC.to_datetime(at).date();
        let index = entry.rows.iter().rposition(|row| row.from <= day)?;
        Some(HeldPrice {
            entry: Arc::clone(entry),
            index,
        })
    }

    /// For a name without a price of its own, the dearest entry whose name begins with it: a bound for what the
    /// upstream may serve under a short name (`claude-sonnet-4` is served as `claude-sonnet-4-20250514`).
    pub fn dearest_like(&self, model: &str, at: Timestamp) -> Option<HeldPrice> {
        let day = jiff::tz::Offset::UTC.to_datetime(at).date();
        let alike = self.models().filter(|entry| entry.model.starts_with(model));
        let held = alike.filter_map(|entry| {
            let index = entry.rows.iter().rposition(|row| row.from <= day)?;
            let entry = Arc::clone(entry);
            Some(HeldPrice { entry, index })
        });
        held.max_by_key(|price| price.row().and_then(|row| row.rates.output))
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn model(name: &str, aliases: &[&str], days: &[Date]) -> PricedModel {
        let row = |from: &Date| PriceRow {
            from: *from,
            rates: Rates::default(),
            above: Vec::new(),
            tiers: BTreeMap::new(),
            source: "a test".into(),
        };
        PricedModel {
            model: name.into(),
            aliases: aliases.iter().map(|alias| Arc::from(*alias)).collect(),
            tokenizer: None,
            max_output_tokens: None,
            rows: days.iter().map(row).collect(),
        }
    }

    fn table() -> PriceTable {
        let day = [date(2024, 1, 1)];
        PriceTable::new([
            model("gpt-*", &[], &day),
            model("gpt-4o", &["gpt-4o-2024-11-20"], &day),
            model("gpt-4o-*", &[], &day),
        ])
    }

    #[test]
    fn an_exact_name_or_an_alias_wins_over_globs_and_the_longest_glob_over_others() {
        let table = table();
        for (asked, entry) in [
            ("gpt-4o", Some("gpt-4o")),
            ("gpt-4o-2024-11-20", Some("gpt-4o")),
            ("gpt-4o-2024-05-13", Some("gpt-4o-*")),
            ("gpt-5", Some("gpt-*")),
            ("GPT-5", None),
            ("openai/gpt-4o", None),
            ("", None),
        ] {
            let found = table.model(asked).map(|entry| &*entry.model);
            assert_eq!(found, entry, "{asked}");
        }
    }

    #[test]
    fn every_entry_is_listed_once() {
        let table = table();
        let mut names: Vec<&str> = table.models().map(|entry| &*entry.model).collect();
        names.sort_unstable();
        assert_eq!(names, ["gpt-*", "gpt-4o", "gpt-4o-*"]);
    }

    #[test]
    fn a_row_holds_from_its_first_moment_in_utc_until_the_next() {
        let days = [date(2024, 10, 2), date(2024, 5, 13)];
        let table = PriceTable::new([model("gpt-4o", &[], &days)]);
        for (at, from) in [
            ("2024-05-12T23:59:59Z", None),
            ("2024-05-13T00:00:00Z", Some(date(2024, 5, 13))),
            ("2024-10-01T23:59:59Z", Some(date(2024, 5, 13))),
            ("2024-10-01T20:00:00-04:00", Some(date(2024, 10, 2))),
            ("2030-01-01T00:00:00Z", Some(date(2024, 10, 2))),
        ] {
            let found = table.price("gpt-4o", at.parse().unwrap());
            assert_eq!(found.map(|(_, row)| row.from), from, "{at}");
        }
    }
}
