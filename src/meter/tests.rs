//! The meter as a whole: bytes in, the same bytes out, and a reading at the end.

use std::io::Write as _;

use bytes::Bytes;
use proptest::prelude::*;

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

#[test]
fn a_json_object_that_is_called_an_event_stream_is_read_as_what_it_is() {
    let body = "\n {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}";
    let body = Bytes::from(body);
    for size in [1, 4, usize::MAX] {
        for strip_usage in [false, true] {
            let (passed, reading) =
                read_whole(&Endpoint::ChatCompletions, &body, size, strip_usage);
            assert_eq!(passed, body);
            assert_eq!(reading.usage.unwrap().input_tokens, 5);
            assert!(reading.usage_final);
        }
    }
}

fn strip(pieces: &[&str]) -> Vec<String> {
    let mut meter = stripping();
    let mut passed: Vec<String> = pieces
        .iter()
        .map(|piece| meter.push(Bytes::from((*piece).to_owned())))
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        .collect();
    passed.push(String::from_utf8(meter.held().to_vec()).unwrap());
    passed
}

fn stripping() -> Meter {
    Meter::new(MeterSettings {
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        event_stream: true,
        encoding: None,
        strip_usage: true,
        caps: MeterCaps::default(),
    })
}

const USAGE_CHUNK: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
const PLAIN_CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn the_usage_chunk_is_taken_out_whole_and_the_meter_has_read_it() {
    let body = Bytes::from([PLAIN_CHUNK, USAGE_CHUNK, DONE].concat());
    let (passed, reading) = read_whole(&Endpoint::ChatCompletions, &body, usize::MAX, true);
    assert_eq!(
        String::from_utf8(passed).unwrap(),
        [PLAIN_CHUNK, DONE].concat()
    );
    let usage = reading.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (5, 2));
    assert!(reading.usage_final);
}

#[test]
fn only_what_we_caused_is_taken_out() {
    for kept in [
        // Azure's first chunk, a finish chunk with usage, an error with usage, an empty usage.
        "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5}}\n\n",
        "data: {\"choices\":[],\"error\":{\"message\":\"no\"},\"usage\":{\"prompt_tokens\":5}}\n\n",
        "data: {\"choices\":[],\"usage\":{}}\n\n",
        "data: {\"choices\":[{\"delta\":{\"usage\":null}}]}\n\n",
        "data: not json \"usage\":null\n\n",
        ": comment\n\nevent: ping\n\nretry: 5\n",
    ] {
        assert_eq!(strip(&[kept]).concat(), kept);
    }
}

#[test]
fn a_null_usage_goes_with_its_comma_wherever_it_stands() {
    for (data, expected) in [
        (r#"{"usage":null,"choices":[1]}"#, r#"{"choices":[1]}"#),
        (r#"{"choices":[1],"usage":null}"#, r#"{"choices":[1]}"#),
        (
            r#"{"a": 1, "usage" : null , "b": 2}"#,
            r#"{"a": 1, "b": 2}"#,
        ),
        (r#"{"a": 1 , "usage": null }"#, r#"{"a": 1  }"#),
        (r#"{"usage":null}"#, "{}"),
    ] {
        let line = |data: &str| format!("id: 1\ndata:{data}\nevent: x\n\n");
        assert_eq!(strip(&[&line(data)]).concat(), line(expected));
    }
    let lines = "data: {\"a\":1,\ndata: \"usage\":\ndata: null,\"b\":2}\n\n";
    assert_eq!(
        strip(&[lines]).concat(),
        "data: {\"a\":1,\ndata: \ndata: \"b\":2}\n\n"
    );
}

#[test]
fn an_unchanged_chunk_passes_as_the_same_bytes() {
    let mut meter = stripping();
    let chunk = Bytes::from([PLAIN_CHUNK, PLAIN_CHUNK].concat());
    assert_eq!(meter.push(chunk.clone()).as_ptr(), chunk.as_ptr());
    let last = Bytes::from([PLAIN_CHUNK, USAGE_CHUNK].concat());
    let passed = meter.push(last.clone());
    assert_eq!(
        (passed.as_ptr(), passed.len()),
        (last.as_ptr(), PLAIN_CHUNK.len())
    );
}

#[test]
fn a_complete_event_is_never_held_and_an_unfinished_one_until_its_end() {
    let (first, second) = PLAIN_CHUNK.split_at(20);
    assert_eq!(strip(&[first, second, DONE]), ["", PLAIN_CHUNK, DONE, ""]);
    assert_eq!(
        strip(&[": alive\n", ": ali", "ve\n"]),
        [": alive\n", "", ": alive\n", ""]
    );
    let (first, second) = USAGE_CHUNK.split_at(40);
    assert_eq!(
        strip(&[PLAIN_CHUNK, first, second, DONE]),
        [PLAIN_CHUNK, "", "", DONE, ""]
    );
}

#[test]
fn what_is_left_at_the_end_is_passed_unless_it_is_the_usage_chunk() {
    assert_eq!(strip(&["data: {\"cho"]), ["", "data: {\"cho"]);
    assert_eq!(strip(&[USAGE_CHUNK.trim_end()]), ["", ""]);
    assert_eq!(
        strip(&["data: {\"a\":1,\"usage\":null}"]),
        ["", "data: {\"a\":1}"]
    );
}

#[test]
fn a_line_feed_that_comes_late_goes_where_its_carriage_return_went() {
    let usage = USAGE_CHUNK.replace('\n', "\r\n");
    let plain = PLAIN_CHUNK.replace('\n', "\r\n");
    let (usage_head, line_feed) = usage.split_at(usage.len() - 1);
    assert_eq!(
        strip(&[usage_head, line_feed, &plain]),
        ["", "", &plain, ""]
    );
    let (plain_head, line_feed) = plain.split_at(plain.len() - 1);
    assert_eq!(
        strip(&[plain_head, line_feed, &plain]).concat(),
        [plain.clone(), plain].concat()
    );
}

#[test]
fn an_event_too_long_to_be_read_passes_without_being_gathered() {
    let mut meter = Meter::new(MeterSettings {
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        event_stream: true,
        encoding: None,
        strip_usage: true,
        caps: MeterCaps {
            line_bytes: 1000,
            ..MeterCaps::default()
        },
    });
    let long = format!(
        "data: {{\"usage\":null,\"x\":\"{}\"}}\n\n",
        "x".repeat(5000)
    );
    let body = Bytes::from([&long, USAGE_CHUNK, PLAIN_CHUNK].concat());
    let mut passed = Vec::new();
    for piece in pieces(&body, 700) {
        passed.extend_from_slice(&meter.push(piece));
    }
    passed.extend_from_slice(&meter.held());
    assert_eq!(
        String::from_utf8(passed).unwrap(),
        [&long, PLAIN_CHUNK].concat()
    );
    let reading = meter.finish(End::Complete);
    assert_eq!((reading.skipped_events, reading.gave_up), (1, false));
}

#[test]
fn first_output_and_the_end_are_noticed_when_they_come() {
    for encoding in ENCODINGS {
        let mut meter = meter(&Endpoint::ChatCompletions, true, encoding);
        if encoding.is_none() {
            meter.push("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n".into());
            assert!(!meter.saw_first_output());
            meter.push(PLAIN_CHUNK.into());
            assert!(meter.saw_first_output() && !meter.is_complete());
        }
        meter.push(encoded(&[PLAIN_CHUNK, DONE].concat().into(), encoding));
        assert!(
            meter.saw_first_output() && meter.is_complete(),
            "{encoding:?}"
        );
    }
    let mut meter = meter(&Endpoint::Messages, true, None);
    meter.push("data: {\"type\":\"message_stop\"}\n\n".into());
    assert!(meter.is_complete());
}

#[test]
fn a_stream_that_breaks_off_keeps_the_text_that_came() {
    let mut meter = meter(&Endpoint::ChatCompletions, true, None);
    meter.push(PLAIN_CHUNK.into());
    meter.push("data: {\"choices\":[{\"index\":1,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n".into());
    meter.push("data: {\"choices\":[{\"ind".into());
    let reading = meter.finish(End::Aborted);
    assert_eq!((reading.usage, reading.usage_final), (None, false));
    assert_eq!(reading.output.choices[0].text, "hi");
    assert_eq!(reading.output.choices[1].tools[0].name, "f");
    assert_eq!(reading.output.bytes(), 5);
}

#[test]
fn kept_text_is_bounded_and_what_is_not_kept_is_measured() {
    let mut meter = Meter::new(MeterSettings {
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        event_stream: true,
        encoding: None,
        strip_usage: false,
        caps: MeterCaps {
            text_bytes: 5,
            ..MeterCaps::default()
        },
    });
    for _ in 0..4 {
        meter.push(PLAIN_CHUNK.into());
    }
    let output = meter.finish(End::Aborted).output;
    assert_eq!(
        (output.choices[0].text.as_str(), output.dropped_bytes),
        ("hihih", 3)
    );
}

#[test]
fn a_body_beyond_the_cap_passes_unread() {
    let mut meter = Meter::new(MeterSettings {
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        event_stream: false,
        encoding: None,
        strip_usage: false,
        caps: MeterCaps {
            body_bytes: 100,
            ..MeterCaps::default()
        },
    });
    let chunk = Bytes::from([&b"{"[..], &[b' '; 79]].concat());
    for _ in 0..3 {
        assert_eq!(meter.push(chunk.clone()).as_ptr(), chunk.as_ptr());
    }
    let reading = meter.finish(End::Complete);
    assert!(reading.gave_up && reading.usage.is_none());
}

#[test]
fn an_answer_that_is_no_object_is_not_kept() {
    for body in ["[1,2]", "\u{1}sound", "<html>"] {
        let mut meter = Meter::new(MeterSettings {
            endpoint: Endpoint::Other("audio.speech".into()),
            dialect: Dialect::OpenAi,
            event_stream: false,
            encoding: None,
            strip_usage: false,
            caps: MeterCaps {
                body_bytes: 10,
                ..MeterCaps::default()
            },
        });
        meter.push(" \n".into());
        for _ in 0..10 {
            meter.push(body.into());
        }
        let reading = meter.finish(End::Complete);
        assert_eq!(
            reading,
            Reading::default(),
            "nothing read, nothing given up"
        );
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

fn events() -> impl Strategy<Value = String> {
    let event = prop::sample::select(vec![
        PLAIN_CHUNK,
        USAGE_CHUNK,
        DONE,
        ": keep-alive\n\n",
        ":\r\n",
        "data: {\"usage\":null,\"choices\":[{\"index\":1,\"delta\":{\"content\":\"é\"}}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\r\r",
        "event: error\ndata: {\"error\":{\"message\":\"no\"}}\n\n",
        "data: {\"choices\":[\ndata: ],\"usage\":null}\n\n",
        "data: {\"choi",
        "\n",
        "\r",
    ]);
    prop::collection::vec(event, 0..12).prop_map(|events| events.concat())
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_reads_and_strips_alike(body in events(), size in 1usize..40) {
        let body = Bytes::from(body);
        for strip_usage in [false, true] {
            let whole = read_whole(&Endpoint::ChatCompletions, &body, usize::MAX, strip_usage);
            let cut = read_whole(&Endpoint::ChatCompletions, &body, size, strip_usage);
            prop_assert_eq!(
                String::from_utf8_lossy(&cut.0),
                String::from_utf8_lossy(&whole.0)
            );
            prop_assert_eq!(&cut.1, &whole.1);
            if !strip_usage {
                prop_assert_eq!(&whole.0, &body.to_vec());
            }
        }
    }

    #[test]
    fn no_answer_makes_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        event_stream in any::<bool>(),
        encoding in prop::sample::select(ENCODINGS.to_vec()),
    ) {
        let body = Bytes::from(body);
        let mut meter = meter(&Endpoint::ChatCompletions, event_stream, encoding);
        for piece in pieces(&body, 11) {
            prop_assert_eq!(meter.push(piece.clone()), piece);
        }
        meter.finish(End::Aborted);
    }

    #[test]
    fn no_json_makes_it_panic(body in "[\\{\\}\\[\\],:0-9\"u\\\\-]{0,20}|\\{(\"(usage|choices|error|delta|response|type)\":(\\{\"prompt_tokens\":-?[0-9]{1,25}\\}|\\[\\{\\}\\]|null|\"\\\\u[0-9d]{4}\"),?){0,4}\\}") {
        let (_, reading) = read_whole(&Endpoint::ChatCompletions, &format!("data: {body}\n\n").into(), 5, true);
        prop_assert!(reading.usage.is_none_or(|usage| usage.input_tokens <= crate::tokens::ABSURD_TOKENS));
    }
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
