//! The meter as a whole: bytes in, the same bytes out, and a reading at the end.

use std::io::Write as _;

use bytes::Bytes;
use proptest::prelude::*;

mod encoding;
mod stripping;

pub(super) use encoding::{ENCODINGS, encoded};

use super::*;

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
) -> Box<Meter> {
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

const USAGE_CHUNK: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
const PLAIN_CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

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
