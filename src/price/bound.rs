//! The most that a request can cost: what admission reserves.

use super::PriceRow;
use crate::money::Money;

/// Which classes of input a request may be billed by beside plain text, as far as its body tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputKinds {
    /// It asks for a cache entry that lasts an hour.
    pub cache_1h: bool,
    /// It holds sound.
    pub audio: bool,
    /// It holds images.
    pub images: bool,
}

impl PriceRow {
    /// No request with at most so many tokens costs more, whatever part of its input is written to a cache and whichever of
    /// the standard and the asked-for tier is served. Calls of the provider's own tools come on top: their number is not
    /// known beforehand.
    pub fn upper_bound(
        &self,
        input_tokens: u64,
        output_tokens: u64,
        kinds: InputKinds,
        tier: Option<&str>,
    ) -> Money {
        let tier = tier.and_then(|tier| self.tier(tier));
        let above = self
            .above
            .iter()
            .chain(tier.iter().flat_map(|tier| &tier.above));
        let above = above
            .filter(|above| input_tokens > above.input_tokens)
            .map(|above| &above.rates);
        let (mut input, mut output, mut request) = (Money::ZERO, Money::ZERO, Money::ZERO);
        for rates in std::iter::once(&self.rates)
            .chain(tier.map(|tier| &tier.rates))
            .chain(above)
        {
            let may_be_billed = |kind: bool, price: Option<Money>| price.filter(|_| kind);
            input = dearest(
                input,
                [
                    rates.input,
                    rates.cache_read_input,
                    rates.cache_write_input,
                    may_be_billed(kinds.cache_1h, rates.cache_write_1h_input),
                    may_be_billed(kinds.audio, rates.audio_input),
                    may_be_billed(kinds.images, rates.image_input),
                ],
            );
            output = dearest(
                output,
                [
                    rates.output,
                    rates.reasoning_output,
                    rates.audio_output,
                    rates.image_output,
                ],
            );
            request = dearest(request, [rates.request]);
        }
        input.saturating_mul(input_tokens) + output.saturating_mul(output_tokens) + request
    }
}

fn dearest<const N: usize>(known: Money, prices: [Option<Money>; N]) -> Money {
    prices.into_iter().flatten().fold(known, Money::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Rates;
    use crate::tokens::Usage;
    use proptest::prelude::*;

    fn row() -> PriceRow {
        let per_million = |text: &str| Money::parse_per_million(text).ok();
        PriceRow {
            from: jiff::civil::date(2025, 1, 1),
            rates: Rates {
                input: per_million("3"),
                cache_read_input: per_million("0.3"),
                cache_write_input: per_million("3.75"),
                cache_write_1h_input: per_million("6"),
                output: per_million("15"),
                ..Rates::default()
            },
            above: vec![super::super::Above {
                input_tokens: 1000,
                rates: Rates {
                    input: per_million("6"),
                    output: per_million("22.5"),
                    ..Rates::default()
                },
            }],
            tiers: Default::default(),
            source: "a test".into(),
        }
    }

    proptest! {
        #[test]
        fn no_usage_within_the_bound_costs_more(input in 0_u64..3000, output in 0_u64..3000, read in 0_u64..3000, write in 0_u64..3000) {
            let read = read.min(input);
            let write = write.min(input - read);
            let usage = Usage { input_tokens: input, output_tokens: output, cache_read_input_tokens: read, cache_write_input_tokens: write, ..Usage::default() };
            let cost = row().cost(&usage, None).unwrap().by_class.total();
            prop_assert!(cost <= row().upper_bound(input, output, InputKinds::default(), None));
        }
    }
}
