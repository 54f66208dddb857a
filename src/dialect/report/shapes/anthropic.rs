//! Anthropic's shapes.

use super::*;

#[test]
fn cache_classes_stand_beside_the_input() {
    let usage = r#"{"input_tokens":10,"cache_creation_input_tokens":30,"cache_read_input_tokens":200,
        "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":10},
        "output_tokens":21,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1},"service_tier":"batch"}"#;
    let expected = [
        (READ, 200),
        (WRITE, 30),
        (WRITE_1H, 10),
        ("web_search_requests", 2),
    ];
    is(messages(usage), 240, 21, &expected);
}

#[test]
fn lifetimes_alone_make_a_write() {
    let usage = r#"{"input_tokens":1,"output_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3}}"#;
    is(messages(usage), 6, 1, &[(WRITE, 5), (WRITE_1H, 3)]);
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-sonnet-4-5","usage":{"input_tokens":43,"cache_read_input_tokens":5,"output_tokens":1}}}"#;
const TEXT: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;

fn after_start(usage: &str) -> Reading {
    let delta = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#
    );
    let events = [START, TEXT, &delta, r#"{"type":"message_stop"}"#];
    stream(Endpoint::Messages, &events, End::Complete)
}

#[test]
fn a_delta_completes_or_overrides_the_start_field_by_field() {
    is(
        after_start(r#"{"output_tokens":65}"#).usage.unwrap(),
        48,
        65,
        &[(READ, 5)],
    );
    let full = r#"{"input_tokens":61,"cache_read_input_tokens":null,"output_tokens":65}"#;
    is(after_start(full).usage.unwrap(), 66, 65, &[(READ, 5)]);
    let zeros = r#"{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":65}"#;
    is(after_start(zeros).usage.unwrap(), 48, 65, &[(READ, 5)]);
}

#[test]
fn input_that_moves_into_the_cache_is_not_counted_twice() {
    let moved = r#"{"input_tokens":8,"cache_read_input_tokens":40,"output_tokens":65}"#;
    is(after_start(moved).usage.unwrap(), 48, 65, &[(READ, 40)]);
}

#[test]
fn an_estimate_that_knew_of_no_cache_is_replaced_by_the_figures_that_do() {
    let reported = |start: &str, delta: &str| {
        let start = format!(r#"{{"type":"message_start","message":{{"usage":{start}}}}}"#);
        let delta = format!(r#"{{"type":"message_delta","delta":{{}},"usage":{delta}}}"#);
        let events = [&*start, TEXT, &delta, r#"{"type":"message_stop"}"#];
        stream(Endpoint::Messages, &events, End::Complete)
            .usage
            .unwrap()
    };
    // Kimi: `prompt_tokens` contains what stands apart under Anthropic's names.
    let kimi = reported(
        r#"{"input_tokens":173306,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}"#,
        r#"{"input_tokens":250,"cache_read_input_tokens":173056,"prompt_tokens":173306,"output_tokens":9}"#,
    );
    is(kimi, 173306, 9, &[(READ, 173056)]);
    // Qwen: the estimate was larger.
    let qwen = reported(
        r#"{"input_tokens":8854,"output_tokens":1}"#,
        r#"{"input_tokens":18,"cache_read_input_tokens":8831,"output_tokens":9}"#,
    );
    is(qwen, 8849, 9, &[(READ, 8831)]);
    // The second report names the cache only.
    let cache_only = reported(
        r#"{"input_tokens":3602,"output_tokens":1}"#,
        r#"{"cache_read_input_tokens":3604,"cache_creation_input_tokens":0,"output_tokens":9}"#,
    );
    is(cache_only, 3604, 9, &[(READ, 3604)]);
    let no_input_left = reported(
        r#"{"input_tokens":8854,"output_tokens":1}"#,
        r#"{"input_tokens":0,"cache_read_input_tokens":8849,"output_tokens":9}"#,
    );
    is(no_input_left, 8849, 9, &[(READ, 8849)]);
    // What is not of the same input adds to it.
    let more = reported(
        r#"{"input_tokens":12,"output_tokens":1}"#,
        r#"{"cache_read_input_tokens":3584,"output_tokens":9}"#,
    );
    is(more, 3596, 9, &[(READ, 3584)]);
    let moved = reported(
        r#"{"input_tokens":100,"cache_read_input_tokens":1000,"cache_creation_input_tokens":0,"output_tokens":1}"#,
        r#"{"cache_read_input_tokens":0,"cache_creation_input_tokens":1200,"output_tokens":9}"#,
    );
    is(moved, 1300, 9, &[(WRITE, 1200)]);
    let part_read = reported(
        r#"{"input_tokens":10,"cache_creation_input_tokens":1000,"cache_creation":{"ephemeral_1h_input_tokens":1000},"output_tokens":1}"#,
        r#"{"cache_creation_input_tokens":600,"cache_read_input_tokens":400,"output_tokens":9}"#,
    );
    is(part_read, 1010, 9, &[(READ, 400), (WRITE, 600)]);
    // A write that turned out to be a read has no lifetime either.
    let read = reported(
        r#"{"input_tokens":10,"cache_creation_input_tokens":1000,"cache_creation":{"ephemeral_1h_input_tokens":1000},"output_tokens":1}"#,
        r#"{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":9}"#,
    );
    is(read, 1010, 9, &[(READ, 1000)]);
}

#[test]
fn thinking_is_a_detail_of_the_output() {
    let usage = messages(
        r#"{"input_tokens":5,"output_tokens":25848,"output_tokens_details":{"thinking_tokens":25636}}"#,
    );
    is(usage, 5, 25848, &[(REASONING, 25636)]);
}

#[test]
fn a_stream_that_broke_off_has_its_input_but_not_its_bill() {
    let reading = stream(Endpoint::Messages, &[START, TEXT], End::Aborted);
    assert_eq!(reading.usage.unwrap().input_tokens, 48);
    assert!(!reading.usage_final);
    assert_eq!(reading.output.choices[0].text, "Hi");
    assert!(after_start(r#"{"output_tokens":65}"#).usage_final);
}

#[test]
fn iterations_are_summed_and_priced_by_their_models() {
    let usage = r#"{"input_tokens":10,"output_tokens":20,"server_tool_use":{"web_search_requests":1},"iterations":[
        {"type":"compaction","input_tokens":100,"output_tokens":30},
        {"type":"advisor_message","model":"claude-opus-4-6","input_tokens":50,"cache_read_input_tokens":5,"output_tokens":7},
        {"type":"message","input_tokens":10,"output_tokens":20}]}"#;
    let body = format!(r#"{{"type":"message","model":"claude-sonnet-4-5","usage":{usage}}}"#);
    let reading = json(Endpoint::Messages, &body);
    is(
        reading.usage.unwrap(),
        165,
        57,
        &[(READ, 5), ("web_search_requests", 1)],
    );
    let parts: Vec<_> = reading
        .parts
        .iter()
        .map(|part| {
            let model = part.model.as_ref().unwrap().as_str();
            (model, part.usage.input_tokens, part.usage.output_tokens)
        })
        .collect();
    assert_eq!(
        parts,
        [("claude-sonnet-4-5", 110, 50), ("claude-opus-4-6", 55, 7)]
    );
    let mut sum = Usage::default();
    for part in &reading.parts {
        sum += part.usage;
    }
    assert_eq!(Some(sum), reading.usage);
}

#[test]
fn fast_mode_is_a_tier_of_its_own() {
    let body = r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1,"service_tier":"standard","speed":"fast"}}"#;
    assert_eq!(
        json(Endpoint::Messages, body).service_tier.as_deref(),
        Some("fast")
    );
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1,"speed":"fast"}}}"#;
    let delta = r#"{"type":"message_delta","usage":{"output_tokens":9,"service_tier":"standard"}}"#;
    let reading = stream(Endpoint::Messages, &[start, delta], End::Complete);
    assert_eq!(reading.service_tier.as_deref(), Some("fast"));
}

#[test]
fn searches_of_a_stream_that_broke_off_are_counted() {
    let block = |content: &str| {
        format!(
            r#"{{"type":"content_block_start","index":1,"content_block":{{"type":"web_search_tool_result","content":{content}}}}}"#
        )
    };
    let found = block(r#"[{"type":"web_search_result","title":"Weirs"}]"#);
    let failed =
        block(r#"{"type":"web_search_tool_result_error","error_code":"max_uses_exceeded"}"#);
    let events = [START, &found, &failed];
    let reading = stream(Endpoint::Messages, &events, End::Aborted);
    assert_eq!(reading.calls.web_searches, 1);
}

#[test]
fn a_region_is_part_of_the_tier() {
    let tier = |usage: &str| {
        let body = format!(
            r#"{{"type":"message","usage":{{"input_tokens":1,"output_tokens":1,{usage}}}}}"#
        );
        json(Endpoint::Messages, &body).service_tier
    };
    for (usage, expected) in [
        (r#""service_tier":"standard","inference_geo":"us""#, "us"),
        (r#""service_tier":"batch","inference_geo":"us""#, "batch-us"),
        (r#""speed":"fast","inference_geo":"us""#, "fast-us"),
        (
            r#""service_tier":"standard","inference_geo":"global""#,
            "standard",
        ),
        (
            r#""service_tier":"standard","inference_geo":"not_available""#,
            "standard",
        ),
    ] {
        assert_eq!(tier(usage).as_deref(), Some(expected), "{usage}");
    }
}

#[test]
fn an_error_event_is_told_and_tools_and_thinking_are_text() {
    let thinking = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
    let tool = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"look","input":{}}}"#;
    let input = r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#;
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let reading = stream(
        Endpoint::Messages,
        &[START, thinking, tool, input, error],
        End::Complete,
    );
    assert_eq!(reading.failed.as_deref(), Some("Overloaded"));
    let choice = &reading.output.choices[0];
    assert_eq!(
        (choice.reasoning.as_str(), choice.tools[0].name.as_str()),
        ("hm", "look")
    );
    assert_eq!(choice.tools[0].arguments, r#"{"a""#);
}
