//! Prices that are the standard ones times a factor: what providers ask for keeping a request in one region.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Above, PER_TOKEN_MAX, PriceRow, Rates, TierRates};
use crate::money::Money;

/// The name under which prices have a service tier as it is served in a region: `batch-us`, and `us` for the standard tier.
pub fn tier_in_region(tier: Option<&str>, region: &str) -> String {
    match tier {
        None | Some("" | "standard" | "default" | "auto") => region.to_owned(),
        Some(tier) => format!("{tier}-{region}"),
    }
}

impl PriceRow {
    /// The rates of a service tier. One that is served in a region for which the row has no price costs there what it costs
    /// elsewhere.
    pub fn tier(&self, name: &str) -> Option<&TierRates> {
        self.tiers.get(name).or_else(|| {
            let (tier, _) = name.rsplit_once('-')?;
            self.tiers.get(tier)
        })
    }

    /// Adds what each tier costs in a region: its token prices times a factor, others as they are. `None`, and nothing
    /// added, where a price would not be exact, or above [`PER_TOKEN_MAX`].
    pub fn add_region(&mut self, region: &str, factor: Money) -> Option<()> {
        let mut regional: BTreeMap<Arc<str>, TierRates> = BTreeMap::new();
        regional.insert(region.into(), self.scaled(None, factor)?);
        for (tier, rates) in &self.tiers {
            let name = tier_in_region(Some(tier), region);
            regional.insert(name.into(), self.scaled(Some(rates), factor)?);
        }
        self.tiers.append(&mut regional);
        Some(())
    }

    /// Adds a service tier whose token prices are the standard ones times a factor. `None`, and nothing added, where a price
    /// would not be exact, or above [`PER_TOKEN_MAX`].
    pub fn add_tier(&mut self, tier: &str, factor: Money) -> Option<()> {
        let rates = self.scaled(None, factor)?;
        self.tiers.insert(tier.into(), rates);
        Some(())
    }

    /// A tier, or the standard one, with all that it takes from the standard one, its token prices times a factor.
    fn scaled(&self, tier: Option<&TierRates>, factor: Money) -> Option<TierRates> {
        let rates_at = |input_tokens: u64| {
            let standard = self.rates.at(input_tokens, &self.above);
            let rates = tier.map(|tier| tier.over(&standard, input_tokens));
            times(&rates.unwrap_or_else(|| standard.into_owned()), factor)
        };
        let of_tier = tier.map_or(&[][..], |tier| &tier.above);
        let thresholds: BTreeSet<u64> = self
            .above
            .iter()
            .chain(of_tier)
            .map(|above| above.input_tokens)
            .collect();
        let above = thresholds.into_iter().map(|input_tokens| {
            let rates = rates_at(input_tokens.saturating_add(1))?;
            Some(Above {
                input_tokens,
                rates,
            })
        });
        Some(TierRates {
            above: above.collect::<Option<_>>()?,
            rates: rates_at(0)?,
        })
    }
}

fn times(rates: &Rates, factor: Money) -> Option<Rates> {
    let mut scaled = rates.clone();
    for (class, price) in rates.classes() {
        if let Some(price) = price.filter(|_| class.is_per_million()) {
            *scaled.class_mut(class) = Some(exactly(price, factor)?);
        }
    }
    Some(scaled)
}

fn exactly(price: Money, factor: Money) -> Option<Money> {
    let one = Money::from_usd(1).picos();
    let product = price.picos().checked_mul(factor.picos())?;
    let exact = (product % one == 0).then(|| Money::from_picos(product / one))?;
    (exact <= PER_TOKEN_MAX).then_some(exact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Usage;

    fn money(text: &str) -> Money {
        Money::parse(text).unwrap()
    }

    fn row() -> PriceRow {
        let rates = |input: &str, output: &str| Rates {
            input: Money::parse_per_million(input).ok(),
            output: Money::parse_per_million(output).ok(),
            web_search: Some(money("0.01")),
            ..Rates::default()
        };
        let tier = TierRates {
            rates: rates("2.50", "12.50"),
            above: vec![Above {
                input_tokens: 1000,
                rates: rates("5", "18.75"),
            }],
        };
        PriceRow {
            from: jiff::civil::date(2026, 2, 5),
            rates: Rates {
                cache_read_input: Money::parse_per_million("0.5").ok(),
                ..rates("5", "25")
            },
            above: Vec::new(),
            tiers: BTreeMap::from([("batch".into(), tier)]),
            source: "a test".into(),
        }
    }

    fn cost(row: &PriceRow, input_tokens: u64, tier: &str) -> Money {
        let usage = Usage {
            input_tokens,
            output_tokens: 1_000,
            web_search_requests: 1,
            ..Usage::default()
        };
        row.cost(&usage, Some(tier)).unwrap().by_class.total()
    }

    #[test]
    fn a_region_has_its_factor_on_the_tokens_of_every_tier() {
        let mut row = row();
        row.add_region("us", money("1.1")).unwrap();
        // 1,000 at 5.50 and 1,000 at 27.50; the search costs what it costs anywhere.
        assert_eq!(cost(&row, 1_000, "us"), money("0.043"));
        assert_eq!(cost(&row, 1_000, "batch-us"), money("0.0265"));
        // Above the threshold: 2,000 at 5.50 and 1,000 at 20.625.
        assert_eq!(cost(&row, 2_000, "batch-us"), money("0.041625"));
        // What a tier does not name costs what the standard tier asks, in the region too.
        let read = row.tiers["batch-us"].rates.cache_read_input;
        assert_eq!(read, Money::parse_per_million("0.55").ok());
    }

    #[test]
    fn a_region_without_a_price_costs_what_the_tier_costs() {
        let row = row();
        assert_eq!(cost(&row, 1_000, "batch-us"), cost(&row, 1_000, "batch"));
        assert_eq!(cost(&row, 1_000, "us"), cost(&row, 1_000, "standard"));
    }

    #[test]
    fn a_factor_that_leaves_no_exact_price_adds_nothing() {
        let mut row = row();
        let before = row.clone();
        assert_eq!(row.add_region("us", money("1.0000001")), None);
        assert_eq!(row, before);
    }
}
