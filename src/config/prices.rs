//! `[prices]` and the price files: TOML to [`crate::price`]'s rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::environment::Environment;
use super::errors::ConfigErrors;
use super::names::quoted;
use super::reader::{Document, Table};
use super::value::Value;
use crate::money::Money;
use crate::price::{Above, PER_TOKEN_MAX, PriceRow, PriceTable, PricedModel, Rates, TierRates};

/// What a model without a price gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// It is served, and recorded as unpriced.
    Allow,
    /// It is refused with `unpriced_model`.
    Reject,
}

/// The price table that Weir comes with (`config/prices.toml`).
pub const SHIPPED: &str = include_str!("../../config/prices.toml");

/// Reads price files, as text with their names; a model named twice, in one file or in two, is a mistake.
///
/// # Errors
/// Every mistake of every file.
pub fn table(
    files: &[(&str, &str)],
    environment: &dyn Environment,
) -> Result<PriceTable, ConfigErrors> {
    let mut seen = HashMap::new();
    let mut models = Vec::new();
    let mut errors: Option<ConfigErrors> = None;
    for (name, text) in files {
        match read_file(name, text, environment, &mut seen) {
            Ok(read) => models.extend(read),
            Err(found) => match &mut errors {
                Some(errors) => errors.extend(found),
                None => errors = Some(found),
            },
        }
    }
    match errors {
        None => Ok(PriceTable::new(models)),
        Some(errors) => Err(errors),
    }
}

/// `files`: price files, none of them twice, with their contents.
pub(super) fn files(value: &Value<'_>) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for item in value.items("an array of price files").unwrap_or_default() {
        let Some((path, bytes)) = item.file() else {
            continue;
        };
        let name = path.to_string_lossy().into_owned();
        if files.iter().any(|(other, _)| *other == name) {
            item.refuse("is listed twice, expected each file once");
            continue;
        }
        files.push((name, bytes));
    }
    files
}

/// Reads one price file. `seen` holds where each model was named before.
fn read_file(
    name: &str,
    text: &str,
    environment: &dyn Environment,
    seen: &mut HashMap<String, String>,
) -> Result<Vec<PricedModel>, ConfigErrors> {
    let (document, tree) = Document::parse(name, text, environment);
    let models = {
        let root = Table::root(&document, &tree);
        let tables = root.tables("models");
        tables
            .iter()
            .filter_map(|table| model(table, name, seen))
            .collect()
    };
    document.finish().map(|_| models)
}

fn model(table: &Table<'_>, file: &str, seen: &mut HashMap<String, String>) -> Option<PricedModel> {
    let mut declare = |value: &Value<'_>, name: &str| {
        let place = format!("{file}:{}", value.line());
        if let Some(first) = seen.get(name) {
            value.refuse(format!(
                "{} has prices already ({first}), expected each model once",
                quoted(name)
            ));
            return false;
        }
        seen.insert(name.to_owned(), place);
        true
    };
    let model = table
        .need("model", "a model's name or a glob such as \"gpt-4o-*\"")
        .and_then(|value| {
            let text = value.pattern_text()?;
            declare(&value, text).then(|| Arc::from(text))
        });
    let aliases = table.list("aliases", "an array of models' names", |value| {
        let name = value.model_name()?;
        declare(value, name.as_str()).then(|| Arc::from(name.as_str()))
    });
    let tokenizer = table.optional("tokenizer", |value| value.word(&TOKENIZERS).map(Arc::from));
    let max_output_tokens =
        table.optional("max_output_tokens", |value| value.count(1..=100_000_000));
    let mut rows: Vec<PriceRow> = Vec::new();
    for table in table.tables("prices") {
        let Some(row) = row(&table) else {
            continue;
        };
        if rows.iter().any(|other| other.from == row.from) {
            table.refuse(format!(
                "begins on {} like another price of this model, expected a day of its own",
                row.from
            ));
            continue;
        }
        rows.push(row);
    }
    if table.get("prices").is_none() {
        table.refuse_absent(
            "prices",
            "is missing, expected at least one [[models.prices]]",
        );
    }
    rows.sort_by_key(|row| row.from);
    Some(PricedModel {
        model: model?,
        aliases,
        tokenizer,
        max_output_tokens,
        rows,
    })
}

fn row(table: &Table<'_>) -> Option<PriceRow> {
    let from = table
        .need("from", "the day from which the price holds")
        .and_then(|value| value.date());
    let rates = rates(table);
    let above = above(table);
    let tiers = table.optional("tiers", tiers).unwrap_or_default();
    let regions = table.optional("regions", regions).unwrap_or_default();
    let source = table.optional("source", |value| {
        let text = value.text("where the figures come from")?;
        match text.trim() {
            "" => value.wrong(text, "where the figures come from"),
            text => Some(Arc::from(text)),
        }
    });
    let given = CLASSES.iter().any(|class| table.get(class).is_some());
    if !given {
        table.refuse_absent(
            "input",
            "is missing, and so is every other class: expected at least one price",
        );
    }
    let mut row = PriceRow {
        from: from?,
        rates,
        above,
        tiers,
        source: source.unwrap_or_else(|| "not given".into()),
    };
    for (region, factor, value) in regions {
        if row.add_region(&region, factor).is_none() {
            value.refuse(
                "leaves a price that is not exact or too large, expected a factor such as \"1.1\"",
            );
        }
    }
    Some(row)
}

/// Token classes are priced per million, all others each.
fn rates(table: &Table<'_>) -> Rates {
    let token = |key| {
        table.optional(key, |value| {
            value
                .money_per_million()
                .and_then(|price| plausible(value, price))
        })
    };
    let each = |key| table.optional(key, Value::money);
    Rates {
        input: token("input"),
        cache_read_input: token("cache_read_input"),
        cache_write_input: token("cache_write_input"),
        cache_write_1h_input: token("cache_write_1h_input"),
        audio_input: token("audio_input"),
        image_input: token("image_input"),
        output: token("output"),
        reasoning_output: token("reasoning_output"),
        audio_output: token("audio_output"),
        image_output: token("image_output"),
        request: each("request"),
        image: each("image"),
        second: each("second"),
        web_search: each("web_search"),
        file_search: each("file_search"),
        code_interpreter: each("code_interpreter"),
    }
}

/// See [`PER_TOKEN_MAX`].
fn plausible(value: &Value<'_>, price: Money) -> Option<Money> {
    if price > PER_TOKEN_MAX {
        value.refuse("is above 100000.00, expected US dollars per 1,000,000 tokens");
        return None;
    }
    Some(price)
}

/// Long-context tiers, in ascending order as they are written: a reader must not have to sort them in the head.
fn above(table: &Table<'_>) -> Vec<Above> {
    let mut tiers: Vec<Above> = Vec::new();
    for table in table.tables("above") {
        let threshold = table.need("input_tokens", "a number of tokens");
        let rates = rates(&table);
        let Some((value, input_tokens)) =
            threshold.and_then(|value| Some((value.clone(), value.count(1..=1_000_000_000)?)))
        else {
            continue;
        };
        match tiers.last() {
            Some(last) if last.input_tokens >= input_tokens => value.refuse(format!(
                "is {input_tokens}, expected more than {}: thresholds ascend",
                last.input_tokens
            )),
            _ => tiers.push(Above {
                input_tokens,
                rates,
            }),
        }
    }
    tiers
}

fn tiers(value: &Value<'_>) -> Option<BTreeMap<Arc<str>, TierRates>> {
    let table = value.table("a table of service tiers")?;
    let mut tiers = BTreeMap::new();
    for (key, name, value) in table.entries() {
        if !is_plain(name, b"_-") {
            key.refuse(
                "is not a service tier's name, expected lower-case letters, digits, _ and -",
            );
            continue;
        }
        if let Some(table) = value.table("a table of prices") {
            let rates = rates(&table);
            let above = above(&table);
            tiers.insert(Arc::from(name), TierRates { rates, above });
        }
    }
    Some(tiers)
}

/// What the token prices are multiplied by where a request is kept in a region.
fn regions<'a>(value: &Value<'a>) -> Option<Vec<(Arc<str>, Money, Value<'a>)>> {
    let table = value.table("a table of regions")?;
    let mut regions = Vec::new();
    for (key, name, value) in table.entries() {
        if !is_plain(name, b"_") {
            key.refuse("is not a region's name, expected lower-case letters, digits and _");
            continue;
        }
        match value.money() {
            Some(factor) if factor < Money::ZERO || factor > Money::from_usd(100) => {
                value.refuse("is no factor on prices, expected \"0\" to \"100\"");
            }
            Some(factor) => regions.push((Arc::from(name), factor, value)),
            None => {}
        }
    }
    Some(regions)
}

/// Whether a name has lower-case letters, digits and these, and is not overlong.
fn is_plain(name: &str, also: &[u8]) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || also.contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// The keys that [`rates`] reads.
const CLASSES: [&str; 16] = [
    "input",
    "cache_read_input",
    "cache_write_input",
    "cache_write_1h_input",
    "audio_input",
    "image_input",
    "output",
    "reasoning_output",
    "audio_output",
    "image_output",
    "request",
    "image",
    "second",
    "web_search",
    "file_search",
    "code_interpreter",
];

/// tiktoken's encodings.
const TOKENIZERS: [(&str, &str); 7] = [
    ("o200k_base", "o200k_base"),
    ("o200k_harmony", "o200k_harmony"),
    ("cl100k_base", "cl100k_base"),
    ("p50k_base", "p50k_base"),
    ("p50k_edit", "p50k_edit"),
    ("r50k_base", "r50k_base"),
    ("gpt2", "gpt2"),
];
