//! The price of a whole answer, some of which were served by several models.

use jiff::Timestamp;

use super::{Cost, CostError, PriceTable, PricedBy};
use crate::tokens::Usage;

/// What one model served of an answer: usually all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The model, as the upstream names it.
    pub model: &'a str,
    /// The model that was asked for: where the served one has no price, this one's stands in for it.
    pub asked: Option<&'a str>,
    /// What it used.
    pub usage: Usage,
}

/// An answer's cost and the rows that it was priced by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priced {
    /// The cost of the parts that have a price.
    pub cost: Cost,
    /// The rows, each once, in the order of the parts. Empty when any part has no price: an answer whose cost is not
    /// known in full counts as unpriced, so that a later price can be booked for it.
    pub priced_by: Vec<PricedBy>,
    /// Whether any part has no price. Its cost is then missing, while that of the other parts still counts.
    pub unpriced: bool,
    /// Whether the price of what was asked for stands in for that of what was served.
    pub stood_in: bool,
}

/// Prices an answer part by part under the rows that held at a moment.
///
/// Each part is a model call of its own: it has the long-context tier of its own input. A price by the request is asked
/// once, by the first part.
///
/// # Errors
/// [`CostError::Overflow`], as [`super::PriceRow::cost`].
pub fn price_parts(
    table: &PriceTable,
    parts: &[Part<'_>],
    service_tier: Option<&str>,
    at: Timestamp,
) -> Result<Priced, CostError> {
    let mut priced = Priced::default();
    for (index, part) in parts.iter().enumerate() {
        let served = table.price(part.model, at);
        let found = served.or_else(|| table.price(part.asked?, at));
        let Some((entry, row)) = found else {
            priced.unpriced = true;
            continue;
        };
        priced.stood_in |= served.is_none();
        let requests = u64::from(index == 0);
        let cost = row.cost_of(&part.usage, service_tier, requests)?;
        priced.cost.by_class += cost.by_class;
        priced.cost.undiscounted += cost.undiscounted;
        priced.cost.incomplete |= cost.incomplete;
        priced.cost.billed_beside |= cost.billed_beside;
        let by = PricedBy {
            model: std::sync::Arc::clone(&entry.model),
            from: row.from,
        };
        if !priced.priced_by.contains(&by) {
            priced.priced_by.push(by);
        }
    }
    if priced.unpriced {
        priced.priced_by.clear();
    }
    Ok(priced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Money;
    use crate::price::{PriceRow, PricedModel, Rates};

    fn table() -> PriceTable {
        let model = |name: &str, input: &str, request: Option<&str>| PricedModel {
            model: name.into(),
            aliases: Vec::new(),
            tokenizer: None,
            max_output_tokens: None,
            rows: vec![PriceRow {
                from: jiff::civil::date(2026, 1, 1),
                rates: Rates {
                    input: Some(Money::parse_per_million(input).unwrap()),
                    request: request.map(|fee| Money::parse(fee).unwrap()),
                    ..Rates::default()
                },
                above: Vec::new(),
                tiers: Default::default(),
                source: "a test".into(),
            }],
        };
        PriceTable::new([
            model("large", "10", Some("0.005")),
            model("small", "1", Some("0.001")),
        ])
    }

    fn part(model: &str, input_tokens: u64) -> Part<'_> {
        let usage = Usage {
            input_tokens,
            ..Usage::default()
        };
        Part {
            model,
            asked: None,
            usage,
        }
    }

    fn priced(parts: &[Part<'_>]) -> Priced {
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        price_parts(&table(), parts, None, now).unwrap()
    }

    #[test]
    fn an_answer_of_several_models_is_priced_part_by_part_with_one_fee() {
        let priced = priced(&[part("large", 100), part("small", 1000), part("large", 1)]);
        // 100 x 10 + 1000 x 1 + 1 x 10 micro-dollars, and one fee of 0.005.
        let expected = Money::parse("0.00701").unwrap();
        assert_eq!(priced.cost.by_class.total(), expected);
        let models: Vec<&str> = priced.priced_by.iter().map(|by| &*by.model).collect();
        assert_eq!(models, ["large", "small"]);
        assert!(!priced.unpriced);
    }

    #[test]
    fn an_answer_with_a_part_that_has_no_price_is_unpriced_and_still_counts_the_rest() {
        let priced = priced(&[part("unheard-of", 5), part("small", 1000)]);
        assert!(priced.unpriced && priced.priced_by.is_empty());
        assert_eq!(priced.cost.by_class.total(), Money::parse("0.001").unwrap());
    }

    #[test]
    fn what_was_asked_for_stands_in_for_a_served_model_without_a_price() {
        let renamed = Part {
            asked: Some("small"),
            ..part("small-2027-01-15", 1000)
        };
        let priced = priced(&[renamed, part("large", 100)]);
        assert!(priced.stood_in && !priced.unpriced);
        let models: Vec<&str> = priced.priced_by.iter().map(|by| &*by.model).collect();
        assert_eq!(models, ["small", "large"]);
        // 1,000 x 1 + 100 x 10 micro-dollars, and the fee of the model that answered first.
        assert_eq!(priced.cost.by_class.total(), Money::parse("0.003").unwrap());
    }

    #[test]
    fn before_the_first_row_there_is_no_price() {
        let before = "2025-12-31T23:59:59Z".parse().unwrap();
        let priced = price_parts(&table(), &[part("small", 1000)], None, before).unwrap();
        assert!(priced.unpriced);
        assert_eq!(priced.cost, Cost::default());
    }
}
