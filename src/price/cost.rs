//! Usage times the price that held: exact, class by class.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::billed::Billed;
use super::{Above, PriceRow, Rates, TierRates};
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
    /// By the request, the call of a tool, the image, the second.
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

    /// The amounts in the order of [`CostByClass::classes`].
    pub fn amounts(&self) -> [Money; 8] {
        self.classes().map(|(_, amount)| amount)
    }

    /// The costs whose [`CostByClass::amounts`] these are.
    pub fn from_amounts(amounts: [Money; 8]) -> CostByClass {
        let [
            input,
            cache_read_input,
            cache_write_input,
            media_input,
            output,
            reasoning_output,
            media_output,
            other,
        ] = amounts;
        CostByClass {
            input,
            cache_read_input,
            cache_write_input,
            media_input,
            output,
            reasoning_output,
            media_output,
            other,
        }
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
    /// Whether something was used for which the row has no price at all, so that the cost is too low: tokens of a row
    /// that prices neither them nor the request, searches of a row without `web_search`, images of one without `image`.
    pub incomplete: bool,
    /// Whether a code interpreter ran that the row has no price for. OpenAI bills its container, by time and size, which no
    /// answer tells.
    pub billed_beside: bool,
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
    /// `service_tier` is what the upstream says it served: the rates of the tier of that name over the standard ones, class
    /// by class (`default`, `standard` and any name that the row does not know have the standard price). A long-context
    /// tier applies to the whole request when `input_tokens` exceeds its threshold; where several do, the highest.
    ///
    /// # Errors
    /// [`CostError::Overflow`] when a product leaves 128 bits: impossible for usages below [`crate::tokens::ABSURD_TOKENS`].
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Result<Cost, CostError> {
        self.cost_of(usage, service_tier, 1)
    }

    /// Whether a request that tells nothing of what it used has a cost all the same: a fee by the request, or none at all
    /// for anything.
    pub fn costs_without_usage(&self) -> bool {
        let mut known = self
            .rates
            .classes()
            .into_iter()
            .filter_map(|(_, price)| price);
        self.rates.request.is_some() || known.all(|price| price == Money::ZERO)
    }

    /// The cost, with so many fees by the request.
    pub(super) fn cost_of(
        &self,
        usage: &Usage,
        service_tier: Option<&str>,
        requests: u64,
    ) -> Result<Cost, CostError> {
        self.cost_of_many(usage, service_tier, requests, usage.input_tokens)
    }

    /// The cost of many requests together, given the sum of their usage: exact where each of them lies on the same side
    /// of every long-context threshold as a request of `input_tokens_each`.
    ///
    /// # Errors
    /// As [`PriceRow::cost`].
    pub fn cost_of_many(
        &self,
        usage: &Usage,
        service_tier: Option<&str>,
        requests: u64,
        input_tokens_each: u64,
    ) -> Result<Cost, CostError> {
        let standard = self.rates.at(input_tokens_each, &self.above);
        let tier = service_tier.and_then(|tier| self.tier(tier));
        let rates = tier.map(|tier| tier.over(&standard, input_tokens_each));
        let rates = rates.as_ref().unwrap_or(&standard);
        let by_class = rates.cost(usage, requests)?;
        let uncached = Usage {
            cache_read_input_tokens: 0,
            cache_write_input_tokens: 0,
            cache_write_1h_input_tokens: 0,
            ..*usage
        };
        let undiscounted = if tier.is_none() && uncached == *usage {
            by_class.total()
        } else {
            standard.cost(&uncached, requests)?.total()
        };
        Ok(Cost {
            by_class,
            undiscounted,
            incomplete: rates.leaves_out(usage),
            billed_beside: usage.code_interpreter_requests > 0 && rates.code_interpreter.is_none(),
        })
    }
}

impl TierRates {
    /// The rates that hold for a request of that input length: the tier's over the standard ones for such a request.
    pub(super) fn over(&self, standard: &Rates, input_tokens: u64) -> Rates {
        let rates = self.rates.or(standard);
        rates.at(input_tokens, &self.above).into_owned()
    }
}

impl Rates {
    /// The rates that hold for a request of that input length: the long-context tier's over these.
    pub(super) fn at(&self, input_tokens: u64, above: &[Above]) -> Cow<'_, Rates> {
        above
            .iter()
            .filter(|tier| input_tokens > tier.input_tokens)
            .max_by_key(|tier| tier.input_tokens)
            .map_or(Cow::Borrowed(self), |tier| Cow::Owned(tier.rates.or(self)))
    }

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
            file_search: self.file_search.or(other.file_search),
            code_interpreter: self.code_interpreter.or(other.code_interpreter),
        }
    }

    /// Tokens times rates, class by class. A class without a rate costs what the class that contains it costs.
    fn cost(&self, usage: &Usage, requests: u64) -> Result<CostByClass, CostError> {
        let billed = Billed::of(usage);
        let (images, seconds) = self.pieces(usage);
        let cache_write = self.cache_write_input.or(self.input);
        let cache_write_1h = self.cache_write_1h_input.or(cache_write);
        Ok(CostByClass {
            input: sum([(self.input, billed.input)])?,
            cache_read_input: sum([(self.cache_read_input.or(self.input), billed.cache_read)])?,
            cache_write_input: sum([
                (cache_write, billed.cache_write),
                (cache_write_1h, billed.cache_write_1h),
            ])?,
            media_input: sum([
                (self.audio_input.or(self.input), billed.audio_input),
                (self.image_input.or(self.input), billed.image_input),
            ])?,
            output: sum([(self.output, billed.output)])?,
            reasoning_output: sum([(self.reasoning_output.or(self.output), billed.reasoning)])?,
            media_output: sum([
                (self.audio_output.or(self.output), billed.audio_output),
                (self.image_output.or(self.output), billed.image_output),
            ])?,
            other: sum([
                (self.request, requests),
                (self.web_search, usage.web_search_requests),
                (self.file_search, usage.file_search_requests),
                (self.code_interpreter, usage.code_interpreter_requests),
                (self.image, images),
                (self.second, seconds),
            ])?,
        })
    }

    /// The images and seconds that are billed apiece. A row that prices the output by the token names the other as a way to say
    /// the same: both together would bill it twice.
    fn pieces(&self, usage: &Usage) -> (u64, u64) {
        let output = self
            .output
            .or(self.image_output)
            .or(self.audio_output)
            .is_some();
        let by_the_token = |tokens: u64| output && tokens > 0;
        let unless = |by_the_token: bool, count: u64| if by_the_token { 0 } else { count };
        (
            unless(by_the_token(usage.output_tokens), usage.images),
            unless(by_the_token(usage.total_tokens()), usage.audio_seconds),
        )
    }

    /// Whether something was used that these rates know nothing of. A row with a price by the request asks nothing for
    /// tokens, nor one by the image or the second where these were counted, and one without `output` (embeddings) asks
    /// nothing for the answer.
    fn leaves_out(&self, usage: &Usage) -> bool {
        let (images, seconds) = self.pieces(usage);
        let counts = [
            (images, self.image.or(self.request)),
            (seconds, self.second.or(self.request)),
            (usage.web_search_requests, self.web_search),
            (usage.file_search_requests, self.file_search),
        ];
        let has = |price: Option<Money>, count: u64| price.is_some() && count > 0;
        let tokens_are_priced = self.input.or(self.output).or(self.request).is_some()
            || has(self.image, images)
            || has(self.second, seconds);
        (usage.total_tokens() > 0 && !tokens_are_priced)
            || counts
                .iter()
                .any(|(count, price)| *count > 0 && price.is_none())
    }
}

fn sum<const N: usize>(terms: [(Option<Money>, u64); N]) -> Result<Money, CostError> {
    terms
        .into_iter()
        // Most classes of most requests are empty.
        .filter(|(_, count)| *count > 0)
        .try_fold(Money::ZERO, |total, (rate, count)| {
            let product = rate.unwrap_or(Money::ZERO).checked_mul(count)?;
            total.checked_add(product)
        })
        .ok_or(CostError::Overflow)
}

#[cfg(test)]
mod tests;
