//! What the client did not ask for is taken out of an event stream, and nothing else.

use super::*;

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

fn stripping() -> Box<Meter> {
    Meter::new(MeterSettings {
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        event_stream: true,
        encoding: None,
        strip_usage: true,
        caps: MeterCaps::default(),
    })
}

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
