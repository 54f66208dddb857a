//! What images, sound and documents cost in tokens, where only the provider can count them.
//!
//! The figures are OpenAI's "Images and vision" guide and Anthropic's "Vision" and "PDF support" pages with what users
//! measured against the bill (community.openai.com threads 1230130, 1262691, 1377015), read in November 2026.

use super::encoding::bare_name;

/// What one image costs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageTokens {
    /// With `detail: "low"`.
    pub(super) low: u64,
    /// 1024 x 1024 pixels in full detail: the guess for an image whose size is not known.
    pub(super) typical: u64,
    /// The largest that the provider accepts before it scales it down.
    pub(super) most: u64,
}

impl ImageTokens {
    /// What images cost a model; a cautious middle for a model that is not known.
    pub(super) fn of_model(model: &str) -> ImageTokens {
        let name = bare_name(model);
        let family = FAMILIES.iter().find(|(start, _)| name.starts_with(start));
        family.map_or(UNKNOWN, |(_, tokens)| *tokens)
    }
}

/// A base and 512-pixel tiles: 4 of a square image, 8 of the largest.
const fn tiles(base: u64, tile: u64) -> ImageTokens {
    ImageTokens {
        low: base,
        typical: base + 4 * tile,
        most: base + 8 * tile,
    }
}

/// 32-pixel patches (1,024 of a 1024 x 1024 image) times a factor in percent. `detail` changes nothing here.
const fn patches(most: u64, percent: u64) -> ImageTokens {
    ImageTokens {
        low: 1_024 * percent / 100,
        typical: 1_024 * percent / 100,
        most: (most * percent).div_ceil(100),
    }
}

/// A vocabulary of pixels: about one token for each 750.
const CLAUDE: ImageTokens = ImageTokens {
    low: 1_398,
    typical: 1_398,
    most: 4_784,
};

const UNKNOWN: ImageTokens = ImageTokens {
    low: 1_000,
    typical: 1_000,
    most: 5_000,
};

/// By the start of a model's name; the longer start stands first.
const FAMILIES: &[(&str, ImageTokens)] = &[
    ("gpt-4o-mini", tiles(2_833, 5_667)),
    ("gpt-4o", tiles(85, 170)),
    ("chatgpt-4o", tiles(85, 170)),
    ("gpt-4.5", tiles(85, 170)),
    ("gpt-4.1-mini", patches(1_536, 162)),
    ("gpt-4.1-nano", patches(1_536, 246)),
    ("gpt-4.1", tiles(85, 170)),
    ("gpt-4-", tiles(85, 170)),
    ("gpt-5-mini", patches(1_536, 120)),
    ("gpt-5-nano", patches(1_536, 150)),
    ("gpt-5.1", tiles(70, 140)),
    ("gpt-5.", patches(2_500, 120)),
    ("gpt-5", tiles(70, 140)),
    ("o4-mini", patches(1_536, 172)),
    ("o1", tiles(75, 150)),
    ("o3", tiles(75, 150)),
    ("computer-use", tiles(65, 129)),
    ("claude", CLAUDE),
];

/// The most for an image with `detail: "original"`: 10,000 patches at 1.2 tokens.
pub(super) const ORIGINAL_IMAGE_TOKENS_MAX: u64 = 12_000;

/// Sound: ten tokens a second at OpenAI, and a second is 16,000 bytes of a common MP3.
pub(super) fn audio_tokens(bytes: u64) -> u64 {
    bytes / (COMMON_BYTES_A_SECOND / 10)
}

/// How many bytes hold a second of sound, where they do not say so.
pub(crate) const COMMON_BYTES_A_SECOND: u64 = 16_000;
/// Speech packed as tightly as it goes: 16 kilobits a second.
pub(crate) const LEAST_BYTES_A_SECOND: u64 = 2_000;

/// The seconds of sound that a body may hold: those of a WAV, which tells its bytes a second, else by so many of them.
pub(crate) fn sound_seconds(body: &[u8], bytes_a_second: u64) -> u64 {
    (body.len() as u64).div_ceil(wav_bytes_a_second(body).unwrap_or(bytes_a_second))
}

/// What a WAV says that is a part of a form: RIFF, its size, `WAVEfmt `, the size of that, the format, the channels, samples a
/// second, bytes a second, bytes of all channels' sample, bits. One whose figures disagree, or are beyond those of a compact
/// disc, is not believed: whoever made them up would be held to less than he uses.
fn wav_bytes_a_second(body: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(body, b"\r\n\r\nRIFF")? + 4;
    let head = body.get(at..at + 36)?;
    let short = |from: usize| {
        Some(u64::from(u16::from_le_bytes(
            head.get(from..from + 2)?.try_into().ok()?,
        )))
    };
    let long = |from: usize| {
        Some(u64::from(u32::from_le_bytes(
            head.get(from..from + 4)?.try_into().ok()?,
        )))
    };
    let (channels, samples, told, bits) = (short(22)?, long(24)?, long(28)?, short(34)?);
    let agrees = head.get(8..16)? == b"WAVEfmt " && channels * samples * bits / 8 == told;
    (agrees && (LEAST_BYTES_A_SECOND..=192_000).contains(&told)).then_some(told)
}

/// Speech packed as tightly as it goes (2,000 bytes a second) at the 32 tokens a second of the provider that counts most.
pub(super) fn audio_tokens_max(bytes: u64) -> u64 {
    bytes.div_ceil(60)
}

/// A PDF of a hundred pages, the most that a request may hold, closely printed.
const DOCUMENT_TOKENS_MAX: u64 = 300_000;

/// PDFs: 2,000 tokens a page of 50,000 bytes, and a page each at least.
pub(super) fn document_tokens(documents: u64, bytes: u64) -> u64 {
    let pages = (bytes / 25).saturating_add(documents.saturating_mul(2_000));
    pages.min(documents.saturating_mul(DOCUMENT_TOKENS_MAX))
}

/// PDFs of closely printed pages: a token for every three bytes, and 3,000 each at least.
pub(super) fn document_tokens_max(documents: u64, bytes: u64) -> u64 {
    let least = documents.saturating_mul(3_000);
    (bytes / 3).clamp(least, documents.saturating_mul(DOCUMENT_TOKENS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_tells_how_long_it_is_and_other_sound_is_taken_for_what_is_common() {
        let mut wav = b"--b\r\n\r\nRIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(16_000_u32.to_le_bytes());
        wav.extend(32_000_u32.to_le_bytes());
        wav.extend([2, 0, 16, 0]);
        wav.resize(320_000, 0);
        assert_eq!(sound_seconds(&wav, LEAST_BYTES_A_SECOND), 10);
        assert_eq!(sound_seconds(&[0; 320_000], COMMON_BYTES_A_SECOND), 20);
        wav[35] = 0x7f;
        assert_eq!(sound_seconds(&wav, COMMON_BYTES_A_SECOND), 20, "it lies");
        assert_eq!(sound_seconds(b"\r\n\r\nRIFF\0\0\0\0WAVEfmt ", 1), 20, "cut");
    }

    #[test]
    fn a_square_image_costs_what_the_vision_guide_says() {
        assert_eq!(ImageTokens::of_model("gpt-4o").typical, 765);
        assert_eq!(ImageTokens::of_model("gpt-4o").low, 85);
        assert_eq!(ImageTokens::of_model("openai/gpt-4o-mini").typical, 25_501);
        assert_eq!(ImageTokens::of_model("gpt-4.1-mini-2025-04-14").most, 2_489);
        assert_eq!(ImageTokens::of_model("gpt-5").typical, 630);
        assert_eq!(ImageTokens::of_model("gpt-5.4").most, 3_000);
    }

    #[test]
    fn no_image_costs_more_than_the_most() {
        for (start, tokens) in FAMILIES {
            assert!(
                tokens.low <= tokens.typical && tokens.typical <= tokens.most,
                "{start}"
            );
        }
    }
}
