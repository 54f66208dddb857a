//! The output tokens of an answer while it comes: what is new is counted, and only when it matters.

use crate::meter::{ChoiceText, OutputText};

use super::answer::TOOL_CALL_TOKENS;
use super::encoding::Tokenizer;

/// A count that follows an answer's text.
#[derive(Debug)]
pub struct Running {
    tokenizer: Tokenizer,
    tokens: u64,
    /// The length of all text that was counted.
    bytes: u64,
    /// For each choice, up to where it was counted.
    counted: Vec<Upto>,
}

#[derive(Debug, Default)]
struct Upto {
    text: usize,
    reasoning: usize,
    tools: Vec<(usize, usize)>,
}

/// What an answer costs beside its text, as bills have it: at most two tokens, and some for a tool's framing.
const FRAMING: u64 = 8;

impl Running {
    /// A count that begins.
    pub fn new(tokenizer: Tokenizer) -> Running {
        Running {
            tokenizer,
            tokens: 0,
            bytes: 0,
            counted: Vec::new(),
        }
    }

    /// At most so many tokens, found out without counting: no token is shorter than a byte.
    pub fn at_most(&self, output: &OutputText) -> u64 {
        let uncounted = output.bytes().saturating_sub(self.bytes);
        let tools = output.choices.iter().map(|choice| choice.tools.len());
        let known = self.counted.iter().map(|upto| upto.tools.len());
        let new_tools = tools.sum::<usize>().saturating_sub(known.sum()) as u64;
        let tokens = self.tokens + uncounted + new_tools * TOOL_CALL_TOKENS;
        self.billed(tokens, output)
    }

    /// Counts what is new. The sum is never below what the whole text would count, but for a token or two that a cut
    /// between two pieces may cost.
    pub fn count(&mut self, output: &OutputText) -> u64 {
        self.counted
            .resize_with(output.choices.len(), Upto::default);
        let (encoding, mut tokens) = (self.tokenizer.encoding, 0);
        let mut piece = |text: &str, upto: &mut usize| {
            tokens += text.get(*upto..).map_or(0, |new| encoding.count(new));
            *upto = text.len();
        };
        for (choice, upto) in output.choices.iter().zip(&mut self.counted) {
            let ChoiceText {
                text,
                reasoning,
                tools,
            } = choice;
            piece(text, &mut upto.text);
            piece(reasoning, &mut upto.reasoning);
            let begun = tools.len().saturating_sub(upto.tools.len()) as u64;
            self.tokens += begun * TOOL_CALL_TOKENS;
            upto.tools.resize(tools.len(), (0, 0));
            for (tool, (name, arguments)) in tools.iter().zip(&mut upto.tools) {
                piece(&tool.name, name);
                piece(&tool.arguments, arguments);
            }
        }
        let kept = output.bytes().saturating_sub(output.dropped_bytes);
        // Text that is not kept cannot be counted: a byte each.
        self.bytes = kept;
        self.tokens += tokens;
        self.at_most(output)
    }

    /// What the provider may bill for so many counted tokens. Another provider's vocabulary may cut finer than the one that
    /// is at hand.
    fn billed(&self, tokens: u64, output: &OutputText) -> u64 {
        let finer = if self.tokenizer.known { 0 } else { tokens / 3 };
        tokens + finer + FRAMING * output.choices.len().max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::ToolText;
    use crate::meter::count::output_tokens;

    fn tokenizer() -> Tokenizer {
        Tokenizer::for_model("gpt-4o", None)
    }

    #[test]
    fn the_running_count_of_pieces_is_that_of_the_whole_and_its_bound_holds_before_it_is_counted() {
        let words =
            "The quick brown fox jumps over the lazy dog, 1234 times. Naïve façade: 東京 🦀\n";
        let mut output = OutputText {
            choices: vec![ChoiceText::default(), ChoiceText::default()],
            dropped_bytes: 0,
        };
        let mut running = Running::new(tokenizer());
        for turn in 0..200 {
            let choice = &mut output.choices[turn % 2];
            choice.text.push_str(words);
            if turn == 100 {
                choice.tools.push(ToolText {
                    name: "look_up".into(),
                    arguments: "{\"a\":1".into(),
                });
            }
            let exact = output_tokens(tokenizer(), &output).tokens;
            assert!(running.at_most(&output) >= exact);
            if turn % 7 == 0 {
                let counted = running.count(&output);
                assert!(counted >= exact, "{counted} of {exact}");
                assert!(
                    counted <= exact + 2 * FRAMING + turn as u64,
                    "{counted} of {exact}"
                );
            }
        }
    }

    #[test]
    fn a_vocabulary_that_is_only_guessed_is_counted_with_a_margin() {
        let output = OutputText {
            choices: vec![ChoiceText {
                text: "word ".repeat(300),
                ..ChoiceText::default()
            }],
            dropped_bytes: 0,
        };
        let known = Running::new(tokenizer()).count(&output);
        let guessed = Running::new(Tokenizer::for_model("llama-9", None)).count(&output);
        assert!(guessed > known + 90, "{guessed} and {known}");
    }
}
