//! Anthropic's messages. Their vocabulary is not public, so everything here is an estimate.

use super::json;
use super::tally::Tally;
use super::tools;

/// The tokens round each message, as recorded bills have them.
const MESSAGE_TOKENS: u64 = 4;
/// The hidden prompt that explains tools ("Tool use", pricing: 313 to 530 by model and `tool_choice`).
pub(super) const TOOL_PROMPT_TOKENS: u64 = 346;

/// A message request's prompt.
pub(super) fn count(body: &str, tally: &mut Tally<'_>) {
    tally.guess();
    tally.add(MESSAGE_TOKENS);
    json::each_member(body, |name, value| match name {
        "system" => count_content(value, tally),
        "messages" => json::each_element(value, |message| {
            tally.add(MESSAGE_TOKENS);
            if let Some(content) = json::member(message, "content") {
                count_content(content, tally);
            }
        }),
        "tools" => {
            let any = tools::count(value, tally);
            tally.add(if any { TOOL_PROMPT_TOKENS } else { 0 });
        }
        _ => {}
    });
}

fn count_content(content: &str, tally: &mut Tally<'_>) {
    if json::is_array(content) {
        json::each_element(content, |block| count_block(block, tally));
    } else {
        tally.text_of(content);
    }
}

fn count_block(block: &str, tally: &mut Tally<'_>) {
    match &*json::member_text(block, "type") {
        "text" => tally.text(&json::member_text(block, "text")),
        "image" => tally.image(""),
        "document" => count_document(block, tally),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            tally.text(&json::member_text(block, "name"));
            if let Some(input) = json::member(block, "input") {
                tally.json(input);
            }
            tally.add(MESSAGE_TOKENS);
        }
        "tool_result" | "mcp_tool_result" => {
            if let Some(content) = json::member(block, "content") {
                count_results(content, tally);
            }
            tally.add(MESSAGE_TOKENS);
        }
        // Thinking of earlier turns is taken out before the model sees it.
        "thinking" | "redacted_thinking" => {}
        _ => tally.json(block),
    }
}

/// What a tool answered: text, or blocks that can hold no further results.
fn count_results(content: &str, tally: &mut Tally<'_>) {
    if !json::is_array(content) {
        tally.text_of(content);
        return;
    }
    json::each_element(content, |block| match &*json::member_text(block, "type") {
        "text" => tally.text(&json::member_text(block, "text")),
        "image" => tally.image(""),
        "document" => count_document(block, tally),
        _ => tally.json(block),
    });
}

fn count_document(block: &str, tally: &mut Tally<'_>) {
    let Some(source) = json::member(block, "source") else {
        return;
    };
    match &*json::member_text(source, "type") {
        "text" => tally.text(&json::member_text(source, "data")),
        "content" => {
            if let Some(content) = json::member(source, "content") {
                count_results(content, tally);
            }
        }
        _ => tally.document(json::member(source, "data").map_or(0, |data| data.len())),
    }
}
