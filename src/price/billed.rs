//! Usage cut into classes that do not overlap: each token is billed once.

use crate::tokens::Usage;

/// The tokens of one request, each in exactly one class. The input classes sum to `input_tokens` and the output classes
/// to `output_tokens`, whatever a provider reports: parts that exceed their total are cut, in the order of the fields
/// below. Two such reports are known: more cached than prompt tokens (Azure's Grok: prompt 7, cached 161), and audio that
/// was read from the cache and is reported as both; the cache's price then is the one that the provider charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Billed {
    pub(super) cache_read: u64,
    pub(super) cache_write_1h: u64,
    pub(super) cache_write: u64,
    pub(super) audio_input: u64,
    pub(super) image_input: u64,
    /// What is left of the input.
    pub(super) input: u64,
    pub(super) reasoning: u64,
    pub(super) audio_output: u64,
    pub(super) image_output: u64,
    /// What is left of the output.
    pub(super) output: u64,
}

impl Billed {
    pub(super) fn of(usage: &Usage) -> Billed {
        let mut input = Rest(usage.input_tokens);
        let cache_read = input.take(usage.cache_read_input_tokens);
        let written = input.take(usage.cache_write_input_tokens);
        let cache_write_1h = usage.cache_write_1h_input_tokens.min(written);
        let audio_input = input.take(usage.audio_input_tokens);
        let image_input = input.take(usage.image_input_tokens);
        let mut output = Rest(usage.output_tokens);
        Billed {
            cache_read,
            cache_write_1h,
            cache_write: written - cache_write_1h,
            audio_input,
            image_input,
            input: input.0,
            reasoning: output.take(usage.reasoning_output_tokens),
            audio_output: output.take(usage.audio_output_tokens),
            image_output: output.take(usage.image_output_tokens),
            output: output.0,
        }
    }
}

/// What is left of a total.
struct Rest(u64);

impl Rest {
    fn take(&mut self, part: u64) -> u64 {
        let taken = part.min(self.0);
        self.0 -= taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_taken_out_of_their_total() {
        let billed = Billed::of(&Usage {
            input_tokens: 1000,
            cache_read_input_tokens: 300,
            cache_write_input_tokens: 200,
            cache_write_1h_input_tokens: 50,
            audio_input_tokens: 100,
            image_input_tokens: 10,
            output_tokens: 500,
            reasoning_output_tokens: 400,
            audio_output_tokens: 20,
            image_output_tokens: 5,
            ..Usage::default()
        });
        let expected = Billed {
            cache_read: 300,
            cache_write_1h: 50,
            cache_write: 150,
            audio_input: 100,
            image_input: 10,
            input: 390,
            reasoning: 400,
            audio_output: 20,
            image_output: 5,
            output: 75,
        };
        assert_eq!(billed, expected);
    }

    #[test]
    fn more_cached_than_prompt_tokens_are_no_more_than_the_prompt() {
        let billed = Billed::of(&Usage {
            input_tokens: 7,
            cache_read_input_tokens: 161,
            ..Usage::default()
        });
        assert_eq!((billed.cache_read, billed.input), (7, 0));
    }

    #[test]
    fn audio_read_from_the_cache_is_billed_as_cached_only() {
        let billed = Billed::of(&Usage {
            input_tokens: 100,
            cache_read_input_tokens: 80,
            audio_input_tokens: 90,
            ..Usage::default()
        });
        assert_eq!(
            (billed.cache_read, billed.audio_input, billed.input),
            (80, 20, 0)
        );
    }

    proptest! {
        #[test]
        fn the_classes_sum_to_the_totals(counts in proptest::array::uniform10(0_u64..2000)) {
            let usage = Usage {
                input_tokens: counts[0],
                cache_read_input_tokens: counts[1],
                cache_write_input_tokens: counts[2],
                cache_write_1h_input_tokens: counts[3],
                audio_input_tokens: counts[4],
                image_input_tokens: counts[5],
                output_tokens: counts[6],
                reasoning_output_tokens: counts[7],
                audio_output_tokens: counts[8],
                image_output_tokens: counts[9],
                ..Usage::default()
            };
            let billed = Billed::of(&usage);
            let input = billed.cache_read + billed.cache_write_1h + billed.cache_write
                + billed.audio_input + billed.image_input + billed.input;
            let output = billed.reasoning + billed.audio_output + billed.image_output + billed.output;
            prop_assert_eq!((input, output), (usage.input_tokens, usage.output_tokens));
        }
    }
}
