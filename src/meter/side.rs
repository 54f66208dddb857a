//! The side view of an answer: its decoded bytes on their way into a [`Report`].

use bytes::{Bytes, BytesMut};

use super::MeterCaps;
use super::event_stream::{Event, EventStream};
use crate::dialect::report::{End, Reading, Report};

/// Reads an answer's bytes, decoded, as events or as one JSON body.
pub(super) struct Side {
    report: Report,
    shape: Shape,
    /// What is called an event stream may be a JSON body all the same: known once its first byte has come.
    is_sure: bool,
    body_bytes_max: usize,
}

enum Shape {
    Events(EventStream),
    Body(Body),
}

impl Side {
    pub(super) fn new(report: Report, event_stream: bool, caps: &MeterCaps) -> Self {
        Self {
            report,
            shape: if event_stream {
                Shape::Events(EventStream::new(caps.line_bytes))
            } else {
                Shape::Body(Body::new(caps.body_bytes))
            },
            is_sure: !event_stream,
            body_bytes_max: caps.body_bytes,
        }
    }

    /// Looks at the first byte: no line of an event stream begins with a brace.
    fn look(&mut self, bytes: &[u8]) {
        let Some(first) = bytes.trim_ascii_start().first() else {
            return;
        };
        if *first == b'{' {
            self.shape = Shape::Body(Body::new(self.body_bytes_max));
        }
        self.is_sure = true;
    }

    /// Whether it is read as one JSON body.
    pub(super) fn is_body(&self) -> bool {
        matches!(self.shape, Shape::Body(_))
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    pub(super) fn report_mut(&mut self) -> &mut Report {
        &mut self.report
    }

    /// Takes bytes that stay where they are.
    pub(super) fn push(&mut self, chunk: &Bytes) {
        if !self.is_sure {
            self.look(chunk);
        }
        match &mut self.shape {
            Shape::Events(events) => {
                let report = &mut self.report;
                events.push(chunk, |event| {
                    report.event(event.name, event.data);
                });
            }
            Shape::Body(body) => body.push(chunk),
        }
    }

    /// Takes bytes that are gone afterwards.
    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        if !self.is_sure {
            self.look(bytes);
        }
        match &mut self.shape {
            Shape::Events(events) => {
                let report = &mut self.report;
                events.push(bytes, |event| {
                    report.event(event.name, event.data);
                });
            }
            Shape::Body(body) => body.push_copy(bytes),
        }
    }

    /// The parts, for one who has to decide about each event of this chunk; `None` for a body.
    pub(super) fn events_of(&mut self, chunk: &[u8]) -> Option<(&mut EventStream, &mut Report)> {
        if !self.is_sure {
            self.look(chunk);
        }
        match &mut self.shape {
            Shape::Events(events) => Some((events, &mut self.report)),
            Shape::Body(_) => None,
        }
    }

    pub(super) fn finish(&mut self, end: End) -> Reading {
        let mut skipped_events = 0;
        let mut too_long = false;
        match &mut self.shape {
            Shape::Events(events) => {
                events.finish(|Event { name, data, .. }| {
                    self.report.event(name, data);
                });
                skipped_events = events.skipped();
            }
            Shape::Body(body) => {
                too_long = body.too_long;
                if !too_long {
                    self.report.body(&body.joined());
                }
            }
        }
        let reading = self.report.finish(end);
        Reading {
            skipped_events,
            gave_up: too_long || (skipped_events > 0 && reading.usage.is_none()),
            ..reading
        }
    }
}

/// A body kept until it is whole: the chunks as they came, small ones gathered.
struct Body {
    chunks: Vec<Bytes>,
    gathered: BytesMut,
    bytes: usize,
    bytes_max: usize,
    too_long: bool,
    /// Whether it is an object, once the first byte has come: sound, images and lists report nothing, so they are not kept.
    is_object: Option<bool>,
}

/// A kept chunk costs its handle, and may hold on to a larger buffer that it is a slice of: smaller ones are copied.
const SMALL_CHUNK_BYTES: usize = 2 << 10;

impl Body {
    fn new(bytes_max: usize) -> Self {
        Self {
            chunks: Vec::new(),
            gathered: BytesMut::new(),
            bytes: 0,
            bytes_max,
            too_long: false,
            is_object: None,
        }
    }

    /// Space in front of the body is no part of it.
    fn push(&mut self, chunk: &Bytes) {
        if chunk.len() < SMALL_CHUNK_BYTES || (self.is_object.is_none() && begins_with_space(chunk))
        {
            return self.push_copy(chunk);
        }
        if self.keeps(chunk) {
            if !self.gathered.is_empty() {
                self.chunks.push(self.gathered.split().freeze());
            }
            self.chunks.push(chunk.clone());
        }
    }

    fn push_copy(&mut self, bytes: &[u8]) {
        let bytes = match self.is_object {
            None => bytes.trim_ascii_start(),
            Some(_) => bytes,
        };
        if self.keeps(bytes) {
            self.gathered.extend_from_slice(bytes);
        }
    }

    fn keeps(&mut self, more: &[u8]) -> bool {
        if self.is_object.is_none() {
            // 0xEF begins a byte order mark.
            self.is_object = more.first().map(|first| matches!(first, b'{' | 0xef));
        }
        if self.is_object == Some(false) {
            return false;
        }
        self.bytes = self.bytes.saturating_add(more.len());
        if self.bytes > self.bytes_max && !self.too_long {
            self.too_long = true;
            self.chunks = Vec::new();
            self.gathered = BytesMut::new();
        }
        !self.too_long
    }

    fn joined(&mut self) -> Bytes {
        if self.chunks.is_empty() {
            return self.gathered.split().freeze();
        }
        if let ([only], true) = (self.chunks.as_slice(), self.gathered.is_empty()) {
            return only.clone();
        }
        let mut all = BytesMut::with_capacity(self.bytes);
        for chunk in self.chunks.drain(..) {
            all.extend_from_slice(&chunk);
        }
        all.extend_from_slice(&self.gathered);
        all.freeze()
    }
}

fn begins_with_space(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_whitespace)
}
