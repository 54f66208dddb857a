//! Priced models as the text of a `prices.toml`.

use std::fmt::Write as _;

use super::{Above, PriceRow, PricedModel, Rates};

/// The text of one model's entry, with all its rows.
pub fn write_model(model: &PricedModel) -> String {
    let mut text = format!("[[models]]\nmodel = {}\n", quoted(&model.model));
    if !model.aliases.is_empty() {
        let aliases: Vec<String> = model.aliases.iter().map(|alias| quoted(alias)).collect();
        let _ = writeln!(text, "aliases = [{}]", aliases.join(", "));
    }
    if let Some(tokenizer) = &model.tokenizer {
        let _ = writeln!(text, "tokenizer = {}", quoted(tokenizer));
    }
    if let Some(max) = model.max_output_tokens {
        let _ = writeln!(text, "max_output_tokens = {max}");
    }
    for row in &model.rows {
        text.push_str(&write_row(row));
    }
    text
}

fn write_row(row: &PriceRow) -> String {
    let mut text = format!("[[models.prices]]\nfrom = {}\n", row.from);
    for (key, price) in written(&row.rates) {
        let _ = writeln!(text, "{key} = \"{price}\"");
    }
    if !row.above.is_empty() {
        let _ = writeln!(text, "above = {}", inline_above(&row.above));
    }
    for (tier, rates) in &row.tiers {
        let mut fields = inline(&rates.rates);
        if !rates.above.is_empty() {
            fields.push(format!("above = {}", inline_above(&rates.above)));
        }
        let _ = writeln!(text, "tiers.{} = {{ {} }}", key(tier), fields.join(", "));
    }
    let _ = writeln!(text, "source = {}", quoted(&row.source));
    text
}

fn inline_above(above: &[Above]) -> String {
    let tiers: Vec<String> = above
        .iter()
        .map(|tier| {
            let mut fields = vec![format!("input_tokens = {}", tier.input_tokens)];
            fields.extend(inline(&tier.rates));
            format!("{{ {} }}", fields.join(", "))
        })
        .collect();
    format!("[{}]", tiers.join(", "))
}

fn inline(rates: &Rates) -> Vec<String> {
    written(rates)
        .map(|(key, price)| format!("{key} = \"{price}\""))
        .collect()
}

/// The classes that have a price, with its text.
fn written(rates: &Rates) -> impl Iterator<Item = (&'static str, String)> {
    rates
        .classes()
        .into_iter()
        .filter_map(|(class, price)| Some((class.name(), class.price_text(price?))))
}

fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
