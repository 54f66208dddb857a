//! Encodings: each is read, none is unpacked beyond its bounds, and what cannot be read passes.

use super::*;

pub(in crate::meter) const ENCODINGS: [Option<ContentEncoding>; 5] = [
    None,
    Some(ContentEncoding::Gzip),
    Some(ContentEncoding::Deflate),
    Some(ContentEncoding::Brotli),
    Some(ContentEncoding::Zstd),
];

pub(in crate::meter) fn encoded(body: &Bytes, encoding: Option<ContentEncoding>) -> Bytes {
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

#[test]
fn a_bomb_passes_but_is_not_unpacked() {
    let bomb = vec![b'x'; 64 << 20];
    for encoding in [
        ContentEncoding::Gzip,
        ContentEncoding::Deflate,
        ContentEncoding::Zstd,
    ] {
        let wire = encoded(&bomb.clone().into(), Some(encoding));
        assert!(wire.len() < 1 << 20);
        for event_stream in [true, false] {
            let mut meter = meter(&Endpoint::ChatCompletions, event_stream, Some(encoding));
            assert_eq!(meter.push(wire.clone()), wire);
            let reading = meter.finish(End::Complete);
            assert!(reading.gave_up, "{encoding:?}");
        }
    }
}

#[test]
fn a_window_that_no_web_server_needs_is_given_no_memory() {
    let body = br#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    for (window_log, is_read) in [(23, true), (27, false)] {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(body).unwrap();
        // The frame's head does not say how short it is, so that it must name its window.
        encoder.flush().unwrap();
        let wire = Bytes::from(encoder.finish().unwrap());
        let zstd = Some(ContentEncoding::Zstd);
        let mut meter = meter(&Endpoint::ChatCompletions, false, zstd);
        assert_eq!(meter.push(wire.clone()), wire);
        let reading = meter.finish(End::Complete);
        assert_eq!(
            (reading.usage.is_some(), reading.gave_up),
            (is_read, !is_read)
        );
    }
}

#[test]
fn deflate_without_its_zlib_head_is_read_too() {
    let body = br#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    let wire = Bytes::from(encoder.finish().unwrap());
    for size in [1, usize::MAX] {
        let mut meter = meter(
            &Endpoint::ChatCompletions,
            false,
            Some(ContentEncoding::Deflate),
        );
        for piece in pieces(&wire, size) {
            meter.push(piece);
        }
        assert_eq!(meter.finish(End::Complete).usage.unwrap().output_tokens, 2);
    }
}

#[test]
fn an_encoding_that_nobody_can_read_passes_unread() {
    let mut meter = meter(
        &Endpoint::ChatCompletions,
        true,
        ContentEncoding::of_header("gzip, br"),
    );
    assert_eq!(meter.push(PLAIN_CHUNK.into()), PLAIN_CHUNK);
    assert!(meter.finish(End::Complete).gave_up);
    assert_eq!(ContentEncoding::of_header(" Identity "), None);
    assert_eq!(
        ContentEncoding::of_header("BR"),
        Some(ContentEncoding::Brotli)
    );
}

#[test]
fn what_came_before_the_encoding_broke_still_counts() {
    let body = Bytes::from([PLAIN_CHUNK, USAGE_CHUNK, DONE].concat());
    let mut wire = encoded(&body, Some(ContentEncoding::Gzip)).to_vec();
    wire.extend_from_slice(b"trailing rubbish");
    let mut meter = meter(
        &Endpoint::ChatCompletions,
        true,
        Some(ContentEncoding::Gzip),
    );
    meter.push(wire.into());
    let reading = meter.finish(End::Complete);
    assert_eq!(reading.usage.unwrap().input_tokens, 5);
}

#[test]
fn what_follows_the_end_of_a_brotli_stream_does_not_matter() {
    let body = Bytes::from_static(br#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
    let brotli = Some(ContentEncoding::Brotli);
    let more = [&encoded(&body, brotli)[..], b"and more of it"].concat();
    for size in [1, 7, more.len()] {
        let mut meter = meter(&Endpoint::ChatCompletions, false, brotli);
        for piece in pieces(&more.clone().into(), size) {
            meter.push(piece);
        }
        let reading = meter.finish(End::Complete);
        assert!(!reading.gave_up, "in pieces of {size}");
        assert_eq!(reading.usage.unwrap().output_tokens, 2);
    }
}
