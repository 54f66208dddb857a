//! What OpenAI's Responses and Anthropic's Messages say in events of many types, and in one whole answer.

use super::super::json::each_element;
use super::calls::Calls;
use super::found::Found;
use super::{Place, Report};

impl Report {
    /// The parts of an event that Responses and Messages name by its type.
    pub(super) fn stream_event(&mut self, kind: &str, found: &Found<'_>) {
        if let Some(response) = found.response {
            self.object(response, Place::Response);
        }
        if let Some(message) = found.message {
            self.object(message, Place::Message);
        }
        let index = |value: Option<&str>| value.and_then(|value| value.parse().ok()).unwrap_or(0);
        match kind {
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.complete = true;
                self.settled = true;
                self.queued = false;
                if kind == "response.failed" && self.failed.is_none() {
                    self.failed = Some("the response failed".to_owned());
                }
            }
            "response.output_item.added" => {
                if let Some(item) = found.item {
                    self.collector
                        .response_item_added(index(found.output_index), item);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = found.item {
                    self.calls.take_item(item);
                }
            }
            "message_stop" | "transcript.text.done" | "speech.audio.done" => self.complete = true,
            // Others may follow.
            "image_generation.completed" | "image_edit.completed" => self.images += 1,
            "message_delta" => {
                self.settled |= found
                    .report
                    .as_ref()
                    .is_some_and(|(figures, _)| figures.has_output());
            }
            "content_block_start" | "content_block_delta" => {
                if let Some(block) = found.content_block {
                    self.calls.take_block(block);
                }
                if let Some(block) = found.content_block.or(found.delta) {
                    self.collector.block(index(found.index), block);
                }
            }
            _ if kind.starts_with("response.") && kind.ends_with(".delta") => {
                if let Some(delta) = found.delta {
                    self.collector
                        .response_delta(kind, index(found.output_index), delta);
                }
            }
            _ => {}
        }
    }

    /// A JSON answer is a chat completion, a response or a message.
    pub(super) fn whole_body(&mut self, found: &Found<'_>) {
        self.response(found);
        if let Some(content) = found.content {
            let mut index = 0;
            each_element(content, |block| {
                self.collector.block(index, block);
                index += 1;
            });
        }
        if let Some(data) = found.data.filter(|_| self.makes_images) {
            each_element(data, |_| self.images += 1);
        }
        if found.status == Some("\"failed\"") && self.failed.is_none() {
            self.failed = Some("the response failed".to_owned());
        }
    }

    /// A response of OpenAI's Responses, on its own or inside an event.
    pub(super) fn response(&mut self, found: &Found<'_>) {
        self.background |= found.background == Some("true");
        let created_at = found.created_at.and_then(|seconds| seconds.parse().ok());
        self.created_at = created_at.or(self.created_at);
        self.queued = match found.status {
            Some("\"queued\"") => true,
            // Polled or streamed in the background; without a background a whole answer is never "in progress".
            Some("\"in_progress\"") if found.background == Some("true") => !found
                .report
                .as_ref()
                .is_some_and(|(figures, _)| figures.is_report()),
            _ => false,
        };
        if let (Some(tool_usage), Some(tools)) = (found.tool_usage, found.tools) {
            self.reported.take_image_tool(tool_usage, tools);
        }
        let Some(output) = found.output else { return };
        let collect = self.collector.output.is_empty();
        let mut calls = Calls::default();
        let mut index = 0;
        each_element(output, |item| {
            calls.take_item(item);
            if collect {
                self.collector.response_item(index, item);
            }
            index += 1;
        });
        self.calls = self.calls.max(calls);
    }
}
