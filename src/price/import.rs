//! The LiteLLM price map (`model_prices_and_context_window.json`) as a price table of ours.
//!
//! The map is a JSON object of models, each with dollars per token as floats and some hundred kinds of keys. It has
//! errors of its own, so each figure is checked before it is taken: what fails is left out with a
//! warning that says why, and what has no class here is counted.

mod check;
mod decimal;
mod entry;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::civil::Date;
use serde_json::value::RawValue;

use super::PricedModel;
use super::toml_text::write_model;
use entry::Entry;

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `prices.toml`.
    pub toml: String,
    /// How many models it has.
    pub models: usize,
    /// What was left out or changed, and why, one line each: at most [`MAX_WARNINGS`], the last of which counts the rest.
    pub warnings: Vec<String>,
}

/// How many warnings are kept.
pub const MAX_WARNINGS: usize = 2000;

/// Reads a price map on the day `today`, and writes the table that says the same, valid from the day `from`.
///
/// `providers` are the map's `litellm_provider` names to take; none means all. A model of the map is often named
/// `provider/model`, while the provider itself answers with `model`: that is the name it gets here. Where several
/// providers have a model of one name, the one that the map lists under that very name has it; where the map lists none
/// and their prices differ, all keep their full names, and a warning says so. Narrow the providers to settle it.
///
/// Text that is no price map gives an empty table and a warning.
pub fn import(text: &str, from: Date, today: Date, providers: &[String]) -> Imported {
    let mut warnings = Warnings::default();
    let map: BTreeMap<String, &RawValue> = match serde_json::from_str(text) {
        Ok(map) => map,
        Err(error) => {
            warnings.add("", format!("not a price map: {error}"));
            BTreeMap::new()
        }
    };
    let mut entries = Vec::new();
    for (name, raw) in &map {
        // The map's first entry documents its keys.
        if name == "sample_spec" {
            continue;
        }
        let Some(entry) = Entry::read(name, raw, (from, today), &mut warnings) else {
            continue;
        };
        if providers.is_empty() || providers.contains(&entry.provider) {
            entries.push(entry);
        }
    }
    let models = name_models(entries, &mut warnings);
    let mut toml = format!(
        "# Prices out of the LiteLLM price map, imported on {today}; they hold from {from}.\n\
         # US dollars per 1,000,000 tokens; requests, images, seconds and searches: dollars each.\n"
    );
    for model in &models {
        let _ = write!(toml, "\n{}", write_model(model));
    }
    Imported {
        toml,
        models: models.len(),
        warnings: warnings.finish(),
    }
}

/// Gives each entry the name that its provider answers with, where that is clear.
fn name_models(entries: Vec<Entry>, warnings: &mut Warnings) -> Vec<PricedModel> {
    let mut by_short_name: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_short_name
            .entry(entry.short_name().to_owned())
            .or_default()
            .push(entry);
    }
    let mut models: BTreeMap<String, PricedModel> = BTreeMap::new();
    for (short_name, claimants) in by_short_name {
        let owner = claimants.iter().position(|entry| entry.name == short_name);
        let agree = claimants
            .iter()
            .zip(claimants.iter().skip(1))
            .all(|(a, b)| a.has_the_prices_of(b));
        if owner.is_none() && !agree {
            let names: Vec<&str> = claimants.iter().map(|entry| entry.name.as_str()).collect();
            let others = names.join(", ");
            warnings.add(
                &short_name,
                format!("providers ask different prices, all keep their full names: {others}"),
            );
        }
        let keeps_short_name = owner.or_else(|| agree.then_some(0));
        for (index, entry) in claimants.into_iter().enumerate() {
            let name = match keeps_short_name {
                Some(keeper) if keeper == index => short_name.clone(),
                // The keeper says it all.
                Some(_) if agree => continue,
                _ => entry.name.clone(),
            };
            models.insert(name.clone(), entry.into_model(&name));
        }
    }
    models.into_values().collect()
}

/// The warnings of an import: bounded, and what happens to many models alike is told once.
#[derive(Debug, Default)]
struct Warnings {
    lines: Vec<String>,
    omitted: usize,
    /// Keys without a class here, and how many models have them.
    unknown_keys: BTreeMap<String, usize>,
}

impl Warnings {
    fn add(&mut self, model: &str, message: impl std::fmt::Display) {
        if self.lines.len() + 1 < MAX_WARNINGS {
            let model = shortened(model);
            let colon = if model.is_empty() { "" } else { ": " };
            self.lines.push(format!("{model}{colon}{message}"));
        } else {
            self.omitted += 1;
        }
    }

    fn add_unknown_key(&mut self, key: &str) {
        // A map of the world has some hundred; a hostile one is not remembered in full.
        if let Some(count) = self.unknown_keys.get_mut(key) {
            *count += 1;
        } else if self.unknown_keys.len() < 500 {
            self.unknown_keys.insert(shortened(key), 1);
        }
    }

    fn finish(mut self) -> Vec<String> {
        for (key, count) in std::mem::take(&mut self.unknown_keys) {
            self.add(
                "",
                format!("{key}: has no class here, left out of {count} models"),
            );
        }
        if self.omitted > 0 {
            let omitted = self.omitted;
            self.lines.push(format!("and {omitted} more warnings"));
        }
        self.lines
    }
}

/// A name from the file, fit for a line of text.
fn shortened(name: &str) -> String {
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(160)
        .collect()
}

#[cfg(test)]
mod tests;
