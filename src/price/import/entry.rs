//! One model of the price map.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::value::RawValue;

use super::Warnings;
use super::check::{self, Kind};
use super::decimal::{NotAnAmount, amount};
use crate::ids::ModelName;
use crate::money::Money;
use crate::price::{Above, Class, PriceRow, PricedModel, Rates, TierRates};

/// A model with a price, as the map has it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The map's key.
    pub(super) name: String,
    pub(super) provider: String,
    max_output_tokens: Option<u64>,
    row: PriceRow,
}

/// The figures of one entry by where they hold: a service tier (none is the standard) and a threshold (0 is none).
pub(super) type Figures = BTreeMap<(Option<String>, u64), Rates>;

impl Entry {
    /// Reads and checks an entry. `None`, with a warning where it is worth one, when it has no price that can be used.
    pub(super) fn read(
        name: &str,
        raw: &RawValue,
        (from, today): (Date, Date),
        warnings: &mut Warnings,
    ) -> Option<Entry> {
        let fields: BTreeMap<String, &RawValue> = match serde_json::from_str(raw.get()) {
            Ok(fields) => fields,
            Err(_) => {
                warnings.add(name, "is no object, left out");
                return None;
            }
        };
        // What the configuration takes for an exact name.
        let stray = |letter: char| {
            letter.is_control() || letter.is_whitespace() || "*?[]{}()\\|^$,".contains(letter)
        };
        let is_a_name =
            (1..=ModelName::MAX_BYTES).contains(&name.len()) && !name.chars().any(stray);
        if !is_a_name {
            warnings.add(name, "is no exact model name, left out");
            return None;
        }
        let kind = Kind::of(text(&fields, "mode").as_deref());
        let mut figures = Figures::new();
        for (key, raw) in &fields {
            let is_read = read_figure(name, key, raw.get(), kind, &mut figures, warnings);
            // A row without one of these would bill it at nothing.
            if !is_read
                && matches!(
                    key.as_str(),
                    "input_cost_per_token" | "output_cost_per_token"
                )
            {
                warnings.add(name, "model left out");
                return None;
            }
        }
        if let Some(raw) = fields.get("tiered_pricing") {
            read_tiered_pricing(name, raw, &mut figures, warnings);
        }
        if fields.contains_key("off_peak_pricing") {
            warnings.add(name, "off-peak hours cost less: this is the peak price");
        }
        if !check::check(name, kind, &mut figures, warnings) {
            return None;
        }
        let listed = text(&fields, "source").unwrap_or_default();
        let mut row = row(figures, (from, today), &listed);
        if let Some(raw) = fields.get("provider_specific_entry") {
            add_factors(name, raw, &mut row, warnings);
        }
        Some(Entry {
            name: name.to_owned(),
            provider: text(&fields, "litellm_provider").unwrap_or_default(),
            max_output_tokens: fields
                .get("max_output_tokens")
                .and_then(|raw| whole_number(raw.get()))
                .filter(|max| (1..=MAX_OUTPUT_TOKENS).contains(max)),
            row,
        })
    }

    /// The name without the provider's prefix.
    pub(super) fn short_name(&self) -> &str {
        self.name
            .strip_prefix(self.provider.as_str())
            .filter(|_| !self.provider.is_empty())
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|rest| !rest.is_empty())
            .unwrap_or(&self.name)
    }

    /// Whether both cost the same.
    pub(super) fn has_the_prices_of(&self, other: &Entry) -> bool {
        let (a, b) = (&self.row, &other.row);
        a.rates == b.rates && a.above == b.above && a.tiers == b.tiers
    }

    pub(super) fn into_model(self, name: &str) -> PricedModel {
        PricedModel {
            model: name.into(),
            aliases: Vec::new(),
            tokenizer: None,
            max_output_tokens: self.max_output_tokens,
            rows: vec![self.row],
        }
    }
}

/// More than any model gives; the map has some context windows in the place of output limits.
const MAX_OUTPUT_TOKENS: u64 = 100_000_000;

/// The map's names of token prices. The longest that fits is meant.
const STEMS: [(&str, Class); 10] = [
    ("input_cost_per_token", Class::Input),
    ("cache_read_input_token_cost", Class::CacheReadInput),
    ("cache_creation_input_token_cost", Class::CacheWriteInput),
    (
        "cache_creation_input_token_cost_above_1hr",
        Class::CacheWrite1hInput,
    ),
    ("input_cost_per_audio_token", Class::AudioInput),
    ("input_cost_per_image_token", Class::ImageInput),
    ("output_cost_per_token", Class::Output),
    ("output_cost_per_reasoning_token", Class::ReasoningOutput),
    ("output_cost_per_audio_token", Class::AudioOutput),
    ("output_cost_per_image_token", Class::ImageOutput),
];

/// Where a key's figure belongs: its class, its service tier, its threshold.
fn place(key: &str, kind: Kind) -> Option<(Class, Option<String>, u64)> {
    let by_the_piece = match (key, kind) {
        ("input_cost_per_request" | "input_cost_per_query", _) => Some(Class::Request),
        ("input_cost_per_image" | "output_cost_per_image", Kind::Image) => Some(Class::Image),
        ("input_cost_per_second", Kind::Audio) => Some(Class::Second),
        _ => None,
    };
    if let Some(class) = by_the_piece {
        return Some((class, None, 0));
    }
    let (stem, class) = STEMS
        .iter()
        .filter(|(stem, _)| key.starts_with(stem))
        .max_by_key(|(stem, _)| stem.len())?;
    let mut rest = key.strip_prefix(stem)?;
    let mut threshold = 0;
    if let Some((thousands, after)) = rest
        .strip_prefix("_above_")
        .and_then(|rest| rest.split_once("k_tokens"))
    {
        let thousands: u64 = thousands.parse().ok()?;
        threshold = thousands.checked_mul(1000)?;
        if threshold > crate::tokens::ABSURD_TOKENS {
            return None;
        }
        rest = after;
    }
    let tier = match rest.strip_prefix('_') {
        None if rest.is_empty() => None,
        Some("batches") => Some("batch"),
        Some(tier @ ("flex" | "priority" | "ultrafast")) => Some(tier),
        _ => return None,
    };
    Some((*class, tier.map(str::to_owned), threshold))
}

/// Takes a figure where it has a place. `false` when it has one and cannot be taken.
fn read_figure(
    name: &str,
    key: &str,
    raw: &str,
    kind: Kind,
    figures: &mut Figures,
    warnings: &mut Warnings,
) -> bool {
    if key == "search_context_cost_per_query" {
        if let Some(price) = search_price(raw) {
            figures.entry((None, 0)).or_default().web_search = Some(price);
        }
        return true;
    }
    // Said once already by `cache_read_input_token_cost`.
    if !key.contains("cost") || key == "input_cost_per_token_cache_hit" || raw == "null" {
        return true;
    }
    let Some((class, tier, threshold)) = place(key, kind) else {
        warnings.add_unknown_key(key);
        return true;
    };
    let price = price(name, key, raw, warnings);
    if price.is_some() {
        let rates = figures.entry((tier, threshold)).or_default();
        *rates.class_mut(class) = price;
    }
    price.is_some()
}

fn price(name: &str, key: &str, raw: &str, warnings: &mut Warnings) -> Option<Money> {
    let why = match amount(raw) {
        Ok(amount) => {
            if amount.rounded {
                let price = Class::Input.price_text(amount.money);
                warnings.add(
                    name,
                    format!("{key} = {raw} is taken for {price} per million"),
                );
            }
            return Some(amount.money);
        }
        Err(NotAnAmount::NotANumber) => "is no amount",
        Err(NotAnAmount::TooFine) => "has more than twelve decimals",
        Err(NotAnAmount::OutOfRange) => "is larger than any price",
    };
    let raw: String = raw.chars().take(40).collect();
    warnings.add(name, format!("{key} = {raw} {why}, left out"));
    None
}

/// The price of a search: of its sizes, the medium one, which is what is used unless asked otherwise.
fn search_price(raw: &str) -> Option<Money> {
    let sizes: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
    let medium = sizes.get("search_context_size_medium")?;
    amount(medium.get()).ok().map(|amount| amount.money)
}

/// `tiered_pricing`: a list of ranges, each from a number of input tokens on.
fn read_tiered_pricing(name: &str, raw: &RawValue, figures: &mut Figures, warnings: &mut Warnings) {
    let Ok(tiers) = serde_json::from_str::<Vec<BTreeMap<String, &RawValue>>>(raw.get()) else {
        warnings.add(name, "tiered_pricing is no list of tiers, left out");
        return;
    };
    for tier in tiers.into_iter().take(20) {
        let from = tier
            .get("range")
            .and_then(|range| serde_json::from_str::<Vec<&RawValue>>(range.get()).ok())
            .and_then(|range| whole_number(range.first()?.get()))
            .filter(|from| *from <= crate::tokens::ABSURD_TOKENS);
        let Some(from) = from else {
            warnings.add(name, "tiered_pricing without ranges of tokens, left out");
            return;
        };
        for (key, raw) in &tier {
            if let Some((class, None, 0)) = place(key, Kind::Text)
                && let Some(price) = price(name, key, raw.get(), warnings)
            {
                let rates = figures.entry((None, from)).or_default();
                *rates.class_mut(class) = Some(price);
            }
        }
    }
}

/// `provider_specific_entry`: Anthropic's factors on token prices, for its fast mode and for the regions that a request can
/// be kept in.
fn add_factors(name: &str, raw: &RawValue, row: &mut PriceRow, warnings: &mut Warnings) {
    let Ok(factors) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        return;
    };
    // A tier comes first: regions have its price, too.
    for key in ["fast", "us"] {
        let Some(raw) = factors.get(key) else {
            continue;
        };
        let added = amount(raw.get()).ok().and_then(|factor| match key {
            "fast" => row.add_tier(key, factor.money),
            region => row.add_region(region, factor.money),
        });
        if added.is_none() {
            warnings.add(name, format!("its factor for {key} is none, left out"));
        }
    }
}

fn row(figures: Figures, (from, today): (Date, Date), listed: &str) -> PriceRow {
    let mut standard = TierRates::default();
    let mut tiers: BTreeMap<Arc<str>, TierRates> = BTreeMap::new();
    // Thresholds come in ascending order, as `above` wants them.
    for ((tier, input_tokens), rates) in figures {
        let target = match &tier {
            Some(tier) => tiers.entry(tier.as_str().into()).or_default(),
            None => &mut standard,
        };
        if input_tokens == 0 {
            target.rates = rates;
        } else {
            target.above.push(Above {
                input_tokens,
                rates,
            });
        }
    }
    let listed: String = listed
        .chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect();
    let source = match listed.as_str() {
        "" => format!("LiteLLM price map, imported {today}"),
        listed => format!("{listed}, out of the LiteLLM price map, imported {today}"),
    };
    PriceRow {
        from,
        rates: standard.rates,
        above: standard.above,
        tiers,
        source: source.into(),
    }
}

fn text(fields: &BTreeMap<String, &RawValue>, key: &str) -> Option<String> {
    serde_json::from_str(fields.get(key)?.get()).ok()
}

/// A count that the map may write as `32000`, `32000.0` or `"32000"`.
fn whole_number(raw: &str) -> Option<u64> {
    let picos = amount(raw.trim_matches('"')).ok()?.money.picos();
    let unit = Money::from_usd(1).picos();
    (picos % unit == 0).then(|| u64::try_from(picos / unit).ok())?
}
