//! Ending an event stream early, as its dialect ends an answer that has reached its length: what clients of that dialect
//! already know how to take.
//!
//! - Chat and legacy completions: a chunk with `finish_reason: "length"` for each open choice, the usage chunk if it was
//!   asked for, `[DONE]` (OpenAI, "Chat Completions: streaming", seen 2026-05).
//! - Messages: `content_block_stop` of an open block, `message_delta` with `stop_reason: "max_tokens"`, `message_stop`
//!   (Anthropic, "Streaming messages", seen 2026-05).
//! - Responses: the open part and item are done, then `response.incomplete` with the reason `max_output_tokens` (OpenAI,
//!   "Responses: streaming events", seen 2026-05).

mod response;

use std::fmt::Write as _;

use super::Endpoint;
use super::json::{each_element, each_member};
use crate::tokens::Usage;
use response::OpenResponse;

/// What of a stream must be known to end it.
#[derive(Debug)]
pub struct LengthStop {
    shape: Shape,
    /// The event that came last: the one that the client does not get, if the stream is ended at it.
    last: String,
}

#[derive(Debug)]
enum Shape {
    Chat(OpenChat),
    Message(OpenMessage),
    Response(Box<OpenResponse>),
}

impl LengthStop {
    /// For a stream of that endpoint; `None` where no dialect says how it ends early.
    pub fn new(endpoint: &Endpoint) -> Option<LengthStop> {
        let shape = match endpoint {
            Endpoint::ChatCompletions => Shape::Chat(OpenChat::new("chat.completion.chunk")),
            Endpoint::Completions => Shape::Chat(OpenChat::new("text_completion")),
            Endpoint::Messages => Shape::Message(OpenMessage::default()),
            Endpoint::Responses => Shape::Response(Box::default()),
            _ => return None,
        };
        let last = String::new();
        Some(LengthStop { shape, last })
    }

    /// Takes note of an event.
    pub fn event(&mut self, data: &str) {
        match &mut self.shape {
            Shape::Chat(chat) => chat.event(&self.last),
            Shape::Message(message) => message.event(&self.last),
            Shape::Response(response) => response.event(&self.last),
        }
        self.last.clear();
        self.last.push_str(data);
    }

    /// The events that end the stream in place of the one that came last; `shows_usage` is whether the client of a chat asked for the usage chunk.
    pub fn end(self, usage: &Usage, shows_usage: bool) -> String {
        match self.shape {
            Shape::Chat(chat) => chat.end(usage, shows_usage),
            Shape::Message(message) => message.end(usage),
            Shape::Response(response) => response.end(usage),
        }
    }
}

/// Members that are kept are a few dozen bytes; a longer one is left out.
const MEMBER_BYTES_MAX: usize = 512;
/// Choices that are told apart.
const CHOICES_MAX: usize = 256;

#[derive(Debug)]
struct OpenChat {
    object: &'static str,
    /// `"id":…,"created":…,"model":…,` as they came.
    head: String,
    /// By their index: whether they have a finish reason.
    choices: Vec<(u64, bool)>,
}

impl OpenChat {
    fn new(object: &'static str) -> OpenChat {
        OpenChat {
            object,
            head: String::new(),
            choices: Vec::new(),
        }
    }

    fn event(&mut self, data: &str) {
        let learn = self.head.is_empty();
        each_member(data, |name, value| match &*name {
            "id" | "created" | "model" | "system_fingerprint"
                if learn && value.len() <= MEMBER_BYTES_MAX =>
            {
                let _ = write!(self.head, "\"{name}\":{value},");
            }
            "choices" => each_element(value, |choice| {
                let (mut index, mut finished) = (0, false);
                each_member(choice, |name, value| match &*name {
                    "index" => index = value.parse().unwrap_or(0),
                    "finish_reason" => finished = value != "null",
                    _ => {}
                });
                match self.choices.iter().position(|(known, _)| *known == index) {
                    Some(at) => {
                        if let Some((_, over)) = self.choices.get_mut(at) {
                            *over |= finished;
                        }
                    }
                    None if self.choices.len() < CHOICES_MAX => {
                        self.choices.push((index, finished));
                    }
                    None => {}
                }
            }),
            _ => {}
        });
    }

    fn end(mut self, usage: &Usage, shows_usage: bool) -> String {
        if self.choices.is_empty() {
            self.choices.push((0, false));
        }
        let (head, object) = (&self.head, self.object);
        let nothing = match object {
            "text_completion" => r#""text":"","logprobs":null"#,
            _ => r#""delta":{}"#,
        };
        let mut text = String::new();
        for (index, _) in self.choices.iter().filter(|(_, finished)| !finished) {
            let _ = write!(
                text,
                "data: {{{head}\"object\":\"{object}\",\"choices\":[{{\"index\":{index},{nothing},\"finish_reason\":\"length\"}}]}}\n\n"
            );
        }
        if shows_usage {
            let (input, output) = (usage.input_tokens, usage.output_tokens);
            let total = input.saturating_add(output);
            let _ = write!(
                text,
                "data: {{{head}\"object\":\"{object}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{total}}}}}\n\n"
            );
        }
        text.push_str("data: [DONE]\n\n");
        text
    }
}

#[derive(Debug, Default)]
struct OpenMessage {
    block: Option<u64>,
}

impl OpenMessage {
    fn event(&mut self, data: &str) {
        let (mut kind, mut index) = ("", 0);
        each_member(data, |name, value| match &*name {
            "type" => kind = value,
            "index" => index = value.parse().unwrap_or(0),
            _ => {}
        });
        match kind {
            "\"content_block_start\"" => self.block = Some(index),
            "\"content_block_stop\"" => self.block = None,
            _ => {}
        }
    }

    fn end(self, usage: &Usage) -> String {
        let mut text = String::new();
        if let Some(index) = self.block {
            let _ = write!(
                text,
                "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
            );
        }
        let output = usage.output_tokens;
        let _ = write!(
            text,
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{output}}}}}\n\nevent: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        Usage {
            input_tokens: 11,
            output_tokens: 5,
            ..Usage::default()
        }
    }

    /// The events' names (empty without one) and data.
    fn events(text: &str) -> Vec<(&str, &str)> {
        text.split_terminator("\n\n")
            .map(|event| match event.split_once("\ndata: ") {
                Some((name, data)) => (name.strip_prefix("event: ").unwrap(), data),
                None => ("", event.strip_prefix("data: ").unwrap()),
            })
            .collect()
    }

    fn json(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_chat_ends_with_its_own_names_and_a_length_stop_for_each_open_choice() {
        let mut stop = LengthStop::new(&Endpoint::ChatCompletions).unwrap();
        for data in [
            r#"{"id":"c-1","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}"#,
            r#"{"id":"c-1","choices":[{"index":1,"delta":{"content":"a"},"finish_reason":null}]}"#,
            r#"{"id":"c-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        ] {
            stop.event(data);
        }
        stop.event("{}");
        let text = stop.end(&usage(), true);
        let events = events(&text);
        assert_eq!(
            json(events[0].1),
            serde_json::json!({"id": "c-1", "created": 7, "model": "gpt-4o", "object": "chat.completion.chunk",
                "choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]})
        );
        let usage = &json(events[1].1)["usage"];
        assert_eq!(
            *usage,
            serde_json::json!({"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16})
        );
        assert_eq!(events[2..], [("", "[DONE]")]);
    }

    #[test]
    fn a_legacy_completion_ends_in_its_own_shape_and_without_usage_that_nobody_asked_for() {
        let mut stop = LengthStop::new(&Endpoint::Completions).unwrap();
        stop.event(r#"{"id":"c-1","choices":[{"text":"a","index":0,"finish_reason":null}]}"#);
        stop.event(r#"{"choices":[{"text":"dropped","index":0,"finish_reason":"stop"}]}"#);
        let text = stop.end(&usage(), false);
        let events = events(&text);
        assert_eq!(json(events[0].1)["choices"][0]["text"], "");
        assert_eq!(json(events[0].1)["choices"][0]["finish_reason"], "length");
        assert_eq!(events[1..], [("", "[DONE]")]);
    }

    #[test]
    fn a_message_closes_its_block_and_says_max_tokens() {
        let mut stop = LengthStop::new(&Endpoint::Messages).unwrap();
        for data in [
            r#"{"type":"message_start","message":{"id":"m"}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}"#,
        ] {
            stop.event(data);
        }
        stop.event("{}");
        let text = stop.end(&usage(), false);
        let events = events(&text);
        let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["content_block_stop", "message_delta", "message_stop"]
        );
        assert_eq!(json(events[0].1)["index"], 1);
        assert_eq!(json(events[1].1)["delta"]["stop_reason"], "max_tokens");
        assert_eq!(json(events[1].1)["usage"]["output_tokens"], 5);
    }

    #[test]
    fn a_response_is_incomplete_for_the_tokens_it_may_put_out() {
        let mut stop = LengthStop::new(&Endpoint::Responses).unwrap();
        for data in [
            r#"{"type":"response.created","response":{"id":"r-1","status":"in_progress","incomplete_details":null,"output":[],"usage":null,"model":"gpt-4o"},"sequence_number":0}"#,
            r#"{"type":"response.output_item.added","item":{"id":"rs","type":"reasoning","summary":[]},"output_index":0,"sequence_number":1}"#,
            r#"{"type":"response.output_item.done","item":{"id":"rs","type":"reasoning","summary":[]},"output_index":0,"sequence_number":2}"#,
            r#"{"type":"response.output_item.added","item":{"id":"msg","type":"message","status":"in_progress","content":[],"role":"assistant"},"output_index":1,"sequence_number":3}"#,
            r#"{"type":"response.content_part.added","content_index":0,"item_id":"msg","output_index":1,"part":{"type":"output_text","text":""},"sequence_number":4}"#,
            r#"{"type":"response.output_text.delta","content_index":0,"delta":"po","item_id":"msg","output_index":1,"sequence_number":5}"#,
            r#"{"type":"response.output_text.delta","content_index":0,"delta":"ng\n","item_id":"msg","output_index":1,"sequence_number":6}"#,
        ] {
            stop.event(data);
        }
        stop.event("{}");
        let text = stop.end(&usage(), false);
        let events = events(&text);
        let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.incomplete"
            ]
        );
        assert_eq!(json(events[0].1)["text"], "pong\n");
        assert_eq!(json(events[0].1)["sequence_number"], 7);
        assert_eq!(json(events[2].1)["item"]["status"], "incomplete");
        let last = json(events[3].1);
        assert_eq!(last["sequence_number"], 10);
        let response = &last["response"];
        assert_eq!(response["id"], "r-1");
        assert_eq!(response["status"], "incomplete");
        assert_eq!(
            response["incomplete_details"]["reason"],
            "max_output_tokens"
        );
        assert_eq!(response["output"][0]["id"], "rs");
        assert_eq!(response["output"][1]["content"][0]["text"], "pong\n");
        assert_eq!(response["usage"]["total_tokens"], 16);
    }

    #[test]
    fn a_response_that_calls_a_function_keeps_the_arguments_so_far() {
        let mut stop = LengthStop::new(&Endpoint::Responses).unwrap();
        for data in [
            r#"{"type":"response.output_item.added","item":{"id":"fc","type":"function_call","status":"in_progress","name":"f","arguments":""},"output_index":0}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{\"a\":","item_id":"fc","output_index":0}"#,
        ] {
            stop.event(data);
        }
        stop.event("{}");
        let text = stop.end(&usage(), false);
        let events = events(&text);
        assert_eq!(events[0].0, "response.output_item.done");
        let item = &json(events[0].1)["item"];
        assert_eq!(
            (&item["arguments"], &item["status"]),
            (&"{\"a\":".into(), &"incomplete".into())
        );
        assert_eq!(events[1].0, "response.incomplete");
    }
}
