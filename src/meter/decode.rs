//! Reads through a content encoding, on a side copy: what the client gets stays encoded.

mod brotli;

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use self::brotli::BrotliDecoder;
use super::side::Side;
use super::{ContentEncoding, MeterCaps};
use crate::dialect::report::{End, Reading};

/// Decodes what comes and feeds it to the side view, as long as it stays within bounds.
pub(super) struct Decoder {
    state: State,
}

enum State {
    /// `deflate` is zlib by the standard and a raw stream from some servers: the first two bytes tell.
    Undecided(Vec<u8>, Bounded),
    Gzip(MultiGzDecoder<Bounded>),
    Zlib(ZlibDecoder<Bounded>),
    Deflate(DeflateDecoder<Bounded>),
    Brotli(Box<BrotliDecoder<Bounded>>),
    Zstd(zstd::stream::write::Decoder<'static, Bounded>),
    /// Broken, or too large: what was read until then counts.
    GaveUp(Option<Side>),
}

/// RFC 8878 (section 4, "zstd" as a content coding) has decoders support windows up to 8 MiB; more is not for the web.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

impl Decoder {
    pub(super) fn new(encoding: ContentEncoding, side: Side, caps: &MeterCaps) -> Self {
        let sink = Bounded::new(side, caps.decoded_bytes as u64);
        let state = match encoding {
            ContentEncoding::Gzip => State::Gzip(MultiGzDecoder::new(sink)),
            ContentEncoding::Deflate => State::Undecided(Vec::new(), sink),
            ContentEncoding::Brotli => State::Brotli(Box::new(BrotliDecoder::new(sink))),
            ContentEncoding::Zstd => zstd(sink),
            ContentEncoding::Unknown => State::GaveUp(sink.side),
        };
        Self { state }
    }

    pub(super) fn push(&mut self, encoded: &[u8]) {
        if let Some(sink) = self.state.sink() {
            sink.encoded += encoded.len() as u64;
        }
        if let State::Undecided(start, sink) = &mut self.state {
            start.extend_from_slice(encoded);
            let &[first, second, ..] = start.as_slice() else {
                return;
            };
            let start = std::mem::take(start);
            let sink = sink.take();
            // RFC 1950, section 2.2: method 8, and a check that makes the two bytes a multiple of 31.
            let is_zlib = first & 0x0f == 8 && u16::from_be_bytes([first, second]) % 31 == 0;
            self.state = if is_zlib {
                State::Zlib(ZlibDecoder::new(sink))
            } else {
                State::Deflate(DeflateDecoder::new(sink))
            };
            self.decode(&start);
        } else {
            self.decode(encoded);
        }
    }

    /// The side view; `None` only while it is on its way from one state to the next.
    pub(super) fn side(&self) -> Option<&Side> {
        match &self.state {
            State::Undecided(_, sink) => sink.side.as_ref(),
            State::Gzip(decoder) => decoder.get_ref().side.as_ref(),
            State::Zlib(decoder) => decoder.get_ref().side.as_ref(),
            State::Deflate(decoder) => decoder.get_ref().side.as_ref(),
            State::Brotli(decoder) => decoder.get_ref().side.as_ref(),
            State::Zstd(decoder) => decoder.get_ref().side.as_ref(),
            State::GaveUp(side) => side.as_ref(),
        }
    }

    pub(super) fn finish(&mut self, end: End) -> Reading {
        let gave_up = matches!(self.state, State::GaveUp(_));
        let side = match &mut self.state {
            State::GaveUp(side) => side.take(),
            state => state.sink().and_then(|sink| sink.side.take()),
        };
        let reading = side.map(|mut side| side.finish(end)).unwrap_or_default();
        Reading {
            gave_up: gave_up || reading.gave_up,
            ..reading
        }
    }

    fn decode(&mut self, encoded: &[u8]) {
        // Flushing hands over at once what the encoder flushed: the first output is not noticed late.
        let decoded = match &mut self.state {
            State::Gzip(decoder) => decoder.write_all(encoded).and_then(|()| decoder.flush()),
            State::Zlib(decoder) => decoder.write_all(encoded).and_then(|()| decoder.flush()),
            State::Deflate(decoder) => decoder.write_all(encoded).and_then(|()| decoder.flush()),
            State::Brotli(decoder) => decoder.write(encoded),
            State::Zstd(decoder) => decoder.write_all(encoded).and_then(|()| decoder.flush()),
            State::Undecided(..) | State::GaveUp(_) => Ok(()),
        };
        if decoded.is_err() {
            let side = self.state.sink().and_then(|sink| sink.side.take());
            self.state = State::GaveUp(side);
        }
    }
}

impl State {
    fn sink(&mut self) -> Option<&mut Bounded> {
        match self {
            State::Undecided(_, sink) => Some(sink),
            State::Gzip(decoder) => Some(decoder.get_mut()),
            State::Zlib(decoder) => Some(decoder.get_mut()),
            State::Deflate(decoder) => Some(decoder.get_mut()),
            State::Brotli(decoder) => Some(decoder.get_mut()),
            State::Zstd(decoder) => Some(decoder.get_mut()),
            State::GaveUp(_) => None,
        }
    }
}

fn zstd(mut sink: Bounded) -> State {
    // Making a context fails only for want of memory.
    match zstd::stream::raw::Decoder::new() {
        Ok(mut raw) => {
            let bounded = raw.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(
                ZSTD_WINDOW_LOG_MAX,
            ));
            match bounded {
                Ok(()) => State::Zstd(zstd::stream::write::Decoder::with_decoder(sink, raw)),
                Err(_) => State::GaveUp(sink.side.take()),
            }
        }
        Err(_) => State::GaveUp(sink.side.take()),
    }
}

/// Feeds the side view until the decoded bytes are beyond all reason.
struct Bounded {
    side: Option<Side>,
    encoded: u64,
    decoded: u64,
    decoded_max: u64,
}

impl Bounded {
    /// JSON that repeats itself shrinks to a fiftieth, not to a thousandth …
    const RATIO_MAX: u64 = 200;
    /// … but a small answer may, and does no harm.
    const RATIO_FREE_BYTES: u64 = 4 << 20;

    fn new(side: Side, decoded_max: u64) -> Self {
        Self {
            side: Some(side),
            encoded: 0,
            decoded: 0,
            decoded_max,
        }
    }

    fn take(&mut self) -> Bounded {
        Bounded {
            side: self.side.take(),
            ..*self
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, decoded: &[u8]) -> io::Result<usize> {
        self.decoded += decoded.len() as u64;
        let is_bomb = self.decoded > self.decoded_max
            || (self.decoded > Self::RATIO_FREE_BYTES
                && self.decoded / Self::RATIO_MAX > self.encoded);
        if is_bomb {
            return Err(io::Error::other("decodes to more than the meter reads"));
        }
        if let Some(side) = &mut self.side {
            side.push_copy(decoded);
        }
        Ok(decoded.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
