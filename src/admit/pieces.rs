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
    /// What they cost.
    pub(super) fn cost(self, row: &PriceRow) -> Money {
        let of = |price: Option<Money>, count| price.unwrap_or_default().saturating_mul(count);
        of(row.rates.image, self.images) + of(row.rates.second, self.seconds)
    }
}

/// What a body has that may be billed as tokens, and the most pieces that it can ask for: so many images where it makes any.
pub(super) fn most(
    endpoint: &Endpoint,
    body: &[u8],
    long_strings: &LongStrings,
    choices: u64,
) -> (Extent, Pieces) {
    let (hears, makes_images) = (hears(endpoint), makes_images(endpoint));
    let seconds = match hears {
        true => sound_seconds(body, LEAST_BYTES_A_SECOND),
        false => 0,
    };
    let pieces = Pieces {
        images: if makes_images { choices } else { 0 },
        seconds,
    };
    if body.trim_ascii_start().starts_with(b"{") {
        return (Extent::knowing(body, long_strings), pieces);
    }
    // A form with files. Sound is as tightly packed as it goes, whatever it is.
    let files = match makes_images {
        true => memchr::memmem::find_iter(body, b"filename=")
            .take(UPLOADED_IMAGES_MAX)
            .count(),
        false => 0,
    };
    let extent = Extent {
        audio_bytes: seconds.saturating_mul(LEAST_BYTES_A_SECOND),
        images: files as u64,
        ..Extent::default()
    };
    (extent, pieces)
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
