//! Where usage sits in an answer, normalised to totals that contain their parts.
//!
//! A [`Report`] takes an answer event by event, or whole, and looks for what providers are known to write where; it goes
//! by names, not by who the upstream is, since a compatible server may answer in several habits at once.

mod calls;
mod events;
mod figures;
mod found;
mod output;
mod reading;
mod repeat;
mod reported;
#[cfg(test)]
mod shapes;

use std::borrow::Cow;
use std::ops::Range;

pub use calls::Calls;
pub use output::{ChoiceText, OutputText, ToolText};
pub use reading::{End, Reading, ServedPart};

use self::figures::{Beside, Figures, Habit};
use self::found::{Found, error_message, is_truthy};
use self::output::Collector;
use self::repeat::Repeat;
use self::reported::Reported;
use super::json::{Walk, each_element, text, walk_members};
use super::length_stop::LengthStop;
use super::{Dialect, Endpoint};
use crate::ids::ModelName;

/// What an answer has said so far.
#[derive(Debug)]
pub struct Report {
    habit: Habit,
    collector: Collector,
    repeat: Option<Box<Repeat>>,
    reported: Reported,
    /// The figures seen are the bill, not a state on the way to it.
    settled: bool,
    /// Output has come since they were seen.
    outgrown: bool,
    complete: bool,
    queued: bool,
    background: bool,
    created_at: Option<i64>,
    served_model: Option<ModelName>,
    response_id: Option<Box<str>>,
    calls: Calls,
    /// The answer is images and nothing else.
    makes_images: bool,
    /// How many they are.
    images: u64,
    failed: Option<String>,
    /// What is needed to end the stream early, where that may come.
    stop: Option<LengthStop>,
}

/// What of an event our `include_usage` may have caused. Spans are of the event's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The event is the usage chunk: `usage` is a report, `choices` is empty or absent, and no error is with them.
    pub is_usage_chunk: bool,
    /// Where a `"usage":null` stands, from its name to its `null`.
    pub null_usage: Option<Range<usize>>,
}

impl Report {
    /// For an answer of `endpoint` by an upstream of `dialect`; keeps at most `text_bytes_max` of its text.
    pub fn new(endpoint: &Endpoint, dialect: Dialect, text_bytes_max: usize) -> Self {
        let habit = match (endpoint, dialect) {
            (Endpoint::Messages, _) | (_, Dialect::Anthropic) => Habit::Messages,
            (Endpoint::Embeddings, _) => Habit::Embeddings,
            _ => Habit::Chat,
        };
        Self {
            habit,
            collector: Collector::new(text_bytes_max),
            repeat: None,
            reported: Reported::new(),
            settled: false,
            outgrown: false,
            complete: false,
            queued: false,
            background: false,
            created_at: None,
            served_model: None,
            response_id: None,
            calls: Calls::default(),
            makes_images: matches!(endpoint, Endpoint::Other(name) if name.starts_with("images.")),
            images: 0,
            failed: None,
            stop: None,
        }
    }

    /// Notes from here on what is needed to end the stream early.
    pub fn prepare_stop(&mut self, stop: LengthStop) {
        self.stop = Some(stop);
    }

    /// What the stream's early end needs, if it was prepared.
    pub fn take_stop(&mut self) -> Option<LengthStop> {
        self.stop.take()
    }

    /// The text that came so far.
    pub fn output(&self) -> &OutputText {
        &self.collector.output
    }

    /// Takes an event of a stream: its `event` field, and its data lines joined.
    pub fn event(&mut self, name: &[u8], data: &[u8]) -> Traces {
        // OpenAI's SDK takes any data that starts like this for the end.
        if data.starts_with(b"[DONE]") {
            self.complete = true;
            self.settled = true;
            return Traces::default();
        }
        let data = lossy(data);
        if let Some(stop) = &mut self.stop {
            stop.event(&data);
        }
        if let (Some(repeat), Cow::Borrowed(data)) = (&self.repeat, &data)
            && name != b"error"
            && let Some((piece, text, traces)) = repeat.read(data)
        {
            self.collector.another(piece, text);
            self.outgrown |= self.collector.take_grew();
            return traces;
        }
        let mut traces = self.object(&data, Place::Event);
        if matches!(data, Cow::Owned(_)) {
            // The bytes were mended, so the span is of another text.
            traces.null_usage = None;
        }
        if name == b"error" && self.failed.is_none() {
            self.failed = Some(error_message(&data));
        }
        traces
    }

    /// Takes a whole JSON answer. Says whether it was one JSON object.
    pub fn body(&mut self, body: &[u8]) -> bool {
        let body = lossy(body);
        let mut whole = false;
        self.object_checked(body.trim_start_matches('\u{feff}'), Place::Body, &mut whole);
        self.complete |= whole;
        self.settled |= whole;
        whole
    }

    /// Whether the first piece of output has come.
    pub fn saw_first_output(&self) -> bool {
        self.collector.first_seen()
    }

    /// Whether the dialect's own end mark has come.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What the answer said, once: it takes it out.
    pub fn finish(&mut self, end: End) -> Reading {
        let beside =
            self.calls.shells > 0 || (self.calls.images > 0 && !self.reported.names_image_tool());
        let service_tier = self.reported.served_tier();
        let absurd = self.reported.was_absurd();
        let (usage, parts) = self
            .reported
            .usage(self.habit, self.served_model.as_ref(), &self.calls)
            .unzip();
        let usage_final = usage.is_some()
            && !self.outgrown
            && (self.settled || (end == End::Complete && self.habit != Habit::Messages));
        Reading {
            usage,
            usage_final,
            parts: parts.unwrap_or_default(),
            served_model: self.served_model.take(),
            service_tier,
            response_id: self.response_id.take(),
            queued: self.queued,
            background: self.background,
            created_at: self.created_at,
            output: std::mem::take(&mut self.collector.output),
            calls: std::mem::take(&mut self.calls),
            billed_beside: beside,
            images: self.images,
            failed: self.failed.take(),
            absurd,
            skipped_events: 0,
            gave_up: false,
        }
    }

    fn object(&mut self, json: &str, place: Place) -> Traces {
        self.object_checked(json, place, &mut false)
    }

    fn object_checked(&mut self, json: &str, place: Place, whole: &mut bool) -> Traces {
        let mut found = Found::default();
        let mut finished = false;
        let mut has_choices = false;
        let mut choice_usage = None;
        if place == Place::Event {
            self.collector.begin_event();
        }
        *whole = walk_members(json, |name, walk| {
            // What is read of every answer is read on the way: its usage, and the choices of an event, in which most of it is.
            let value = if place == Place::Event && name == "choices" && walk.is_at(b'[') {
                walk.value_by(|walk| {
                    walk.elements(|walk| {
                        has_choices = true;
                        if !walk.is_at(b'{') {
                            return walk.value().map(drop);
                        }
                        let chosen = self.collector.choice(walk)?;
                        finished |= chosen.finished;
                        choice_usage = chosen
                            .usage
                            .filter(|usage| *usage != "null")
                            .or(choice_usage);
                        Some(())
                    })
                })?
            } else if name == "usage" {
                let (mut figures, mut beside) = (Figures::default(), Beside::default());
                let value = walk.value_read_by(|walk| figures.walk(walk, &mut beside))?;
                found.report = Some((figures, beside));
                value
            } else {
                walk.value()?
            };
            found.member(name, value);
            Some(())
        });
        // Before anything else: parts of the usage go to the model that is named here.
        if let Some(model) = found.model.and_then(text).filter(|model| !model.is_empty())
            && self
                .served_model
                .as_ref()
                .is_none_or(|known| known.as_str() != model)
        {
            self.served_model = Some(ModelName::new(&model));
        }
        if self.response_id.is_none() {
            self.response_id = found
                .id
                .and_then(text)
                .and_then(|id| short(&id, ID_BYTES_MAX));
        }
        self.reported.tier(found.service_tier);
        let kind = found.kind.and_then(text).unwrap_or_default();
        match place {
            Place::Event => self.stream_event(&kind, &found),
            Place::Body => self.whole_body(&found),
            Place::Response => self.response(&found),
            Place::Message => {}
        }
        let report = found.report.take();
        let reports_usage = report.is_some_and(|report| self.reported.take(report));
        let mut has_usage = reports_usage;
        for usage in [found.usage_metadata, found.x_groq_usage, choice_usage] {
            has_usage |= usage.is_some_and(|usage| self.reported.take(Figures::read(usage)));
        }
        // The text of a whole answer that reports its usage is never counted.
        let counts_text = place == Place::Body && (!has_usage || self.reported.was_absurd());
        if let Some(choices) = found.choices.filter(|_| counts_text) {
            each_element(choices, |choice| {
                has_choices = true;
                let chosen = self.collector.choice(&mut Walk::new(choice));
                let chosen = chosen.unwrap_or_default();
                finished |= chosen.finished;
                has_usage |= chosen
                    .usage
                    .is_some_and(|usage| self.reported.take(Figures::read(usage)));
            });
        }
        let grew = self.collector.take_grew();
        self.outgrown = !has_usage && (self.outgrown || grew);
        if has_usage && (finished || !has_choices) && self.habit != Habit::Messages {
            self.settled = true;
        }
        if let Some(error) = found.error.filter(|error| is_truthy(error)) {
            self.failed = Some(error_message(error));
        } else if kind == "error" {
            self.failed = Some(error_message(json));
        }
        let traces = found.traces(json, *whole, reports_usage);
        if place == Place::Event {
            let mere_text = *whole
                && !finished
                && kind != "error"
                && choice_usage.is_none()
                && found.is_mere_text();
            match self.collector.only_piece().filter(|_| mere_text) {
                Some(piece) => {
                    let repeat = self.repeat.get_or_insert_default();
                    repeat.learn(json, &found.unread, piece, &traces);
                }
                None => {
                    if let Some(repeat) = &mut self.repeat {
                        repeat.forget();
                    }
                }
            }
        }
        traces
    }
}

/// Longer ids are cut.
pub(crate) const ID_BYTES_MAX: usize = 128;

/// Where an object stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Event,
    Body,
    /// `response` in an event of OpenAI's Responses.
    Response,
    /// `message` in Anthropic's `message_start`.
    Message,
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    // Nearly always valid, which this finds out several times as fast as the lossy reader.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Printable and bounded; `None` when nothing is left.
fn short(text: &str, bytes_max: usize) -> Option<Box<str>> {
    let cut = text.get(..text.floor_char_boundary(bytes_max))?;
    // Nearly every id and tier has nothing else.
    if cut.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return (!cut.is_empty()).then(|| cut.into());
    }
    let kept: String = cut.chars().filter(|c| !c.is_control()).collect();
    (!kept.is_empty()).then(|| kept.into())
}
