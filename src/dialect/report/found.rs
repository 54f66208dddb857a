//! The members of an answer that matter, raw, and what they say of themselves.

use std::borrow::Cow;

use super::super::json::{each_member, span_in, text};
use super::figures::{Beside, Figures};
use super::repeat::Unread;
use super::{Traces, short};

/// The members of an object that matter, raw.
#[derive(Default)]
pub(super) struct Found<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) service_tier: Option<&'a str>,
    pub(super) usage: Option<&'a str>,
    /// What `usage` says.
    pub(super) report: Option<(Figures, Beside<'a>)>,
    /// The name of `usage` as it stands in the text, without quotes.
    pub(super) usage_name: Option<&'a str>,
    pub(super) usage_metadata: Option<&'a str>,
    pub(super) x_groq_usage: Option<&'a str>,
    pub(super) choices: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) status: Option<&'a str>,
    pub(super) background: Option<&'a str>,
    pub(super) created_at: Option<&'a str>,
    pub(super) response: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    pub(super) output: Option<&'a str>,
    pub(super) tools: Option<&'a str>,
    pub(super) tool_usage: Option<&'a str>,
    /// The images of an answer that is nothing else.
    pub(super) data: Option<&'a str>,
    pub(super) output_index: Option<&'a str>,
    pub(super) item: Option<&'a str>,
    pub(super) delta: Option<&'a str>,
    pub(super) index: Option<&'a str>,
    pub(super) content: Option<&'a str>,
    pub(super) content_block: Option<&'a str>,
    pub(super) unread: Unread<'a>,
}

impl<'a> Found<'a> {
    pub(super) fn member(&mut self, name: Cow<'a, str>, value: &'a str) {
        let field = match &*name {
            "id" => &mut self.id,
            "model" => &mut self.model,
            "service_tier" => &mut self.service_tier,
            "usage" => {
                // Of one that is written with escapes it is not known where it stands.
                self.usage_name = match name {
                    Cow::Borrowed(name) => Some(name),
                    Cow::Owned(_) => None,
                };
                &mut self.usage
            }
            "usageMetadata" => &mut self.usage_metadata,
            "x_groq" => {
                each_member(value, |name, value| {
                    if name == "usage" {
                        self.x_groq_usage = Some(value);
                    }
                });
                return;
            }
            "choices" => &mut self.choices,
            "error" => &mut self.error,
            "type" => &mut self.kind,
            "status" => &mut self.status,
            "background" => &mut self.background,
            "created_at" => &mut self.created_at,
            "response" => &mut self.response,
            "message" => &mut self.message,
            "output" => &mut self.output,
            "tools" => &mut self.tools,
            "tool_usage" => &mut self.tool_usage,
            "data" => &mut self.data,
            "output_index" => &mut self.output_index,
            "item" => &mut self.item,
            "delta" => &mut self.delta,
            "index" => &mut self.index,
            "content" => &mut self.content,
            "content_block" => &mut self.content_block,
            _ => return self.unread.note(value),
        };
        *field = Some(value);
    }

    /// Whether nothing is said beside text, or nothing that would say more when it is said again.
    pub(super) fn is_mere_text(&self) -> bool {
        let parts = [
            self.usage_metadata,
            self.x_groq_usage,
            self.response,
            self.message,
            self.item,
        ];
        parts.iter().all(Option::is_none)
            && self.usage.is_none_or(|usage| usage == "null")
            && !self.error.is_some_and(is_truthy)
    }

    /// What of the event our `include_usage` may have caused, given whether its `usage` is a report.
    pub(super) fn traces(&self, json: &str, whole: bool, reports_usage: bool) -> Traces {
        let Some(usage) = self.usage.filter(|_| whole) else {
            return Traces::default();
        };
        let no_choices = self.choices.is_none_or(|choices| {
            choices == "null" || choices.trim_matches(['[', ']']).trim().is_empty()
        });
        let span = || {
            let name = span_in(json.as_bytes(), self.usage_name?)?;
            let value = span_in(json.as_bytes(), usage)?;
            Some(name.start.checked_sub(1)?..value.end)
        };
        Traces {
            is_usage_chunk: no_choices
                && usage.starts_with('{')
                && reports_usage
                && !self.error.is_some_and(is_truthy),
            null_usage: (usage == "null").then(span).flatten(),
        }
    }
}

/// Whether an SDK would raise: `null`, `false`, `0`, `""`, `[]` and `{}` are no error.
pub(super) fn is_truthy(value: &str) -> bool {
    let inside = value.trim_matches(['{', '}', '[', ']', '"']).trim();
    !matches!(inside, "" | "null" | "false" | "0")
}

/// An upstream's message may quote the prompt: enough to know what is wrong, no more.
const ERROR_BYTES_MAX: usize = 300;

/// What an error says: `{"message":…}`, `{"error":{"message":…}}`, `{"detail":…}`, a text, or what there is. Cut.
pub(super) fn error_message(json: &str) -> String {
    let mut message = None;
    let mut inner = None;
    each_member(json, |name, value| match &*name {
        "message" => message = text(value).or(message.take()),
        "error" | "detail" if value != "null" => inner = Some(value),
        _ => {}
    });
    let message = message
        .or_else(|| {
            let inner = inner?;
            let mut deeper = None;
            each_member(inner, |name, value| {
                if name == "message" {
                    deeper = text(value);
                }
            });
            deeper.or_else(|| text(inner))
        })
        .or_else(|| text(json))
        .unwrap_or(Cow::Borrowed(json));
    short(&message, ERROR_BYTES_MAX).map_or_else(|| "error".to_owned(), String::from)
}
