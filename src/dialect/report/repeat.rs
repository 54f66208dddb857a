//! Events that repeat the one before in all but their text.
//!
//! Nearly every event of a stream is such a one, and reading it anew finds out again what is known. What an event is read
//! for was found by walking over it; where the bytes that were walked over are the same, and so are the places at which a
//! value begins and ends, the walk would find the same. So it is not done: the text is taken from where it stood.

use std::ops::Range;

use super::super::json::{Walk, span_in};
use super::Traces;
use super::output::Piece;

/// Values that nothing is read from and that may differ from event to event (`created`, `sequence_number`, OpenAI's
/// `obfuscation`): so many of an event are told apart.
const UNREAD_MAX: usize = 12;
/// A longer event is read by itself.
const EVENT_BYTES_MAX: usize = 4 << 10;

/// The event that came last, if the next one may repeat it.
#[derive(Debug, Default)]
pub(super) struct Repeat {
    event: String,
    /// In the order in which they stand in the event.
    values: Vec<Value>,
    piece: Piece,
    null_usage: Option<Range<usize>>,
}

/// A value that may be another one in an event that says the same.
#[derive(Debug)]
struct Value {
    span: Range<usize>,
    /// It has been another one before. One that never changed is compared with the rest.
    changes: bool,
    is_text: bool,
}

/// The values of an object's members that nothing is read from, raw.
#[derive(Default)]
pub(super) struct Unread<'a> {
    values: [&'a str; UNREAD_MAX],
    count: usize,
}

impl<'a> Unread<'a> {
    pub(super) fn note(&mut self, value: &'a str) {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count += 1;
        }
    }
}

impl Repeat {
    /// The next event repeats nothing.
    pub(super) fn forget(&mut self) {
        self.values.clear();
    }

    /// Takes note of an event whose only text is `piece`, and which says nothing else that the one before it did not.
    pub(super) fn learn(
        &mut self,
        event: &str,
        unread: &Unread<'_>,
        piece: Piece,
        traces: &Traces,
    ) {
        let before = std::mem::take(&mut self.values);
        let text = piece.span_in(event);
        if event.len() > EVENT_BYTES_MAX || text.is_none() {
            return;
        }
        let unread = unread.values.iter().take(unread.count);
        let unread = unread.filter_map(|value| span_in(event.as_bytes(), value));
        let value = |is_text| {
            move |span| Value {
                span,
                changes: is_text,
                is_text,
            }
        };
        self.values.extend(text.into_iter().map(value(true)));
        self.values.extend(unread.map(value(false)));
        self.values.sort_unstable_by_key(|value| value.span.start);
        if before.len() == self.values.len() {
            for (old, new) in before.iter().zip(&mut self.values) {
                let other = self.event.get(old.span.clone()) != event.get(new.span.clone());
                new.changes |= old.changes || other;
            }
        }
        self.event.clear();
        self.event.push_str(event);
        self.piece = piece;
        self.null_usage = traces.null_usage.clone();
    }

    /// If `event` repeats the last one: its text, a JSON string, with the place where it belongs, and its traces.
    pub(super) fn read<'e>(&self, event: &'e str) -> Option<(&Piece, &'e str, Traces)> {
        let mut text = None;
        let mut null_usage = self.null_usage.clone();
        // How far the event and the last one have been compared.
        let (mut at, mut last_at) = (0, 0);
        for value in self.values.iter().filter(|value| value.changes) {
            let same = self.event.get(last_at..value.span.start)?;
            let rest = event.get(at..)?.strip_prefix(same)?;
            let raw = Walk::new(rest).value()?;
            if value.is_text {
                text = Some(raw).filter(|raw| raw.starts_with('"'));
            }
            at += same.len() + raw.len();
            last_at = value.span.end;
            if let (Some(moved), Some(null)) = (&mut null_usage, &self.null_usage)
                && null.start >= last_at
            {
                let start = null.start - last_at + at;
                *moved = start..start + null.len();
            }
        }
        let same = event.get(at..)? == self.event.get(last_at..)?;
        let traces = Traces {
            is_usage_chunk: false,
            null_usage,
        };
        text.filter(|_| same)
            .map(|text| (&self.piece, text, traces))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{End, Report};
    use crate::dialect::{Dialect, Endpoint};

    fn report() -> Report {
        Report::new(&Endpoint::ChatCompletions, Dialect::OpenAi, 1 << 20)
    }

    fn chunk(text: &str, more: &str) -> String {
        let text = serde_json::to_string(text).unwrap();
        format!(
            r#"{{"id":"c1","created":1,"model":"m","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]{more}}}"#
        )
    }

    /// Whether each event was read as a repetition.
    fn repeats<const N: usize>(events: [&str; N]) -> [bool; N] {
        let mut report = report();
        events.map(|event| {
            let repeat = report.repeat.as_ref();
            let repeated = repeat.is_some_and(|repeat| repeat.read(event).is_some());
            report.event(b"", event.as_bytes());
            repeated
        })
    }

    #[test]
    fn from_the_second_on_chunks_are_read_by_their_text_alone() {
        let texts = ["a", "", "b \"quoted\" \\", "{]", "\u{1f600}"];
        let chunks = texts.map(|text| chunk(text, r#","usage":null"#));
        let chunks = chunks.each_ref().map(String::as_str);
        assert_eq!(repeats(chunks), [false, true, true, true, true]);
    }

    #[test]
    fn a_number_or_padding_that_changes_is_passed_over_from_the_third_on() {
        let chunks = [1, 2, 3, 40].map(|number| {
            let padding = "x".repeat(number);
            chunk(
                "a",
                &format!(r#","number":{number},"obfuscation":"{padding}""#),
            )
        });
        let chunks = chunks.each_ref().map(String::as_str);
        assert_eq!(repeats(chunks), [false, false, true, true]);
    }

    #[test]
    fn what_says_more_than_text_is_read_whole() {
        for more in [
            r#","usage":{"prompt_tokens":1,"completion_tokens":2}"#,
            r#","error":{"message":"no"}"#,
            r#","service_tier":"flex""#,
            r#","model":"other""#,
        ] {
            let (plain, other) = (chunk("a", ""), chunk("a", more));
            assert_eq!(repeats([&plain, &other]), [false, false], "{more}");
        }
        let stopped = chunk("a", "").replace("null}", "\"stop\"}");
        assert_eq!(repeats([&chunk("a", ""), &stopped]), [false, false]);
        assert_eq!(repeats([&stopped, &stopped]), [false, false]);
    }

    fn events() -> impl Strategy<Value = String> {
        let text = "[a\"\\\\,:{}\\[\\]é😀\n]{0,6}";
        let more = prop_oneof![
            3 => Just(String::new()),
            3 => Just(r#","usage":null"#.to_owned()),
            2 => (0..20u32).prop_map(|number| format!(r#","number":{number}"#)),
            2 => ("[ab\\\\\"]{0,3}", 0..3u32).prop_map(|(padding, number)| {
                let padding = serde_json::to_string(&padding).unwrap();
                format!(r#","n":[{number}],"usage":null,"obfuscation":{padding}"#)
            }),
            1 => (0..9u32).prop_map(|output| format!(
                r#","usage":{{"prompt_tokens":7,"completion_tokens":{output}}}"#
            )),
            1 => Just(r#","error":{"message":"no"}"#.to_owned()),
            1 => Just(r#","content":5"#.to_owned()),
        ];
        let chunks = (text, more).prop_map(|(text, more)| chunk(&text, &more));
        let chunks = (chunks, 0..8u8).prop_map(|(chunk, twist)| match twist {
            0 => chunk.replace("null}", "\"stop\"}"),
            1 => chunk.replace("\"content\"", "\"reasoning_content\""),
            2 => chunk.replace("\"index\":0", "\"index\":1"),
            3 => chunk[..chunk.len() - 1].to_owned(),
            _ => chunk,
        });
        let typed = (text, 0..3u32, 0..5u32).prop_map(|(text, number, index)| {
            let text = serde_json::to_string(&text).unwrap();
            match index {
                0 => format!(
                    r#"{{"type":"content_block_delta","index":{number},"delta":{{"type":"input_json_delta","partial_json":{text}}}}}"#
                ),
                1 => format!(
                    r#"{{"type":"content_block_start","index":{number},"content_block":{{"name":{text},"input":{{"a":1}}}}}}"#
                ),
                2 => format!(
                    r#"{{"usage":null,"choices":[{{"delta":{{"content":{text}}}}}],"\u0075sage":null}}"#
                ),
                3 => format!(
                    r#"{{"choices":[{{"delta":{{"content":[{{"a":q","text":{text},"b":q"}}]}}}}]}}"#
                ),
                _ => format!(
                    r#"{{"type":"response.output_text.delta","sequence_number":{number},"output_index":0,"delta":{text}}}"#
                ),
            }
        });
        prop_oneof![3 => chunks, 1 => typed]
    }

    proptest! {
        #[test]
        fn a_stream_says_what_it_says_without_repetitions(
            events in prop::collection::vec((events(), 1..4usize), 0..10),
        ) {
            let (mut quick, mut slow) = (report(), report());
            for event in events.iter().flat_map(|(event, times)| std::iter::repeat_n(event, *times)) {
                slow.repeat = None;
                prop_assert_eq!(quick.event(b"", event.as_bytes()), slow.event(b"", event.as_bytes()));
                prop_assert_eq!(quick.saw_first_output(), slow.saw_first_output());
                prop_assert_eq!(quick.is_complete(), slow.is_complete());
            }
            prop_assert_eq!(
                format!("{:?}", quick.finish(End::Complete)),
                format!("{:?}", slow.finish(End::Complete))
            );
        }
    }
}
