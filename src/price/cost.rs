//! Usage times the price that held: exact, class by class.

use serde::{Deserialize, Serialize};

use super::{Above, PriceRow, Rates};
use crate::money::Money;
use crate::tokens::Usage;

/// What a request cost, by class. The classes are disjoint: their sum is the cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostByClass {
    /// Input at the full price.
    pub input: Money,
    /// Cache reads.
    pub cache_read_input: Money,
    /// Cache writes, all lifetimes.
    pub cache_write_input: Money,
    /// Audio and image input.
    pub media_input: Money,
    /// Output that the client sees as text.
    pub output: Money,
    /// Reasoning.
    pub reasoning_output: Money,
    /// Audio and image output.
    pub media_output: Money,
    /// By the request, the image, the second or the call.
    pub other: Money,
}

impl CostByClass {
    /// The sum of the classes.
    pub fn total(&self) -> Money {
        self.classes().iter().map(|(_, money)| *money).sum()
    }

    /// Every class with its name.
    pub fn classes(&self) -> [(&'static str, Money); 8] {
        [
            ("input", self.input),
            ("cache_read_input", self.cache_read_input),
            ("cache_write_input", self.cache_write_input),
            ("media_input", self.media_input),
            ("output", self.output),
            ("reasoning_output", self.reasoning_output),
            ("media_output", self.media_output),
            ("other", self.other),
        ]
    }
}

impl std::ops::AddAssign for CostByClass {
    fn add_assign(&mut self, other: CostByClass) {
        self.input += other.input;
        self.cache_read_input += other.cache_read_input;
        self.cache_write_input += other.cache_write_input;
        self.media_input += other.media_input;
        self.output += other.output;
        self.reasoning_output += other.reasoning_output;
        self.media_output += other.media_output;
        self.other += other.other;
    }
}

/// A request's exact cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// By class; the sum is the cost.
    pub by_class: CostByClass,
    /// What the same tokens would have cost at the standard tier without any cache: the saving is the difference.
    pub undiscounted: Money,
}

/// Why a usage cannot be priced exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// The product is beyond any real bill.
    #[error("the cost is out of range")]
    Overflow,
}

impl PriceRow {
    /// The exact cost of a usage under this row.
    ///
    /// `service_tier` is what the upstream says it served (`default`, `standard`, `auto` and unknown names have the
    /// standard price). A long-context tier applies to the whole request when `input_tokens` exceeds its threshold.
    ///
    /// # Errors
    /// [`CostError::Overflow`] when a product leaves 128 bits: impossible for usages below [`crate::tokens::ABSURD_TOKENS`].
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Result<Cost, CostError> {
        let standard = layer(None, &self.rates, &self.above, usage.input_tokens);
        let rates = match service_tier.and_then(|tier| self.tiers.get(tier)) {
            Some(tier) => layer(
                Some(&standard),
                &tier.rates,
                &tier.above,
                usage.input_tokens,
            ),
            None => standard.clone(),
        };
        let by_class = price(&rates, usage)?;
        let uncached = Usage {
            cache_read_input_tokens: 0,
            cache_write_input_tokens: 0,
            cache_write_1h_input_tokens: 0,
            ..*usage
        };
        let undiscounted = price(&standard, &uncached)?.total();
        Ok(Cost {
            by_class,
            undiscounted,
        })
    }
}

/// The rates that hold for a request of that input length: the tier's own over the ones below it.
fn layer(below: Option<&Rates>, rates: &Rates, above: &[Above], input_tokens: u64) -> Rates {
    let mut effective = match below {
        Some(below) => rates.or(below),
        None => rates.clone(),
    };
    if let Some(tier) = above
        .iter()
        .rev()
        .find(|tier| input_tokens > tier.input_tokens)
    {
        effective = tier.rates.or(&effective);
    }
    effective
}

impl Rates {
    /// These rates, and `other`'s where these say nothing.
    fn or(&self, other: &Rates) -> Rates {
        Rates {
            input: self.input.or(other.input),
            cache_read_input: self.cache_read_input.or(other.cache_read_input),
            cache_write_input: self.cache_write_input.or(other.cache_write_input),
            cache_write_1h_input: self.cache_write_1h_input.or(other.cache_write_1h_input),
            audio_input: self.audio_input.or(other.audio_input),
            image_input: self.image_input.or(other.image_input),
            output: self.output.or(other.output),
            reasoning_output: self.reasoning_output.or(other.reasoning_output),
            audio_output: self.audio_output.or(other.audio_output),
            image_output: self.image_output.or(other.image_output),
            request: self.request.or(other.request),
            image: self.image.or(other.image),
            second: self.second.or(other.second),
            web_search: self.web_search.or(other.web_search),
        }
    }
}

fn price(rates: &Rates, usage: &Usage) -> Result<CostByClass, CostError> {
    let times = |rate: Option<Money>, tokens: u64| {
        rate.unwrap_or(Money::ZERO)
            .checked_mul(tokens)
            .ok_or(CostError::Overflow)
    };
    let input = rates.input;
    let cache_write = rates.cache_write_input.or(input);
    let written_1h = usage
        .cache_write_1h_input_tokens
        .min(usage.cache_write_input_tokens);
    let written = usage.cache_write_input_tokens - written_1h;
    // A provider may report more cached than prompt tokens (WIRE.md, "Seen in recordings" 2): parts never push the rest below 0.
    let plain_input = [
        usage.cache_read_input_tokens,
        usage.cache_write_input_tokens,
        usage.audio_input_tokens,
        usage.image_input_tokens,
    ]
    .iter()
    .fold(usage.input_tokens, |rest, part| rest.saturating_sub(*part));
    let plain_output = [
        usage.reasoning_output_tokens,
        usage.audio_output_tokens,
        usage.image_output_tokens,
    ]
    .iter()
    .fold(usage.output_tokens, |rest, part| rest.saturating_sub(*part));
    let cache_write_input = times(cache_write, written)?
        .checked_add(times(
            rates.cache_write_1h_input.or(cache_write),
            written_1h,
        )?)
        .ok_or(CostError::Overflow)?;
    let media_input = times(rates.audio_input.or(input), usage.audio_input_tokens)?
        .checked_add(times(
            rates.image_input.or(input),
            usage.image_input_tokens,
        )?)
        .ok_or(CostError::Overflow)?;
    let media_output = times(
        rates.audio_output.or(rates.output),
        usage.audio_output_tokens,
    )?
    .checked_add(times(
        rates.image_output.or(rates.output),
        usage.image_output_tokens,
    )?)
    .ok_or(CostError::Overflow)?;
    let other = times(rates.request, 1)?
        .checked_add(times(rates.web_search, usage.web_search_requests)?)
        .ok_or(CostError::Overflow)?;
    Ok(CostByClass {
        input: times(input, plain_input)?,
        cache_read_input: times(
            rates.cache_read_input.or(input),
            usage.cache_read_input_tokens,
        )?,
        cache_write_input,
        media_input,
        output: times(rates.output, plain_output)?,
        reasoning_output: times(
            rates.reasoning_output.or(rates.output),
            usage.reasoning_output_tokens,
        )?,
        media_output,
        other,
    })
}
