//! Takes out of an event stream what our own `include_usage` put in: the usage chunk, and `"usage":null` in the others.
//! Every other byte passes as it came.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::side::Side;
use crate::dialect::report::Traces;

/// What is held back of an event whose end has not come.
#[derive(Debug, Default)]
pub(super) struct Strip {
    held: BytesMut,
    dropped_last: bool,
}

impl Strip {
    /// Takes a chunk, lets the side view read it, and returns what to pass on.
    pub(super) fn push(&mut self, chunk: Bytes, side: &mut Side) -> Bytes {
        let Some((events, report)) = side.events_of(&chunk) else {
            side.push(&chunk);
            if self.held.is_empty() {
                return chunk;
            }
            // Space in front of what turned out to be a JSON body.
            self.held.extend_from_slice(&chunk);
            return self.held.split().freeze();
        };
        let mut passed = Passed::new(&chunk);
        let mut from = 0;
        let continues_line_end = events.is_after_cr() && chunk.first() == Some(&b'\n');
        if continues_line_end && self.held.is_empty() && self.dropped_last {
            // The second half of the blank line of an event that was dropped.
            from = 1;
        }
        let clear = events.push(&chunk, |event| {
            if event.start > from {
                // Comments, or an event that was too long to be read.
                passed.copy(&self.held.split());
                passed.same(from..event.start);
                from = event.start;
            }
            let traces = report.event(event.name, event.data);
            self.dropped_last = traces.is_usage_chunk;
            if traces.is_usage_chunk {
                self.held.clear();
            } else if let Some(span) = traces.null_usage {
                self.held
                    .extend_from_slice(chunk.get(from..event.end).unwrap_or_default());
                let raw = self.held.split();
                passed.copy(&without_member(&raw, event.data, span));
            } else {
                passed.copy(&self.held.split());
                passed.same(from..event.end);
            }
            from = event.end;
        });
        if clear > from {
            passed.copy(&self.held.split());
            passed.same(from..clear);
            self.dropped_last = false;
            from = clear;
        }
        let rest = from..chunk.len();
        if events.is_skipping() {
            // Too long to be looked at, so there is nothing to wait for.
            passed.copy(&self.held.split());
            passed.same(rest);
            self.dropped_last = false;
        } else {
            self.held
                .extend_from_slice(chunk.get(rest).unwrap_or_default());
        }
        passed.into_bytes()
    }

    /// The stream is over: what was held back, if it is not ours to drop.
    pub(super) fn finish(&mut self, side: &mut Side) -> Bytes {
        let mut kept = self.held.split().freeze();
        if let Some((events, report)) = side.events_of(&[]) {
            events.finish(|event| match report.event(event.name, event.data) {
                Traces {
                    is_usage_chunk: true,
                    ..
                } => kept = Bytes::new(),
                Traces {
                    null_usage: Some(span),
                    ..
                } => kept = without_member(&kept, event.data, span).into(),
                Traces { .. } => {}
            });
        }
        kept
    }
}

/// What of a chunk passes: a slice of it as long as that is possible.
struct Passed<'c> {
    chunk: &'c Bytes,
    same: Range<usize>,
    copied: BytesMut,
}

impl<'c> Passed<'c> {
    fn new(chunk: &'c Bytes) -> Self {
        Self {
            chunk,
            same: 0..0,
            copied: BytesMut::new(),
        }
    }

    fn same(&mut self, range: Range<usize>) {
        if self.copied.is_empty() && self.same.is_empty() {
            self.same = range;
        } else if self.copied.is_empty() && self.same.end == range.start {
            self.same.end = range.end;
        } else if !range.is_empty() {
            self.give_up_sameness();
            self.copied
                .extend_from_slice(self.chunk.get(range).unwrap_or_default());
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.give_up_sameness();
            self.copied.extend_from_slice(bytes);
        }
    }

    fn give_up_sameness(&mut self) {
        let same = std::mem::take(&mut self.same);
        self.copied
            .extend_from_slice(self.chunk.get(same).unwrap_or_default());
    }

    fn into_bytes(self) -> Bytes {
        if self.copied.is_empty() {
            self.chunk.slice(self.same)
        } else {
            self.copied.freeze()
        }
    }
}

/// The raw event without the member that stands at `member` in its data, and without the comma that goes with it.
fn without_member(raw: &[u8], data: &[u8], member: Range<usize>) -> Vec<u8> {
    let cut = with_comma(data, member);
    let mut kept = Vec::with_capacity(raw.len());
    let mut copied = 0;
    let mut in_data = 0;
    for value in data_values(raw) {
        // Data lines are joined by a line feed, which stands nowhere in the raw bytes.
        let start = cut.start.clamp(in_data, in_data + value.len()) - in_data;
        let end = cut.end.clamp(in_data, in_data + value.len()) - in_data;
        kept.extend_from_slice(raw.get(copied..value.start + start).unwrap_or_default());
        copied = value.start + end;
        in_data += value.len() + 1;
    }
    kept.extend_from_slice(raw.get(copied..).unwrap_or_default());
    kept
}

/// A member's span grown by one comma: the one behind it with the space that follows, else the one before it.
fn with_comma(data: &[u8], member: Range<usize>) -> Range<usize> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let behind = data.get(member.end..).unwrap_or_default();
    let space = behind.iter().take_while(|byte| is_space(byte)).count();
    if behind.get(space) == Some(&b',') {
        let after = behind.get(space + 1..).unwrap_or_default();
        let more = after.iter().take_while(|byte| is_space(byte)).count();
        return member.start..member.end + space + 1 + more;
    }
    let before = data.get(..member.start).unwrap_or_default();
    let space = before
        .iter()
        .rev()
        .take_while(|byte| is_space(byte))
        .count();
    let comma = before.len().checked_sub(space + 1);
    match comma.filter(|comma| before.get(*comma) == Some(&b',')) {
        Some(comma) => comma..member.end,
        None => member,
    }
}

/// Where the values of the data lines of a raw event stand.
fn data_values(raw: &[u8]) -> Vec<Range<usize>> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let mut values = Vec::new();
    let mut at = if raw.starts_with(MARK) { MARK.len() } else { 0 };
    while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
        let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..length).unwrap_or_default();
        let value = line
            .strip_prefix(b"data:")
            .or_else(|| line.strip_prefix(b"error:"));
        if let Some(value) = value {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            values.push(at + length - value.len()..at + length);
        }
        at += length + 1;
    }
    values
}
