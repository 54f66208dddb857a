//! What a request is taken to have used whose answer does not tell: sound and images in forms that have no room for it (a text,
//! a recording), or an answer that broke off.

use super::Question;
use crate::dialect::json::{each_member, text};
use crate::meter::count::{COMMON_BYTES_A_SECOND, sound_seconds};
use crate::tokens::Usage;

/// Of an image of medium quality and 1024 x 1024 pixels (developers.openai.com/api/docs/guides/image-generation).
const IMAGE_TOKENS: u64 = 1_056;

/// The likely usage; none where nothing is known of the endpoint's.
pub(super) fn likely(question: &Question) -> Usage {
    match question.endpoint.as_str() {
        "audio.transcriptions" | "audio.translations" => heard(&question.body),
        "audio.speech" => spoken(&question.body),
        "images.edits" | "images.generations" | "images.variations" => {
            of_images(question.ask.choices.max(1))
        }
        _ => Usage::default(),
    }
}

/// So many images.
pub(super) fn of_images(images: u64) -> Usage {
    let tokens = images.saturating_mul(IMAGE_TOKENS);
    Usage {
        images,
        output_tokens: tokens,
        image_output_tokens: tokens,
        ..Usage::default()
    }
}

/// Ten tokens a second are heard, and 150 words a minute said, of four tokens for three.
fn heard(body: &[u8]) -> Usage {
    let seconds = sound_seconds(body, COMMON_BYTES_A_SECOND);
    let tokens = seconds.saturating_mul(10);
    Usage {
        audio_seconds: seconds,
        input_tokens: tokens,
        audio_input_tokens: tokens,
        output_tokens: tokens / 3,
        ..Usage::default()
    }
}

/// Four letters are a token of text, and fifteen a second of speech, of twenty tokens.
fn spoken(body: &[u8]) -> Usage {
    let mut letters = 0;
    each_member(&String::from_utf8_lossy(body), |name, value| {
        if name == "input" {
            letters = text(value).map_or(0, |text| text.chars().count() as u64);
        }
    });
    let tokens = letters.saturating_mul(20) / 15;
    Usage {
        input_tokens: letters.div_ceil(4),
        output_tokens: tokens,
        audio_output_tokens: tokens,
        ..Usage::default()
    }
}
