//! Which encoding a model's text is cut by, and the cutting itself.
//!
//! Counting is done by `bpe-openai`: its time is linear in the text and its memory constant, where `tiktoken-rs` needs 48
//! bytes for each byte of an unbroken run and panics on a million spaces. `tiktoken-rs` says which model has which
//! encoding, and is what the tests compare every count with.

use std::borrow::Cow;

use tiktoken_rs::tokenizer::{Tokenizer as Tiktoken, get_tokenizer};

use crate::price::PricedModel;
use crate::tokens::UsageSource;

use super::Counted;

/// A vocabulary of OpenAI's. Each is loaded at its first use (0.1 s and 32 or 66 MB), or by [`warm_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// gpt-4o and everything since.
    O200kBase,
    /// gpt-4, gpt-3.5 and the embeddings.
    Cl100kBase,
}

impl Encoding {
    /// The encoding that tiktoken knows by this name. `o200k_harmony` differs from `o200k_base` in special tokens only,
    /// which text never contains.
    pub fn by_name(name: &str) -> Option<Encoding> {
        match name {
            "o200k_base" | "o200k_harmony" => Some(Encoding::O200kBase),
            "cl100k_base" => Some(Encoding::Cl100kBase),
            _ => None,
        }
    }

    /// The tokens of a text. What looks like a special token (`<|endoftext|>`) is ordinary text, as the API treats it.
    pub fn count(self, text: &str) -> u64 {
        let tokenizer = match self {
            Encoding::O200kBase => bpe_openai::o200k_base(),
            Encoding::Cl100kBase => bpe_openai::cl100k_base(),
        };
        tokenizer.count(text) as u64
    }
}

/// Loads both encodings, so that no request waits for them. Takes about 0.2 s: call it from a blocking thread.
pub fn warm_up() {
    for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
        encoding.count("warm");
    }
}

/// How the text of a model is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    /// The encoding.
    pub encoding: Encoding,
    /// Whether the model is known to use it. Where not, a count is an estimate.
    pub known: bool,
}

impl Tokenizer {
    /// The tokenizer of a model: what its price entry names, else what tiktoken knows (a provider's prefix, `openai/…`, a
    /// variant's suffix, `…:free`, and the letter case aside), else `o200k_base` as the nearest guess.
    pub fn for_model(model: &str, priced: Option<&PricedModel>) -> Tokenizer {
        let named = priced
            .and_then(|entry| entry.tokenizer.as_deref())
            .map(Encoding::by_name);
        let encoding = match named {
            Some(named) => named,
            None => encoding_of(model),
        };
        Tokenizer {
            encoding: encoding.unwrap_or(Encoding::O200kBase),
            known: encoding.is_some(),
        }
    }

    /// What a count with this tokenizer may call itself.
    pub fn source(self) -> UsageSource {
        if self.known {
            UsageSource::Counted
        } else {
            UsageSource::Estimated
        }
    }

    /// The tokens of a text.
    pub fn count(self, text: &str) -> Counted {
        Counted {
            tokens: self.encoding.count(text),
            source: self.source(),
        }
    }
}

fn encoding_of(model: &str) -> Option<Encoding> {
    match get_tokenizer(&bare_name(model))? {
        Tiktoken::O200kBase | Tiktoken::O200kHarmony => Some(Encoding::O200kBase),
        Tiktoken::Cl100kBase => Some(Encoding::Cl100kBase),
        // Encodings of models that OpenAI switched off in January 2024.
        Tiktoken::P50kBase | Tiktoken::R50kBase | Tiktoken::P50kEdit | Tiktoken::Gpt2 => None,
    }
}

/// A model's name as OpenAI itself writes it: `openrouter/openai/GPT-4o:extended` is `gpt-4o`.
pub(super) fn bare_name(model: &str) -> Cow<'_, str> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = match name.split_once(':') {
        // A fine-tune: `ft:gpt-4o-2024-08-06:acme::id`.
        Some(("ft", rest)) => rest.split(':').next().unwrap_or(rest),
        Some((before, _)) => before,
        None => name,
    };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_model_has_the_encoding_that_tiktoken_knows() {
        for (model, encoding) in [
            ("gpt-4o", Encoding::O200kBase),
            ("gpt-4o-mini-2024-07-18", Encoding::O200kBase),
            ("gpt-5.4-mini", Encoding::O200kBase),
            ("gpt-oss-120b", Encoding::O200kBase),
            ("o3", Encoding::O200kBase),
            ("gpt-4", Encoding::Cl100kBase),
            ("gpt-3.5-turbo-0125", Encoding::Cl100kBase),
            ("text-embedding-3-small", Encoding::Cl100kBase),
            ("openai/gpt-4o", Encoding::O200kBase),
            ("openrouter/openai/GPT-4o:extended", Encoding::O200kBase),
            ("ft:gpt-4o-2024-08-06:acme::abc", Encoding::O200kBase),
            ("ft:gpt-3.5-turbo:acme::abc", Encoding::Cl100kBase),
        ] {
            let tokenizer = Tokenizer::for_model(model, None);
            assert_eq!(tokenizer.encoding, encoding, "{model}");
            assert!(tokenizer.known, "{model}");
        }
    }

    #[test]
    fn a_model_that_nobody_knows_is_estimated_with_o200k() {
        for model in [
            "claude-sonnet-4-5",
            "gemini-2.5-pro",
            "davinci",
            "",
            "a/",
            "ft:",
        ] {
            let tokenizer = Tokenizer::for_model(model, None);
            assert_eq!(tokenizer.encoding, Encoding::O200kBase, "{model}");
            assert_eq!(tokenizer.source(), UsageSource::Estimated, "{model}");
        }
    }

    #[test]
    fn the_price_table_has_the_last_word() {
        let mut priced = PricedModel {
            model: "gpt-4o".into(),
            aliases: Vec::new(),
            tokenizer: Some("cl100k_base".into()),
            max_output_tokens: None,
            rows: Vec::new(),
        };
        let tokenizer = Tokenizer::for_model("gpt-4o", Some(&priced));
        assert_eq!(
            (tokenizer.encoding, tokenizer.known),
            (Encoding::Cl100kBase, true)
        );

        priced.tokenizer = Some("a vocabulary of theirs".into());
        let tokenizer = Tokenizer::for_model("gpt-4o", Some(&priced));
        assert_eq!(
            (tokenizer.encoding, tokenizer.known),
            (Encoding::O200kBase, false)
        );
    }

    #[test]
    fn known_counts_do_not_drift() {
        for (text, o200k, cl100k) in [
            ("", 0, 0),
            ("hello world", 2, 2),
            ("Hello, world! It's 2026.", 9, 10),
            ("<|endoftext|>", 7, 7),
            ("antidisestablishmentarianism", 6, 6),
            ("お誕生日おめでとう", 8, 9),
            ("👩‍👩‍👧‍👦", 11, 18),
            ("fn main() {\n    println!(\"hi\");\n}\n", 10, 10),
        ] {
            assert_eq!(Encoding::O200kBase.count(text), o200k, "o200k {text:?}");
            assert_eq!(Encoding::Cl100kBase.count(text), cl100k, "cl100k {text:?}");
        }
    }

    fn assert_same(text: &str) {
        let o200k = tiktoken_rs::o200k_base_singleton().count_ordinary(text) as u64;
        let cl100k = tiktoken_rs::cl100k_base_singleton().count_ordinary(text) as u64;
        assert_eq!(Encoding::O200kBase.count(text), o200k, "o200k {text:?}");
        assert_eq!(Encoding::Cl100kBase.count(text), cl100k, "cl100k {text:?}");
    }

    /// Pieces at which the two engines' patterns could part ways.
    const ATOMS: &[&str] = &[
        " ",
        "  ",
        "\u{a0}",
        "\u{3000}",
        "\u{2028}",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "'s",
        "'LL",
        "'ſ",
        "'re",
        "İ",
        "ſ",
        "a",
        "B",
        "Ǆ",
        "ǅ",
        "ʰ",
        "ß",
        "é",
        "e\u{301}",
        "\u{301}",
        "\u{200d}",
        "\u{fe0f}",
        "👩",
        "🏽",
        "🇩🇪",
        "0",
        "12",
        "3456",
        "٣",
        "½",
        "Ⅷ",
        "漢",
        "한",
        "ไทย",
        "<|endoftext|>",
        "<|",
        "|>",
        "/",
        "!",
        "...",
        "==",
        "{\"a\":1}",
        "\0",
        "\u{feff}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_text_counts_as_tiktoken_counts_it(text in "\\PC{0,80}") {
            assert_same(&text);
        }

        #[test]
        fn hostile_text_counts_as_tiktoken_counts_it(atoms in prop::collection::vec(prop::sample::select(ATOMS), 0..24)) {
            assert_same(&atoms.concat());
        }
    }

    #[test]
    fn sixteen_times_the_text_takes_no_more_than_some_sixteen_times_the_time() {
        let time = |pattern: &str, bytes: usize| {
            let text = pattern.repeat(bytes / pattern.len());
            // The thread's own time: the machine may have other things to do.
            let cpu = || {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                std::time::Duration::try_from(time).unwrap()
            };
            let times = (0..3).map(|_| {
                let began = cpu();
                Encoding::O200kBase.count(&text);
                cpu() - began
            });
            times.min().unwrap()
        };
        time("warm", 1024);
        for pattern in ["a", " ", "0", "👩\u{200d}"] {
            let (short, long) = (time(pattern, 16 << 10), time(pattern, 256 << 10));
            // If it went with the square of the length, it would be 256 times.
            let most = 64 * short + std::time::Duration::from_millis(20);
            assert!(long < most, "{pattern:?}: {short:?} became {long:?}");
        }
    }

    #[test]
    fn a_megabyte_of_anything_is_counted() {
        let text = |pattern: &str| pattern.repeat((1 << 20) / pattern.len());
        for pattern in [
            "a",
            " ",
            "\n",
            "!",
            "👩‍👩‍👧‍👦",
            "iVBORw0KGgo",
            "漢",
            "e\u{301}",
            "deadbeef01",
        ] {
            let text = text(pattern);
            let tokens = Encoding::O200kBase.count(&text);
            assert!(tokens > 0 && tokens <= text.len() as u64, "{pattern:?}");
            // A quarter of the text has a quarter of the tokens: no run changes its cutting with its length.
            let quarter =
                Encoding::O200kBase.count(&text[..text.floor_char_boundary(text.len() / 4)]);
            assert!(
                quarter.abs_diff(tokens / 4) <= 16,
                "{pattern:?}: {quarter} of {tokens}"
            );
        }
    }
}
