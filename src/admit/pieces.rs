//! What a request to an endpoint that may report its usage (sound, images) is billed at most.

use crate::dialect::Endpoint;
use crate::dialect::json::LongStrings;
use crate::meter::count::{Extent, LEAST_BYTES_A_SECOND, sound_seconds};
use crate::money::Money;
use crate::price::PriceRow;

/// What is billed by the piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Images made.
    images: u64,
    /// Seconds of sound heard.
    seconds: u64,
}

/// OpenAI takes so many images to be edited at once.
const UPLOADED_IMAGES_MAX: usize = 16;

impl Pieces {
    /// The most that a request can ask for, which makes so many images where it makes any.
    pub(super) fn most(endpoint: &Endpoint, body: &[u8], choices: u64) -> Pieces {
        Pieces {
            images: if makes_images(endpoint) { choices } else { 0 },
            seconds: if hears(endpoint) {
                sound_seconds(body, LEAST_BYTES_A_SECOND)
            } else {
                0
            },
        }
    }

    /// What they cost.
    pub(super) fn cost(self, row: &PriceRow) -> Money {
        let of = |price: Option<Money>, count| price.unwrap_or_default().saturating_mul(count);
        of(row.rates.image, self.images) + of(row.rates.second, self.seconds)
    }
}

/// What a body has that may be billed as tokens.
pub(super) fn extent(endpoint: &Endpoint, body: &[u8], long_strings: &LongStrings) -> Extent {
    let is_json = body.trim_ascii_start().starts_with(b"{");
    if is_json {
        return Extent::knowing(body, long_strings);
    }
    // A form with files.
    let files = memchr::memmem::find_iter(body, b"filename=").take(UPLOADED_IMAGES_MAX);
    Extent {
        // As tightly packed as it goes, whatever it is.
        audio_bytes: if hears(endpoint) {
            sound_seconds(body, LEAST_BYTES_A_SECOND) * LEAST_BYTES_A_SECOND
        } else {
            0
        },
        images: if makes_images(endpoint) {
            files.count() as u64
        } else {
            0
        },
        ..Extent::default()
    }
}

/// Whether there is output that is billed by the token.
pub(super) fn has_output(endpoint: &Endpoint) -> bool {
    makes_images(endpoint) || endpoint.as_str().starts_with("audio.")
}

fn makes_images(endpoint: &Endpoint) -> bool {
    endpoint.as_str().starts_with("images.")
}

fn hears(endpoint: &Endpoint) -> bool {
    matches!(
        endpoint.as_str(),
        "audio.transcriptions" | "audio.translations"
    )
}
