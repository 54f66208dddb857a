//! Is a figure of the price map plausible? Each rule stands for errors that real maps had.

use super::Warnings;
use super::entry::Figures;
use crate::money::Money;
use crate::price::{Class, PER_TOKEN_MAX, Rates};

/// What a model makes, as far as its prices differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text for text.
    Text,
    /// Vectors, scores, verdicts: the answer costs nothing.
    NoOutput,
    /// Images.
    Image,
    /// Text out of sound.
    Audio,
}

impl Kind {
    /// By the map's `mode`.
    pub(super) fn of(mode: Option<&str>) -> Kind {
        match mode {
            Some("embedding" | "rerank" | "moderation" | "evaluation") => Kind::NoOutput,
            Some("image_generation" | "image_edit") => Kind::Image,
            Some("audio_transcription") => Kind::Audio,
            _ => Kind::Text,
        }
    }
}

/// Takes out of an entry's figures what cannot be right, with a warning each. `false` when nothing is left to bill with.
pub(super) fn check(
    name: &str,
    kind: Kind,
    figures: &mut Figures,
    warnings: &mut Warnings,
) -> bool {
    let standard = figures.get(&(None, 0)).cloned().unwrap_or_default();
    if !has_a_price(&standard) {
        return false;
    }
    if let Some(reason) = what_is_absurd(kind, &standard) {
        warnings.add(name, format!("{reason}: model left out"));
        return false;
    }
    for ((tier, threshold), rates) in figures.iter_mut() {
        drop_zeros(rates);
        let label = label(tier.as_deref(), *threshold);
        drop_absurd(name, &label, rates, warnings);
        check_cache(name, &label, rates, warnings);
    }
    check_tiers(name, figures, warnings);
    figures.retain(|_, rates| *rates != Rates::default());
    let is_left = figures.get(&(None, 0)).is_some_and(has_a_price);
    if !is_left {
        warnings.add(name, "no price is left: model left out");
    }
    is_left
}

/// What makes the whole model useless.
fn what_is_absurd(kind: Kind, standard: &Rates) -> Option<String> {
    let ceiling = Money::from_usd(if kind == Kind::NoOutput { 10 } else { 2000 });
    for (class, price) in [
        (Class::Input, standard.input),
        (Class::Output, standard.output),
    ] {
        if price.is_some_and(|price| price.saturating_mul(1_000_000) > ceiling) {
            let class_name = class.name();
            return Some(format!(
                "{class_name} costs more than {ceiling} dollars per million"
            ));
        }
    }
    let (input, output) = (standard.input?, standard.output?);
    let may_be_swapped = kind == Kind::Text && Money::ZERO < output && output < input;
    may_be_swapped.then(|| "the output is cheaper than the input, which may be swapped".to_owned())
}

/// Service tiers and thresholds against what they depart from: batch and flex never cost more, the others never less,
/// and nothing differs more than tenfold. Thresholds ascend, so that each is compared with the one below it.
fn check_tiers(name: &str, figures: &mut Figures, warnings: &mut Warnings) {
    let plain: Vec<(u64, Rates)> = figures
        .iter()
        .filter(|((tier, _), _)| tier.is_none())
        .map(|((_, threshold), rates)| (*threshold, rates.clone()))
        .collect();
    for ((tier, threshold), rates) in figures.iter_mut() {
        let label = label(tier.as_deref(), *threshold);
        let below: Vec<&Rates> = plain
            .iter()
            .rev()
            .filter(|(of, _)| of < threshold || (of == threshold && tier.is_some()))
            .map(|(_, rates)| rates)
            .collect();
        let (least_tenths, most_tenths) = match tier.as_deref() {
            Some("batch" | "flex") => (1, 10),
            _ => (10, 100),
        };
        for (class, price) in rates.classes() {
            let asked = below.iter().find_map(|rates| rates.class(class));
            let (Some(price), Some(asked)) = (price, asked) else {
                continue;
            };
            let tenths = price.saturating_mul(10);
            if tenths < asked.saturating_mul(least_tenths)
                || tenths > asked.saturating_mul(most_tenths)
            {
                let (text, beside) = (class.price_text(price), class.price_text(asked));
                let class_name = class.name();
                warnings.add(
                    name,
                    format!("{class_name} {label}is {text} beside {beside}: left out"),
                );
                *rates.class_mut(class) = None;
            }
        }
    }
}

fn has_a_price(rates: &Rates) -> bool {
    rates.classes().iter().any(|(class, price)| {
        *class != Class::WebSearch && price.is_some_and(|price| price > Money::ZERO)
    })
}

/// A price of 0 means that there is none: embeddings have no output, DeepSeek has no fee for cache writes.
fn drop_zeros(rates: &mut Rates) {
    for class in Class::ALL {
        let price = rates.class_mut(class);
        if *price == Some(Money::ZERO) {
            *price = None;
        }
    }
}

/// Takes out what no configuration takes: a price per million that was written as one per token, as a rule.
fn drop_absurd(name: &str, label: &str, rates: &mut Rates, warnings: &mut Warnings) {
    for (class, price) in rates.classes() {
        if price.is_some_and(|price| class.is_per_million() && price > PER_TOKEN_MAX) {
            let class_name = class.name();
            warnings.add(
                name,
                format!("{class_name} {label}is larger than any price: left out"),
            );
            *rates.class_mut(class) = None;
        }
    }
}

/// Cache reads never cost more than the input, writes between once and twice the input, hour-long ones up to three
/// times. One map had the hour-long price of Claude Sonnet at Haiku and Opus (24 and 0.4 times), another the price of a
/// read in the place of a write.
fn check_cache(name: &str, label: &str, rates: &mut Rates, warnings: &mut Warnings) {
    let Some(input) = rates.input else {
        return;
    };
    for (class, least, most) in [
        (Class::CacheReadInput, 0, 1),
        (Class::CacheWriteInput, 1, 2),
        (Class::CacheWrite1hInput, 1, 3),
    ] {
        let price = rates.class_mut(class);
        let Some(asked) = *price else {
            continue;
        };
        if asked < input.saturating_mul(least) || asked > input.saturating_mul(most) {
            let (class_name, text) = (class.name(), class.price_text(asked));
            let beside = Class::Input.price_text(input);
            warnings.add(
                name,
                format!("{class_name} {label}is {text} beside an input of {beside}: left out"),
            );
            *price = None;
        }
    }
}

fn label(tier: Option<&str>, threshold: u64) -> String {
    let mut label = String::new();
    if let Some(tier) = tier {
        label.push_str(&format!("of the tier {tier} "));
    }
    if threshold > 0 {
        label.push_str(&format!("above {threshold} tokens "));
    }
    label
}
