//! The framing of messages: what a chat costs beside its text.
//!
//! OpenAI's cookbook ("How to count tokens with tiktoken") and the bills of recorded chats agree on it for gpt-3.5, 4, 4o
//! and 4.1; newer models differ by a constant.

use super::claude;
use super::encoding::bare_name;
use super::json;
use super::tally::Tally;
use super::tools;

/// The tokens round each message and before the answer.
#[derive(Clone, Copy, Debug)]
struct Framing {
    message: u64,
    /// What a `name` adds; with the oldest snapshot it replaces the role.
    name: i64,
    /// The start of the answer (`<|start|>assistant<|message|>`), and what a model adds or saves once.
    once: u64,
}

impl Framing {
    fn of_model(model: &str) -> Framing {
        let name = bare_name(model);
        let newer = ["gpt-5", "o3", "o4"];
        let once = if name.starts_with("o1-mini") {
            10
        } else if newer.iter().any(|start| name.starts_with(start)) {
            2
        } else {
            3
        };
        if name == "gpt-3.5-turbo-0301" {
            return Framing {
                message: 4,
                name: -1,
                once,
            };
        }
        Framing {
            message: 3,
            name: 1,
            once,
        }
    }
}

/// A chat completion's prompt.
pub(super) fn count(body: &str, model: &str, tally: &mut Tally<'_>) {
    let framing = Framing::of_model(model);
    let mut system = false;
    let mut tools = false;
    json::each_member(body, |name, value| match name {
        "messages" => json::each_element(value, |message| {
            system |= matches!(&*json::member_text(message, "role"), "system" | "developer");
            count_message(message, framing, tally);
        }),
        "tools" | "functions" => tools |= tools::count(value, tally),
        "response_format" => tools::count_schema(value, tally),
        "tool_choice" | "function_call" if json::is_object(value) => {
            let function = json::member(value, "function").unwrap_or(value);
            tally.text(&json::member_text(function, "name"));
            tally.add(4);
            tally.guess();
        }
        _ => {}
    });
    if tools && bare_name(model).starts_with("claude") {
        tally.add(claude::TOOL_PROMPT_TOKENS);
    } else if tools && system {
        // The definitions stand in the system message that is there anyway.
        tally.subtract(4);
    }
    tally.add(framing.once);
}

/// A response's `input`, `instructions` and tools.
pub(super) fn count_response(body: &str, model: &str, tally: &mut Tally<'_>) {
    let framing = Framing::of_model(model);
    let plain = |value: &str, tally: &mut Tally<'_>| {
        if let Some(text) = json::text(value) {
            // The role is one token, whichever it is.
            tally.add(framing.message + 1);
            tally.text(&text);
        }
    };
    json::each_member(body, |name, value| match name {
        "input" if json::is_array(value) => {
            json::each_element(value, |item| count_item(item, framing, tally));
        }
        "input" | "instructions" => plain(value, tally),
        "tools" => {
            tools::count(value, tally);
        }
        "text" => {
            if let Some(format) = json::member(value, "format") {
                tools::count_schema(format, tally);
            }
        }
        // What came before is not in this request.
        "previous_response_id" | "conversation" | "prompt" if value != "null" => tally.guess(),
        _ => {}
    });
    tally.add(framing.once);
}

fn count_item(item: &str, framing: Framing, tally: &mut Tally<'_>) {
    match &*json::member_text(item, "type") {
        "" | "message" => count_message(item, framing, tally),
        "reasoning" | "item_reference" => tally.guess(),
        "image_generation_call" => tally.image(""),
        _ => {
            // Calls and their outputs: name, arguments, output; ids cost nothing.
            tally.add(framing.message);
            tally.guess();
            json::each_member(item, |name, value| match name {
                "name" | "arguments" | "input" => tally.text_of(value),
                "output" | "action" => count_content(value, tally),
                _ => {}
            });
        }
    }
}

fn count_message(message: &str, framing: Framing, tally: &mut Tally<'_>) {
    tally.add(framing.message);
    json::each_member(message, |name, value| match name {
        "role" | "refusal" => tally.text_of(value),
        "content" => count_content(value, tally),
        "name" => {
            if let Some(name) = json::text(value) {
                tally.text(&name);
                match framing.name {
                    add @ 0.. => tally.add(add.unsigned_abs()),
                    save => tally.subtract(save.unsigned_abs()),
                }
            }
        }
        "tool_calls" => json::each_element(value, |call| {
            if let Some(function) = json::member(call, "function").or(json::member(call, "custom"))
            {
                count_call(function, tally);
            }
        }),
        "function_call" => count_call(value, tally),
        // An earlier spoken answer, named by its id.
        "audio" if json::is_object(value) => tally.guess(),
        _ => {}
    });
}

fn count_call(function: &str, tally: &mut Tally<'_>) {
    json::each_member(function, |name, value| match name {
        "name" | "arguments" | "input" => tally.text_of(value),
        _ => {}
    });
    tally.add(3);
    tally.guess();
}

/// A message's content: text, or parts of text and other things.
fn count_content(content: &str, tally: &mut Tally<'_>) {
    if json::is_array(content) {
        json::each_element(content, |part| count_part(part, tally));
    } else if json::is_object(content) {
        count_part(content, tally);
    } else {
        tally.text_of(content);
    }
}

fn count_part(part: &str, tally: &mut Tally<'_>) {
    if !json::is_object(part) {
        tally.text_of(part);
        return;
    }
    match &*json::member_text(part, "type") {
        "text" | "input_text" | "output_text" => tally.text(&json::member_text(part, "text")),
        "refusal" => tally.text(&json::member_text(part, "refusal")),
        "image_url" | "input_image" | "computer_screenshot" => {
            // In a chat `image_url` is an object that holds the detail; in a response both stand side by side.
            let inner = json::member(part, "image_url").filter(|url| json::is_object(url));
            tally.image(&json::member_text(inner.unwrap_or(part), "detail"));
        }
        "input_audio" => {
            let data =
                json::member(part, "input_audio").and_then(|audio| json::member(audio, "data"));
            tally.audio(data.map_or(0, |data| data.len()));
        }
        "file" | "input_file" => {
            let file = json::member(part, "file").unwrap_or(part);
            tally.document(json::member(file, "file_data").map_or(0, |data| data.len()));
        }
        _ => {
            tally.json(part);
            tally.guess();
        }
    }
}
