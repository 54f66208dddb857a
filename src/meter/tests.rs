//! The meter as a whole: bytes in, the same bytes out, and a reading at the end.

use std::io::Write as _;

use bytes::Bytes;

use super::*;

pub(super) const ENCODINGS: [Option<ContentEncoding>; 5] = [
    None,
    Some(ContentEncoding::Gzip),
    Some(ContentEncoding::Deflate),
    Some(ContentEncoding::Brotli),
    Some(ContentEncoding::Zstd),
];

pub(super) fn endpoint_of(api: &str) -> Endpoint {
    match api {
        "chat" => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "responses" => Endpoint::Responses,
        "embeddings" => Endpoint::Embeddings,
        "messages" => Endpoint::Messages,
        other => panic!("unknown api {other}"),
    }
}

pub(super) fn meter(
    endpoint: &Endpoint,
    event_stream: bool,
    encoding: Option<ContentEncoding>,
) -> Meter {
    Meter::new(MeterSettings {
        endpoint: endpoint.clone(),
        dialect: Dialect::OpenAi,
        event_stream,
        encoding,
        strip_usage: false,
        caps: MeterCaps::default(),
    })
}

pub(super) fn pieces(body: &Bytes, size: usize) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let end = at.saturating_add(size).min(body.len());
        pieces.push(body.slice(at..end));
        at = end;
    }
    pieces
}

pub(super) fn encoded(body: &Bytes, encoding: Option<ContentEncoding>) -> Bytes {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    match encoding {
        None | Some(ContentEncoding::Unknown) => body.clone(),
        Some(ContentEncoding::Gzip) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap().into()
        }
        Some(ContentEncoding::Deflate) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap().into()
        }
        Some(ContentEncoding::Zstd) => zstd::encode_all(body.as_ref(), 3).unwrap().into(),
        Some(ContentEncoding::Brotli) => brotli_uncompressed(body),
    }
}

/// A valid brotli stream of uncompressed meta-blocks (RFC 7932, section 9.2): the crate that is here only decodes.
fn brotli_uncompressed(body: &Bytes) -> Bytes {
    let mut bits = Bits::default();
    // WBITS = 16.
    bits.push(0, 1);
    for block in body.chunks(1 << 16) {
        // ISLAST = 0, MNIBBLES = 4, MLEN - 1, ISUNCOMPRESSED = 1, then the bytes from the next byte on.
        bits.push(0, 1);
        bits.push(0, 2);
        bits.push(block.len() as u32 - 1, 16);
        bits.push(1, 1);
        bits.align();
        bits.bytes.extend_from_slice(block);
    }
    // ISLAST = 1, ISLASTEMPTY = 1.
    bits.push(0b11, 2);
    bits.align();
    bits.bytes.into()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, bits: u32) {
        for bit in 0..bits {
            self.pending |= ((value >> bit) & 1) << self.count;
            self.count += 1;
            if self.count == 8 {
                self.align();
            }
        }
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.bytes.push(self.pending as u8);
            self.pending = 0;
            self.count = 0;
        }
    }
}

/// Runs a plain event stream through a meter; what it passed on, and its reading.
pub(super) fn read_whole(
    endpoint: &Endpoint,
    body: &Bytes,
    size: usize,
    strip_usage: bool,
) -> (Vec<u8>, Reading) {
    let mut meter = Meter::new(MeterSettings {
        endpoint: endpoint.clone(),
        dialect: Dialect::OpenAi,
        event_stream: true,
        encoding: None,
        strip_usage,
        caps: MeterCaps::default(),
    });
    let mut passed = Vec::new();
    for piece in pieces(body, size) {
        passed.extend_from_slice(&meter.push(piece));
    }
    passed.extend_from_slice(&meter.held());
    (passed, meter.finish(End::Complete))
}
