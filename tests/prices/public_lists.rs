//! Every figure that a public list and the shipped table both have is the same, or the difference is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::explained::{EXPLAINED, GENAI, LITELLM, LITELLM_2025};
use super::*;
use serde_json::value::RawValue;

/// A figure of a list: what it is the price of, and on which day.
struct Figure {
    list: &'static str,
    /// The name in the list, for messages.
    name: String,
    /// The name to look up in ours.
    model: String,
    on: Date,
    class: Class,
    tier: Option<&'static str>,
    above: u64,
    price: Money,
}

#[test]
fn every_figure_is_that_of_the_public_lists_or_explained() {
    let Some(data) = data() else { return };
    let table = shipped();
    let mut figures = Vec::new();
    figures.extend(price_map(&data, LITELLM, day("2026-11-24")));
    figures.extend(price_map(&data, LITELLM_2025, day("2025-10-20")));
    figures.extend(genai_prices(&data));
    let mut checked = 0;
    let mut entries = BTreeSet::new();
    let mut unknown = Vec::new();
    let mut used = BTreeSet::new();
    for figure in figures {
        let Some(entry) = table.model(&figure.model) else {
            continue;
        };
        // A list of today also has models that ours dates to another day.
        let Some(rates) = rates(entry, figure.on, figure.tier, figure.above) else {
            continue;
        };
        // A write of 0 means that writes have no price of their own.
        if figure.class == Class::CacheWriteInput && figure.price == Money::ZERO {
            continue;
        }
        let ours = match effective(&rates, figure.class) {
            Some(ours) => ours,
            None if figure.price == Money::ZERO => continue,
            None => Money::ZERO,
        };
        checked += 1;
        entries.insert(entry.model.clone());
        if ours == figure.price {
            continue;
        }
        let class = figure.class_label();
        let (ours, theirs) = (
            figure.class.price_text(ours),
            figure.class.price_text(figure.price),
        );
        let found = (figure.list, &*entry.model, &*class, &*ours, &*theirs);
        let explained = EXPLAINED
            .iter()
            .position(|(list, model, class, ours, theirs, _)| {
                (*list, *model, *class, *ours, *theirs) == found
            });
        match explained {
            Some(index) => drop(used.insert(index)),
            None => unknown.push(format!(
                "{} {} ({}): {class}: ours {ours}, theirs {theirs}",
                figure.list, figure.name, entry.model
            )),
        }
    }
    println!("{checked} figures of {} entries compared", entries.len());
    unknown.sort();
    unknown.dedup();
    assert!(
        unknown.is_empty(),
        "{} differences without an explanation:\n{}",
        unknown.len(),
        unknown.join("\n")
    );
    for (index, (list, model, class, ..)) in EXPLAINED.iter().enumerate() {
        assert!(
            used.contains(&index),
            "{list} {model} {class}: is no difference any more"
        );
    }
    assert!(checked > 1000, "{checked}: were the lists read at all?");
}

impl Figure {
    fn class_label(&self) -> String {
        let mut label = self.class.name().to_owned();
        if let Some(tier) = self.tier {
            label = format!("{label} {tier}");
        }
        if self.above > 0 {
            label = format!("{label} above {}", self.above);
        }
        label
    }
}

/// The LiteLLM map: dollars per token as floats, read by their digits.
fn price_map(data: &Path, list: &'static str, on: Date) -> Vec<Figure> {
    let text = std::fs::read_to_string(data.join(list)).unwrap();
    let map: BTreeMap<String, BTreeMap<String, &RawValue>> = serde_json::from_str(&text).unwrap();
    let mut figures = Vec::new();
    for (name, fields) in &map {
        let text = |key: &str| {
            let raw = fields.get(key)?.get();
            serde_json::from_str::<String>(raw).ok()
        };
        let Some(model) = text("litellm_provider").and_then(|provider| own_name(name, &provider))
        else {
            continue;
        };
        let mut add = |class, tier, above, raw: &str| {
            if let Some(price) = exact(raw) {
                figures.push(Figure {
                    list,
                    name: name.clone(),
                    model: model.clone(),
                    on,
                    class,
                    tier,
                    above,
                    price,
                });
            }
        };
        for (key, raw) in fields {
            if key == "search_context_cost_per_query" {
                let sizes: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap();
                add(
                    Class::WebSearch,
                    None,
                    0,
                    sizes["search_context_size_medium"].get(),
                );
            } else if let Some((class, tier, above)) = place(key) {
                add(class, tier, above, raw.get());
            }
        }
    }
    figures
}

/// The name that a vendor gives its model, for the vendors whose own prices our table has. Resellers ask others.
fn own_name(name: &str, provider: &str) -> Option<String> {
    let prefix = match provider {
        "openai" | "text-completion-openai" | "anthropic" | "ai21" | "cohere_chat" => "",
        "cohere" | "gemini" | "xai" | "deepseek" | "mistral" | "groq" | "cerebras"
        | "perplexity" | "moonshot" | "dashscope" | "voyage" | "minimax" | "zai"
        | "together_ai" | "fireworks_ai" => provider,
        "amazon_nova" => "amazon-nova",
        _ => return None,
    };
    let own = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(name);
    let is_its_own = match provider {
        "cerebras" | "perplexity" => !own.contains('/'),
        "dashscope" => own.starts_with("qw"),
        "fireworks_ai" => own.starts_with("accounts/"),
        // Groq's entry has this name.
        "together_ai" => !own.starts_with("openai/"),
        _ => true,
    };
    is_its_own.then(|| own.to_owned())
}

fn place(key: &str) -> Option<(Class, Option<&'static str>, u64)> {
    let (mut key, mut tier) = (key, None);
    for (suffix, name) in [
        ("_batches", "batch"),
        ("_flex", "flex"),
        ("_priority", "priority"),
        ("_ultrafast", "ultrafast"),
    ] {
        if let Some(rest) = key.strip_suffix(suffix) {
            (key, tier) = (rest, Some(name));
        }
    }
    let mut above = 0;
    for thousands in [100, 128, 200, 256, 272, 512] {
        if let Some(rest) = key.strip_suffix(&format!("_above_{thousands}k_tokens")) {
            (key, above) = (rest, thousands * 1000);
        }
    }
    let class = match key {
        "input_cost_per_token" => Class::Input,
        "output_cost_per_token" => Class::Output,
        "cache_read_input_token_cost" => Class::CacheReadInput,
        "cache_creation_input_token_cost" => Class::CacheWriteInput,
        "cache_creation_input_token_cost_above_1hr" => Class::CacheWrite1hInput,
        "input_cost_per_audio_token" => Class::AudioInput,
        "output_cost_per_audio_token" => Class::AudioOutput,
        "input_cost_per_image_token" => Class::ImageInput,
        "output_cost_per_image_token" => Class::ImageOutput,
        "output_cost_per_reasoning_token" => Class::ReasoningOutput,
        "input_cost_per_query" | "input_cost_per_request" => Class::Request,
        _ => return None,
    };
    Some((class, tier, above))
}

/// pydantic's genai-prices: dollars per million, with dates and thresholds.
fn genai_prices(data: &Path) -> Vec<Figure> {
    const PROVIDERS: [&str; 13] = [
        "openai",
        "anthropic",
        "google",
        "deepseek",
        "mistral",
        "x-ai",
        "groq",
        "cohere",
        "perplexity",
        "moonshotai",
        "voyageai",
        "cerebras",
        "openrouter",
    ];
    let text = std::fs::read_to_string(data.join(GENAI)).unwrap();
    let providers: Vec<Provider> = serde_json::from_str(&text).unwrap();
    let mut figures = Vec::new();
    for provider in providers {
        if !PROVIDERS.contains(&provider.id.as_str()) {
            continue;
        }
        for model in &provider.models {
            let id = model.id.clone();
            // OpenRouter's own names have the vendor's prefix; the others belong to the vendors.
            if provider.id == "openrouter" && !id.contains('/') {
                continue;
            }
            for (on, prices) in model.rows() {
                for (key, raw) in &prices {
                    let Some((class, divisor)) = genai_class(key) else {
                        continue;
                    };
                    let mut add = |above, raw: &RawValue| {
                        let raw = raw.get().trim_matches('"');
                        let Some(price) = exact(&format!("{raw}e-{divisor}")) else {
                            return;
                        };
                        figures.push(Figure {
                            list: GENAI,
                            name: format!("{}/{id}", provider.id),
                            model: id.clone(),
                            on,
                            class,
                            tier: None,
                            above,
                            price,
                        });
                    };
                    match serde_json::from_str::<Tiered>(raw.get()) {
                        Ok(tiered) => {
                            add(0, tiered.base);
                            for tier in &tiered.tiers {
                                add(tier.start, tier.price);
                            }
                        }
                        Err(_) => add(0, raw),
                    }
                }
            }
        }
    }
    figures
}

#[derive(serde::Deserialize)]
struct Provider<'a> {
    id: String,
    #[serde(borrow)]
    models: Vec<Model<'a>>,
}

#[derive(serde::Deserialize)]
struct Model<'a> {
    id: String,
    #[serde(borrow)]
    prices: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Dated<'a> {
    constraint: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    prices: BTreeMap<String, &'a RawValue>,
}

#[derive(serde::Deserialize)]
struct Tiered<'a> {
    #[serde(borrow)]
    base: &'a RawValue,
    #[serde(borrow)]
    tiers: Vec<Step<'a>>,
}

#[derive(serde::Deserialize)]
struct Step<'a> {
    start: u64,
    #[serde(borrow)]
    price: &'a RawValue,
}

impl<'a> Model<'a> {
    /// Its prices, each with a day on which it held: the first day of a dated one, the eve of the next for the one
    /// before, and the day of the list for the last. Prices by the hour of the day are not told apart.
    fn rows(&self) -> Vec<(Date, BTreeMap<String, &'a RawValue>)> {
        let Ok(dated) = serde_json::from_str::<Vec<Dated<'a>>>(self.prices.get()) else {
            return vec![(
                day("2026-08-14"),
                serde_json::from_str(self.prices.get()).unwrap(),
            )];
        };
        let start = |row: &Dated<'_>| {
            let constraint = row.constraint.as_ref()?;
            constraint.get("start_date").map(|text| day(text))
        };
        let starts: Vec<Option<Date>> = dated.iter().map(start).collect();
        let mut rows = Vec::new();
        for (index, row) in dated.into_iter().enumerate() {
            let by_the_hour = row.constraint.is_some() && starts[index].is_none();
            let next = starts.get(index + 1).copied().flatten();
            let on = match (starts[index], next) {
                _ if by_the_hour => continue,
                (Some(start), _) => start,
                (None, Some(next)) => next.yesterday().unwrap(),
                (None, None) => day("2026-08-14"),
            };
            rows.push((on, row.prices));
        }
        rows
    }
}

/// The class of a key, and by how many powers of ten its figure is larger than the price of one.
fn genai_class(key: &str) -> Option<(Class, u32)> {
    Some(match key {
        "input_mtok" => (Class::Input, 6),
        "output_mtok" => (Class::Output, 6),
        "cache_read_mtok" => (Class::CacheReadInput, 6),
        "cache_write_mtok" => (Class::CacheWriteInput, 6),
        "cache_write_1h_mtok" => (Class::CacheWrite1hInput, 6),
        "input_audio_mtok" => (Class::AudioInput, 6),
        "output_audio_mtok" => (Class::AudioOutput, 6),
        "input_image_mtok" => (Class::ImageInput, 6),
        "output_image_mtok" => (Class::ImageOutput, 6),
        "output_reasoning_mtok" => (Class::ReasoningOutput, 6),
        "web_searches_kcount" => (Class::WebSearch, 3),
        "requests_kcount" => (Class::Request, 3),
        _ => return None,
    })
}

/// A decimal with at most one exponent beside an appended one, exactly, without a float. `None` for what is no whole
/// number of pico-dollars.
fn exact(text: &str) -> Option<Money> {
    let mut parts = text.split(['e', 'E']);
    let mantissa = parts.next()?;
    let exponent: i32 = parts.map(|part| part.parse::<i32>().unwrap()).sum();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = exponent - i32::try_from(fraction.len()).unwrap() + 12;
    let power = 10_i128.pow(scale.unsigned_abs());
    let picos = if scale >= 0 {
        digits * power
    } else {
        digits / power
    };
    let is_whole = scale >= 0 || digits % power == 0;
    is_whole.then(|| Money::from_picos(picos))
}
