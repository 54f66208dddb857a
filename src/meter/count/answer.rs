//! The output tokens of an answer, from the text that passed.

use crate::meter::OutputText;
use crate::tokens::UsageSource;

use super::Counted;
use super::encoding::Tokenizer;
use super::tally::Tally;

/// What a tool call costs beside its name and arguments, as recorded bills of gpt-4o have it.
pub(super) const TOOL_CALL_TOKENS: u64 = 7;

/// The tokens of an answer: all its choices, with shown reasoning and the calls of tools.
///
/// Equal to the bill for plain text, give or take two tokens: the one that ends an answer is on some bills and not on
/// others, and a model may write a number or a formula in other pieces than the encoder would.
/// Reasoning and tool calls make it an estimate: reasoning may be shown as a summary only, and a call's framing is not
/// documented.
pub fn output_tokens(tokenizer: Tokenizer, output: &OutputText) -> Counted {
    let mut tally = Tally::new(tokenizer, "");
    for choice in &output.choices {
        tally.text(&choice.text);
        if !choice.reasoning.is_empty() {
            tally.text(&choice.reasoning);
            tally.guess();
        }
        for tool in &choice.tools {
            tally.text(&tool.name);
            tally.text(&tool.arguments);
            tally.add(TOOL_CALL_TOKENS);
            tally.guess();
        }
    }
    if output.dropped_bytes > 0 {
        tally.add(estimate_output(output.dropped_bytes).tokens);
        tally.guess();
    }
    tally.counted()
}

/// The likely tokens of so many bytes of output.
pub(super) fn estimate_output(bytes: u64) -> Counted {
    Counted {
        tokens: bytes.saturating_mul(2) / 7,
        source: UsageSource::Estimated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{ChoiceText, ToolText};

    fn choice(text: &str) -> ChoiceText {
        ChoiceText {
            text: text.into(),
            ..ChoiceText::default()
        }
    }

    fn count(choices: Vec<ChoiceText>, dropped_bytes: u64) -> Counted {
        let output = OutputText {
            choices,
            dropped_bytes,
        };
        output_tokens(Tokenizer::for_model("gpt-4o", None), &output)
    }

    #[test]
    fn plain_text_costs_its_tokens_for_every_choice() {
        let one = choice("The capital of France is Paris.");
        assert_eq!(
            count(vec![one.clone(), one], 0),
            Counted {
                tokens: 14,
                source: UsageSource::Counted
            }
        );
    }

    #[test]
    fn a_tool_call_costs_what_it_cost_at_openai() {
        let call = ChoiceText {
            tools: vec![ToolText {
                name: "get_country".into(),
                arguments: "{}".into(),
            }],
            ..ChoiceText::default()
        };
        assert_eq!(
            count(vec![call], 0),
            Counted {
                tokens: 10,
                source: UsageSource::Estimated
            }
        );
    }

    #[test]
    fn text_that_was_not_kept_makes_an_estimate() {
        let counted = count(vec![choice("hello world")], 700);
        assert_eq!(
            (counted.tokens, counted.source),
            (202, UsageSource::Estimated)
        );
    }

    /// The text that a chat answer consists of, read plainly from its JSON or its events.
    fn texts(body: &str, streamed: bool) -> String {
        let events: Vec<serde_json::Value> = if streamed {
            let data = body.lines().filter_map(|line| line.strip_prefix("data:"));
            data.filter_map(|data| serde_json::from_str(data).ok())
                .collect()
        } else {
            vec![serde_json::from_str(body).unwrap()]
        };
        let choices = events
            .iter()
            .filter_map(|event| event["choices"].as_array())
            .flatten();
        let messages = choices.map(|choice| &choice[if streamed { "delta" } else { "message" }]);
        messages
            .flat_map(|message| [&message["content"], &message["refusal"]])
            .filter_map(|text| text.as_str())
            .collect()
    }

    #[test]
    fn recorded_answers_cost_what_openai_billed() {
        let shared = std::env::var("WEIR_SHARED").map_or_else(
            |_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
            std::path::PathBuf::from,
        );
        let folder = shared.join("recordings");
        let Ok(files) = std::fs::read_dir(&folder) else {
            println!("skipped: the recordings are not here");
            return;
        };
        let mut compared = 0;
        for file in files {
            let path = file.unwrap().path();
            if !path.to_string_lossy().ends_with(".meta.json") {
                continue;
            }
            let meta: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let usage = &meta["expected"]["usage"];
            let model = meta["model_in_body"].as_str().unwrap_or_default();
            let spoken =
                usage["reasoning"].as_u64() == Some(0) && usage["audio_output"].as_u64() == Some(0);
            let known = ["gpt-3.5", "gpt-4"]
                .iter()
                .any(|family| super::super::encoding::bare_name(model).starts_with(family));
            if meta["api"] != "chat" || !spoken || !known {
                continue;
            }
            let body = std::fs::read_to_string(folder.join(meta["body_file"].as_str().unwrap()));
            let text = texts(&body.unwrap(), meta["streaming"] == true);
            if text.is_empty() {
                continue;
            }
            let counted = count_for(model, choice(&text));
            let billed = usage["output"].as_u64().unwrap();
            let difference = billed.checked_sub(counted.tokens);
            assert!(
                matches!(difference, Some(0..=2)),
                "{}: {counted:?}, billed {billed}",
                meta["id"]
            );
            compared += 1;
        }
        assert!(
            compared >= 5,
            "only {compared} recordings are plain answers"
        );
    }

    fn count_for(model: &str, choice: ChoiceText) -> Counted {
        let output = OutputText {
            choices: vec![choice],
            dropped_bytes: 0,
        };
        output_tokens(Tokenizer::for_model(model, None), &output)
    }
}
