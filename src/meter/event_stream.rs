//! Splits an event stream into its events, fed with whatever pieces the network delivers.
//!
//! After the WHATWG's "Server-sent events" (HTML standard, section 9.2.6), with two allowances for what servers really send: the last event needs
//! no blank line, and a field named `error` is an error event (GPUStack).

use memchr::{memchr, memchr2};

/// An event as it is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// The `event` field; empty without one.
    pub(super) name: &'a [u8],
    /// The data lines, joined with line feeds.
    pub(super) data: &'a [u8],
    /// Where in the chunk the event begins; 0 when it began in an earlier one.
    pub(super) start: usize,
    /// How far into the chunk the event reaches, its blank line included.
    pub(super) end: usize,
}

/// An incremental splitter. Keeps at most one event, of bounded size.
#[derive(Debug)]
pub(super) struct EventStream {
    event_bytes_max: usize,
    /// The part of a line whose end has not come.
    line: Vec<u8>,
    /// The data lines of the event whose end has not come, unless all of it is in the current chunk.
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    /// Something other than comments has come since the last event.
    has_field: bool,
    event_bytes: usize,
    /// The event is too long: its bytes pass unread up to its blank line.
    skipping: bool,
    /// While skipping: whether the current line has bytes already.
    skipped_line_has_bytes: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
    skipped: u64,
}

/// A longer name is none that matters.
const NAME_BYTES_MAX: usize = 64;

impl EventStream {
    /// Events larger than this pass unread.
    pub(super) fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            has_field: false,
            event_bytes: 0,
            skipping: false,
            skipped_line_has_bytes: false,
            after_cr: false,
            at_start: true,
            skipped: 0,
        }
    }

    /// How many events were too long to be read.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether the event now coming is too long to be read.
    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether a line feed at the start of the next chunk belongs to the line before it.
    pub(super) fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    /// Takes a chunk and hands over every event with data that ends in it. Returns how far the chunk holds nothing of an
    /// unfinished event: the end of the last event, or of the comment lines after it.
    pub(super) fn push<'a>(
        &mut self,
        chunk: &'a [u8],
        mut each: impl for<'e> FnMut(Event<'e>),
    ) -> usize {
        let mut at = 0;
        let mut clear = 0;
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            if chunk.first() == Some(&b'\n') {
                at = 1;
                if !self.has_field {
                    clear = 1;
                }
            }
        }
        // The one data line that nearly every event has, as long as it need not be copied.
        let mut only: Option<&'a [u8]> = None;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.unfinished_line(rest);
                break;
            };
            let (line, ending) = rest.split_at(length);
            at += length + 1;
            if ending.first() == Some(&b'\r') {
                match ending.get(1) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.line_ends(line, &mut only) {
                if self.has_data && !self.skipping {
                    each(Event {
                        name: &self.name,
                        data: only.take().unwrap_or(&self.data),
                        start: clear,
                        end: at,
                    });
                }
                self.reset();
            }
            if !self.has_field && !self.skipping {
                clear = at;
                // Comments are no event: however many come, the next event has room.
                self.event_bytes = 0;
            }
        }
        if let Some(line) = only {
            self.data.extend_from_slice(line);
        }
        clear
    }

    /// The stream is over: hands over an event that lacks its blank line.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        if !self.line.is_empty() {
            let mut only = None;
            self.line_ends(&[], &mut only);
        }
        if self.has_data && !self.skipping {
            each(Event {
                name: &self.name,
                data: &self.data,
                start: 0,
                end: 0,
            });
        }
        self.reset();
    }

    fn unfinished_line(&mut self, part: &[u8]) {
        self.event_bytes += part.len();
        if self.event_bytes > self.event_bytes_max {
            self.skip();
        }
        if self.skipping {
            self.skipped_line_has_bytes = true;
        } else {
            self.line.extend_from_slice(part);
        }
    }

    /// Takes a line whose end has come, of which `line` is what this chunk holds. Says whether it ends the event.
    fn line_ends<'a>(&mut self, line: &'a [u8], only: &mut Option<&'a [u8]>) -> bool {
        self.event_bytes += line.len() + 1;
        if self.event_bytes > self.event_bytes_max && !(line.is_empty() && self.line.is_empty()) {
            self.skip();
            *only = None;
        }
        if self.skipping {
            let is_blank = line.is_empty() && !self.skipped_line_has_bytes;
            self.skipped_line_has_bytes = false;
            return is_blank;
        }
        if self.line.is_empty() {
            let line = self.without_mark(line);
            self.field(line, |stream, value| match *only {
                None if !stream.has_data => *only = Some(value),
                first => {
                    if let Some(first) = first {
                        stream.data.extend_from_slice(first);
                        *only = None;
                    }
                    stream.more_data(value);
                }
            });
            return line.is_empty();
        }
        // The line began in an earlier chunk.
        let mut whole = std::mem::take(&mut self.line);
        whole.extend_from_slice(line);
        let trimmed = self.without_mark(&whole);
        let ends = trimmed.is_empty();
        self.field(trimmed, |stream, value| {
            if let Some(first) = only.take() {
                stream.data.extend_from_slice(first);
            }
            stream.more_data(value);
        });
        whole.clear();
        self.line = whole;
        ends
    }

    /// Reads a line as a field; data goes to `take_data`.
    fn field<'l>(&mut self, line: &'l [u8], take_data: impl FnOnce(&mut Self, &'l [u8])) {
        let (name, value) = match memchr(b':', line) {
            Some(0) => return,
            Some(colon) => {
                let (name, rest) = line.split_at(colon);
                let value = rest.strip_prefix(b":").unwrap_or(rest);
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None if line.is_empty() => return,
            None => (line, &[][..]),
        };
        self.has_field = true;
        match name {
            b"data" => {
                take_data(self, value);
                self.has_data = true;
            }
            b"event" => {
                self.name.clear();
                if value.len() <= NAME_BYTES_MAX {
                    self.name.extend_from_slice(value);
                }
            }
            b"error" => {
                self.name.clear();
                self.name.extend_from_slice(b"error");
                take_data(self, value);
                self.has_data = true;
            }
            _ => {}
        }
    }

    fn more_data(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    /// A byte order mark may stand before the first line.
    fn without_mark<'l>(&mut self, line: &'l [u8]) -> &'l [u8] {
        if std::mem::take(&mut self.at_start) {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        } else {
            line
        }
    }

    fn skip(&mut self) {
        if self.skipping {
            return;
        }
        self.skipping = true;
        self.skipped += 1;
        self.skipped_line_has_bytes = !self.line.is_empty();
        self.line = Vec::new();
        self.data = Vec::new();
    }

    fn reset(&mut self) {
        // One long event must not hold its memory for the rest of the stream.
        const KEPT: usize = 64 << 10;
        for buffer in [&mut self.line, &mut self.data, &mut self.name] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
        self.has_data = false;
        self.has_field = false;
        self.skipping = false;
        self.skipped_line_has_bytes = false;
        self.event_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (String, String);

    fn events(pieces: &[&[u8]]) -> Vec<Owned> {
        let mut stream = EventStream::new(1 << 20);
        let mut events = Vec::new();
        let mut take = |event: Event<'_>| {
            events.push((
                String::from_utf8_lossy(event.name).into_owned(),
                String::from_utf8_lossy(event.data).into_owned(),
            ));
        };
        for piece in pieces {
            stream.push(piece, &mut take);
        }
        stream.finish(&mut take);
        events
    }

    fn data_of(body: &[u8]) -> Vec<String> {
        events(&[body]).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn all_three_line_ends_end_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let body = format!("event: a{end}data: 1{end}{end}data:2{end}{end}");
            let expected = [("a", "1"), ("", "2")].map(|(n, d)| (n.to_owned(), d.to_owned()));
            assert_eq!(events(&[body.as_bytes()]), expected, "{end:?}");
        }
    }

    #[test]
    fn only_one_space_after_the_colon_is_not_data() {
        assert_eq!(data_of(b"data:  two\n\ndata:none\n\n"), [" two", "none"]);
    }

    #[test]
    fn data_lines_of_one_event_are_joined_with_line_feeds() {
        assert_eq!(data_of(b"data: a\ndata:\nid: 7\ndata: b\n\n"), ["a\n\nb"]);
    }

    #[test]
    fn comments_retries_and_events_without_data_are_no_events() {
        let body = b": keep-alive\n\nretry: 3000\n\nevent: ping\n\n:\ndata: x\n\n";
        assert_eq!(events(&[body]), [(String::new(), "x".to_owned())]);
    }

    #[test]
    fn a_byte_order_mark_and_a_missing_last_newline_lose_nothing() {
        assert_eq!(data_of(b"\xef\xbb\xbfdata: a\n\ndata: b"), ["a", "b"]);
        assert_eq!(data_of(b"data: a\n\ndata: b\n"), ["a", "b"]);
    }

    #[test]
    fn a_field_named_error_is_an_error_event() {
        let expected = [("error".to_owned(), r#"{"code":500}"#.to_owned())];
        assert_eq!(events(&[b"error: {\"code\":500}\n\n"]), expected);
    }

    #[test]
    fn an_event_that_is_too_long_is_skipped_and_the_next_one_read() {
        let long = vec![b'x'; 5000];
        let body = [b"data: ", &long[..], b"\ndata: more\n\ndata: next\n\n"].concat();
        for size in [1, 7, 1000, body.len()] {
            let mut stream = EventStream::new(1000);
            let mut read = Vec::new();
            for piece in body.chunks(size) {
                stream.push(piece, |event| read.push(event.data.to_vec()));
                assert!(stream.line.capacity() <= 4096, "memory stays bounded");
            }
            assert_eq!(read, [b"next"], "in pieces of {size}");
            assert_eq!(stream.skipped(), 1);
        }
    }

    #[test]
    fn comments_without_end_do_not_use_up_the_room_of_an_event() {
        let mut stream = EventStream::new(100);
        let mut read = 0;
        for _ in 0..100 {
            stream.push(b": still thinking\n", |_| read += 1);
        }
        stream.push(b"data: x\n\n", |_| read += 1);
        assert_eq!((read, stream.skipped()), (1, 0));
    }

    #[test]
    fn the_clear_part_of_a_chunk_ends_where_an_unfinished_event_begins() {
        let clear = |chunk: &[u8]| EventStream::new(1000).push(chunk, |_| {});
        assert_eq!(clear(b"data: x\n\n"), 9);
        assert_eq!(clear(b"data: x\n\ndata: y\n"), 9);
        assert_eq!(clear(b": comment\ndat"), 10);
        assert_eq!(clear(b"data: x\n"), 0);
    }

    proptest! {
        #[test]
        fn any_cut_of_any_stream_gives_the_same_events(
            body in "(data|event|id|error|:|x|: |:  |\r|\n|\r\n|\n\n|\u{feff}|é|\\{\\}){0,40}",
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let whole = events(&[body.as_bytes()]);
            let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            prop_assert_eq!(&events(&single), &whole);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts {
                pieces.push(&body.as_bytes()[at..cut]);
                at = cut;
            }
            pieces.push(&body.as_bytes()[at..]);
            prop_assert_eq!(&events(&pieces), &whole);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300), max in 1usize..50) {
            let mut stream = EventStream::new(max);
            for piece in body.chunks(3) {
                stream.push(piece, |_| {});
            }
            stream.finish(|_| {});
        }
    }
}
