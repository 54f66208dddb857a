//! The meter: reads an answer as it passes, leaves its bytes alone, and says what was used.

pub mod count;
mod decode;
mod event_stream;
mod side;
mod strip;

#[cfg(test)]
mod recordings;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use crate::dialect::report::{
    ChoiceText, End, OutputText, Reading, Report, ServedPart, ToolText,
};

use self::decode::Decoder;
use self::side::Side;
use self::strip::Strip;
use crate::dialect::length_stop::LengthStop;
use crate::dialect::{Dialect, Endpoint};

/// What a meter must know of the request and of the head of its answer.
#[derive(Clone, Debug)]
pub struct MeterSettings {
    /// What was asked for.
    pub endpoint: Endpoint,
    /// How the upstream speaks.
    pub dialect: Dialect,
    /// Whether the answer is an event stream by its head. One that turns out to be a JSON object is read as that.
    pub event_stream: bool,
    /// The answer's content encoding.
    pub encoding: Option<ContentEncoding>,
    /// Take out what our `include_usage` caused. Only for an answer without encoding; with one it is not done.
    pub strip_usage: bool,
    /// How much the meter reads and keeps; forwarding is never bounded by it.
    pub caps: MeterCaps,
}

/// How much a meter reads and keeps of one answer, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MeterCaps {
    /// The longest line of an event stream that is read; longer ones pass unread. The last event of a stream holds every
    /// image that was made in it, beside its usage.
    pub line_bytes: usize,
    /// The longest JSON answer that is read.
    pub body_bytes: usize,
    /// What a compressed answer may decode to before the meter gives up.
    pub decoded_bytes: usize,
    /// Output text kept for counting.
    pub text_bytes: usize,
}

impl Default for MeterCaps {
    fn default() -> Self {
        Self {
            line_bytes: 32 << 20,
            body_bytes: 64 << 20,
            decoded_bytes: 256 << 20,
            text_bytes: 4 << 20,
        }
    }
}

/// A content encoding that the meter can read through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentEncoding {
    /// `gzip`, `x-gzip`
    Gzip,
    /// `deflate`: zlib, and the raw stream some servers send under that name
    Deflate,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
    /// One that the meter cannot read (several encodings on top of each other, or an unknown one): it gives up.
    Unknown,
}

impl ContentEncoding {
    /// Reads a `content-encoding` header; `None` for `identity` and an empty one.
    pub fn of_header(value: &str) -> Option<ContentEncoding> {
        let value = value.trim();
        match value.to_ascii_lowercase().as_str() {
            "" | "identity" => None,
            "gzip" | "x-gzip" => Some(ContentEncoding::Gzip),
            "deflate" => Some(ContentEncoding::Deflate),
            "br" => Some(ContentEncoding::Brotli),
            "zstd" => Some(ContentEncoding::Zstd),
            _ => Some(ContentEncoding::Unknown),
        }
    }
}

/// Reads one answer as it passes.
///
/// ```text
/// while let Some(chunk) = upstream.next() { client.send(meter.push(chunk)) }
/// client.send(meter.held());
/// let reading = meter.finish(End::Complete);
/// ```
pub struct Meter {
    source: Source,
    strip: Option<Strip>,
    event_stream: bool,
    any_bytes: bool,
}

/// How the side view gets its bytes.
enum Source {
    Plain(Side),
    Encoded(Box<Decoder>),
    /// In an encoding that cannot be read.
    Blind(Side),
}

impl Meter {
    /// A meter for one answer; in a box, since it is large and goes from hand to hand.
    pub fn new(settings: MeterSettings) -> Box<Self> {
        let MeterSettings {
            endpoint,
            dialect,
            event_stream,
            encoding,
            strip_usage,
            caps,
        } = settings;
        let side = Side::new(
            Report::new(&endpoint, dialect, caps.text_bytes),
            event_stream,
            &caps,
        );
        let strip = strip_usage && event_stream && encoding.is_none();
        Box::new(Self {
            source: match encoding {
                None => Source::Plain(side),
                Some(ContentEncoding::Unknown) => Source::Blind(side),
                Some(encoding) => Source::Encoded(Box::new(Decoder::new(encoding, side, &caps))),
            },
            strip: strip.then(Strip::default),
            event_stream,
            any_bytes: false,
        })
    }

    /// Takes a chunk from the upstream and returns what to pass on now: the very same bytes, unless usage is
    /// stripped. May be empty.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        self.any_bytes |= !chunk.is_empty();
        match (&mut self.source, &mut self.strip) {
            (Source::Plain(side), Some(strip)) => return strip.push(chunk, side),
            (Source::Plain(side), None) => side.push(&chunk),
            (Source::Encoded(decoder), _) => decoder.push(&chunk),
            (Source::Blind(_), _) => {}
        }
        chunk
    }

    /// What was held back of an unfinished event, to be passed on when the upstream has ended. Empty without stripping.
    pub fn held(&mut self) -> Bytes {
        match (&mut self.source, &mut self.strip) {
            (Source::Plain(side), Some(strip)) => strip.finish(side),
            _ => Bytes::new(),
        }
    }

    /// Whether the first piece of output has come: what a client waits for.
    pub fn saw_first_output(&self) -> bool {
        if self.event_stream {
            self.side()
                .is_some_and(|side| side.is_body() || side.report().saw_first_output())
        } else {
            self.any_bytes
        }
    }

    /// Whether the dialect's own end mark has come, after which nothing that matters follows.
    pub fn is_complete(&self) -> bool {
        self.side().is_some_and(|side| side.report().is_complete())
    }

    /// The text that came so far, where it can be read.
    pub fn output(&self) -> Option<&OutputText> {
        self.side().map(|side| side.report().output())
    }

    /// From now on notes what it takes to end the stream early. `false` where that cannot be done: no event stream, an
    /// encoding, an endpoint without such an end.
    pub fn prepare_stop(&mut self, endpoint: &Endpoint) -> bool {
        match (&mut self.source, LengthStop::new(endpoint)) {
            (Source::Plain(side), Some(stop)) if self.event_stream => {
                side.report_mut().prepare_stop(stop);
                true
            }
            _ => false,
        }
    }

    /// What it takes to end the stream early; `None` where that was not prepared, or was taken before.
    pub fn take_stop(&mut self) -> Option<LengthStop> {
        match &mut self.source {
            Source::Plain(side) => side.report_mut().take_stop(),
            Source::Encoded(_) | Source::Blind(_) => None,
        }
    }

    /// What the answer said.
    pub fn finish(mut self: Box<Self>, end: End) -> Reading {
        match &mut self.source {
            Source::Plain(side) => side.finish(end),
            Source::Encoded(decoder) => decoder.finish(end),
            Source::Blind(side) => Reading {
                gave_up: true,
                ..side.finish(end)
            },
        }
    }

    fn side(&self) -> Option<&Side> {
        match &self.source {
            Source::Plain(side) | Source::Blind(side) => Some(side),
            Source::Encoded(decoder) => decoder.side(),
        }
    }
}

/// Without the text it holds: prompts and answers do not belong in logs.
impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("event_stream", &self.event_stream)
            .field("strips_usage", &self.strip.is_some())
            .finish_non_exhaustive()
    }
}
