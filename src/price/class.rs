//! The classes that have prices, by their names in `prices.toml`.

use crate::money::{Money, MoneyError};

/// The largest price of a token: 100,000 dollars per million. A price per token that was taken for one per million would
/// make every figure a million times too large.
pub const PER_TOKEN_MAX: Money = Money::from_picos(100_000_000_000);

/// What is priced. See [`super::Rates`] for the meaning of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the fields of Rates have the same names and are described there"
)]
pub enum Class {
    Input,
    CacheReadInput,
    CacheWriteInput,
    CacheWrite1hInput,
    AudioInput,
    ImageInput,
    Output,
    ReasoningOutput,
    AudioOutput,
    ImageOutput,
    Request,
    Image,
    Second,
    WebSearch,
    FileSearch,
    CodeInterpreter,
}

impl Class {
    /// All classes, in the order in which `prices.toml` lists them.
    pub const ALL: [Class; 16] = [
        Class::Input,
        Class::CacheReadInput,
        Class::CacheWriteInput,
        Class::CacheWrite1hInput,
        Class::AudioInput,
        Class::ImageInput,
        Class::Output,
        Class::ReasoningOutput,
        Class::AudioOutput,
        Class::ImageOutput,
        Class::Request,
        Class::Image,
        Class::Second,
        Class::WebSearch,
        Class::FileSearch,
        Class::CodeInterpreter,
    ];

    /// The key in `prices.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Input => "input",
            Class::CacheReadInput => "cache_read_input",
            Class::CacheWriteInput => "cache_write_input",
            Class::CacheWrite1hInput => "cache_write_1h_input",
            Class::AudioInput => "audio_input",
            Class::ImageInput => "image_input",
            Class::Output => "output",
            Class::ReasoningOutput => "reasoning_output",
            Class::AudioOutput => "audio_output",
            Class::ImageOutput => "image_output",
            Class::Request => "request",
            Class::Image => "image",
            Class::Second => "second",
            Class::WebSearch => "web_search",
            Class::FileSearch => "file_search",
            Class::CodeInterpreter => "code_interpreter",
        }
    }

    /// Whether it is priced by the million (tokens); the others have a price apiece.
    pub fn is_per_million(self) -> bool {
        !matches!(
            self,
            Class::Request
                | Class::Image
                | Class::Second
                | Class::WebSearch
                | Class::FileSearch
                | Class::CodeInterpreter
        )
    }

    /// The price of one unit out of the text in `prices.toml`: dollars per million tokens, or dollars apiece.
    ///
    /// # Errors
    /// See [`MoneyError`].
    pub fn parse_price(self, text: &str) -> Result<Money, MoneyError> {
        if self.is_per_million() {
            Money::parse_per_million(text)
        } else {
            Money::parse(text)
        }
    }

    /// The text in `prices.toml` for the price of one unit: what [`Class::parse_price`] reads back.
    pub fn price_text(self, price: Money) -> String {
        if self.is_per_million() {
            price.saturating_mul(1_000_000).to_string()
        } else {
            price.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_survives_writing_and_reading() {
        for (class, text, written) in [
            (Class::Input, "2.5", "2.50"),
            (Class::CacheReadInput, "0.003625", "0.003625"),
            (Class::Second, "0.0001", "0.0001"),
        ] {
            let price = class.parse_price(text).unwrap();
            assert_eq!(class.price_text(price), written);
            assert_eq!(class.parse_price(written), Ok(price));
        }
    }
}
