//! A stream of OpenAI's Responses that is ended early: its last event holds the whole response so far.

use std::fmt::Write as _;

use super::super::json::{each_member, text};
use crate::tokens::Usage;

#[derive(Debug, Default)]
pub(super) struct OpenResponse {
    /// The members of the response as it was created, without those that its end replaces.
    head: String,
    /// Finished items, as they came.
    items: Vec<String>,
    open: Option<OpenItem>,
    /// The number of the next event, if events are numbered.
    number: Option<u64>,
    /// What is kept in all: beyond it items are left out of the last event.
    bytes: usize,
}

/// An item whose end has not come.
#[derive(Debug)]
struct OpenItem {
    index: u64,
    id: String,
    /// `"type":…,"role":…,` and whatever else it began with.
    head: String,
    is_message: bool,
    /// Finished parts of a message, as they came.
    parts: Vec<String>,
    /// The index of the part that is open.
    part: Option<u64>,
    /// The open part's text, or the arguments of a call.
    text: String,
}

/// What is kept of one response, in bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// The members of an event that matter, raw.
#[derive(Default)]
struct Members<'a> {
    kind: &'a str,
    response: &'a str,
    item: &'a str,
    part: &'a str,
    delta: &'a str,
    output_index: u64,
    content_index: u64,
}

impl OpenResponse {
    pub(super) fn event(&mut self, data: &str) {
        let mut found = Members::default();
        each_member(data, |name, value| match &*name {
            "type" => found.kind = value,
            "response" => found.response = value,
            "item" => found.item = value,
            "part" => found.part = value,
            "delta" => found.delta = value,
            "output_index" => found.output_index = value.parse().unwrap_or(0),
            "content_index" => found.content_index = value.parse().unwrap_or(0),
            "sequence_number" => {
                self.number = value.parse::<u64>().ok().map(|number| number + 1);
            }
            _ => {}
        });
        match found.kind {
            "\"response.created\"" => {
                self.head.clear();
                let kept = [
                    "status",
                    "incomplete_details",
                    "output",
                    "usage",
                    "completed_at",
                ];
                let head = members_without(found.response, &kept);
                if self.keeps(head.len()) {
                    self.head = head;
                }
            }
            "\"response.output_item.added\"" => {
                self.open = Some(OpenItem::new(found.output_index, found.item));
            }
            "\"response.output_item.done\"" => {
                self.open = None;
                if self.keeps(found.item.len()) {
                    self.items.push(found.item.to_owned());
                }
            }
            "\"response.content_part.added\"" => {
                if let Some(open) = &mut self.open {
                    open.part = Some(found.content_index);
                    open.text.clear();
                }
            }
            "\"response.content_part.done\"" => {
                if self.keeps(found.part.len())
                    && let Some(open) = &mut self.open
                {
                    open.part = None;
                    open.text.clear();
                    open.parts.push(found.part.to_owned());
                }
            }
            "\"response.output_text.delta\"" | "\"response.function_call_arguments.delta\"" => {
                let piece = text(found.delta).unwrap_or_default();
                if self.keeps(piece.len())
                    && let Some(open) = &mut self.open
                {
                    open.text.push_str(&piece);
                }
            }
            _ => {}
        }
    }

    pub(super) fn end(mut self, usage: &Usage) -> String {
        let mut all = String::new();
        if let Some(open) = self.open.take() {
            let (index, id) = (open.index, quoted(&open.id));
            if let Some(part) = open.part {
                let place =
                    format!("\"content_index\":{part},\"item_id\":{id},\"output_index\":{index}");
                let text = quoted(&open.text);
                self.write(
                    &mut all,
                    "response.output_text.done",
                    &format!("{place},\"logprobs\":[],\"text\":{text}"),
                );
                let part = open.text_part();
                self.write(
                    &mut all,
                    "response.content_part.done",
                    &format!("{place},\"part\":{part}"),
                );
            }
            let item = open.item();
            self.write(
                &mut all,
                "response.output_item.done",
                &format!("\"item\":{item},\"output_index\":{index}"),
            );
            self.items.push(item);
        }
        let (head, output) = (std::mem::take(&mut self.head), self.items.join(","));
        let (input_tokens, output_tokens) = (usage.input_tokens, usage.output_tokens);
        let total = input_tokens.saturating_add(output_tokens);
        let response = format!(
            "\"response\":{{{head}\"status\":\"incomplete\",\"incomplete_details\":{{\"reason\":\"max_output_tokens\"}},\"output\":[{output}],\"usage\":{{\"input_tokens\":{input_tokens},\"input_tokens_details\":{{\"cached_tokens\":0}},\"output_tokens\":{output_tokens},\"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":{total}}}}}"
        );
        self.write(&mut all, "response.incomplete", &response);
        all
    }

    fn write(&mut self, all: &mut String, kind: &str, members: &str) {
        let _ = write!(all, "event: {kind}\ndata: {{\"type\":\"{kind}\",{members}");
        if let Some(number) = &mut self.number {
            let _ = write!(all, ",\"sequence_number\":{number}");
            *number += 1;
        }
        all.push_str("}\n\n");
    }

    fn keeps(&mut self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= KEPT_BYTES_MAX;
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl OpenItem {
    fn new(index: u64, item: &str) -> OpenItem {
        let (mut id, mut is_message) = (String::new(), false);
        each_member(item, |name, value| match &*name {
            "id" => id = text(value).unwrap_or_default().into_owned(),
            "type" => is_message = value == "\"message\"",
            _ => {}
        });
        let mut head = members_without(item, &["status", "content", "arguments"]);
        if head.len() > KEPT_BYTES_MAX {
            head.clear();
        }
        OpenItem {
            index,
            id,
            head,
            is_message,
            parts: Vec::new(),
            part: None,
            text: String::new(),
        }
    }

    fn text_part(&self) -> String {
        let text = quoted(&self.text);
        format!("{{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":{text}}}")
    }

    fn item(&self) -> String {
        let head = &self.head;
        if self.is_message {
            let mut parts = self.parts.clone();
            parts.extend(self.part.map(|_| self.text_part()));
            let content = parts.join(",");
            return format!("{{{head}\"status\":\"incomplete\",\"content\":[{content}]}}");
        }
        let arguments = if head.contains("\"function_call\"") {
            format!(",\"arguments\":{}", quoted(&self.text))
        } else {
            String::new()
        };
        format!("{{{head}\"status\":\"incomplete\"{arguments}}}")
    }
}

/// An object's members as they came, each with a comma behind it, but for some.
fn members_without(object: &str, but: &[&str]) -> String {
    let mut kept = String::with_capacity(object.len());
    each_member(object, |name, value| {
        if !but.contains(&&*name) {
            let _ = write!(kept, "{}:{value},", quoted(&name));
        }
    });
    kept
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}
