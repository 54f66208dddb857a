//! Adding up what a request holds.

use super::encoding::Tokenizer;
use super::json;
use super::media::{self, ImageTokens};
use super::{COUNTED_BYTES_MAX, Counted};
use crate::tokens::UsageSource;

/// The sum so far, and whether each part of it is known to be right.
#[derive(Debug)]
pub(super) struct Tally<'m> {
    tokenizer: Tokenizer,
    model: &'m str,
    text: u64,
    media: u64,
    exact: bool,
    bytes_left: usize,
}

impl<'m> Tally<'m> {
    pub(super) fn new(tokenizer: Tokenizer, model: &'m str) -> Tally<'m> {
        Tally {
            tokenizer,
            model,
            text: 0,
            media: 0,
            exact: tokenizer.known,
            bytes_left: COUNTED_BYTES_MAX,
        }
    }

    /// Text, tokenized as long as there is not too much of it.
    pub(super) fn text(&mut self, text: &str) {
        match self.bytes_left.checked_sub(text.len()) {
            Some(left) => {
                self.bytes_left = left;
                self.add(self.tokenizer.encoding.count(text));
            }
            None => {
                self.bytes_left = 0;
                self.add(text.len() as u64 * 2 / 7);
                self.guess();
            }
        }
    }

    /// The text of a value, where it is one.
    pub(super) fn text_of(&mut self, value: &str) {
        if let Some(text) = json::text(value) {
            self.text(&text);
        }
    }

    /// A value as the JSON that it is, tokenized.
    pub(super) fn json(&mut self, value: &str) {
        self.text(value);
    }

    /// Tokens that stand for no text.
    pub(super) fn add(&mut self, tokens: u64) {
        self.text = self.text.saturating_add(tokens);
    }

    /// Tokens that the framing saves.
    pub(super) fn subtract(&mut self, tokens: u64) {
        self.text = self.text.saturating_sub(tokens);
    }

    /// From here on the sum is an estimate.
    pub(super) fn guess(&mut self) {
        self.exact = false;
    }

    /// An image; `detail` as the request says it.
    pub(super) fn image(&mut self, detail: &str) {
        let tokens = ImageTokens::of_model(self.model);
        let tokens = if detail == "low" {
            tokens.low
        } else {
            tokens.typical
        };
        self.add_media(tokens);
    }

    /// Encoded sound.
    pub(super) fn audio(&mut self, base64_bytes: usize) {
        self.add_media(media::audio_tokens(base64_bytes as u64 / 4 * 3));
    }

    /// A document, encoded or only named.
    pub(super) fn document(&mut self, base64_bytes: usize) {
        self.add_media(media::document_tokens(1, base64_bytes as u64 / 4 * 3));
    }

    fn add_media(&mut self, tokens: u64) {
        self.media = self.media.saturating_add(tokens);
        self.guess();
    }

    /// The tokens without images, sound and documents.
    pub(super) fn text_tokens(&self) -> u64 {
        self.text
    }

    /// The sum.
    pub(super) fn counted(&self) -> Counted {
        Counted {
            tokens: self.text.saturating_add(self.media),
            source: if self.exact {
                UsageSource::Counted
            } else {
                UsageSource::Estimated
            },
        }
    }
}
