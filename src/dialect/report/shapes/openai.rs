//! OpenAI's shapes.

use super::*;

#[test]
fn details_are_parts_of_their_totals() {
    let usage = chat(
        r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":64,"audio_tokens":7},
            "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":5,"rejected_prediction_tokens":9}}"#,
    );
    is(
        usage,
        100,
        50,
        &[
            (READ, 64),
            (AUDIO, 7),
            (REASONING, 30),
            ("audio_output_tokens", 5),
        ],
    );
}

#[test]
fn cache_writes_are_part_of_the_prompt_even_when_they_leave_nothing_uncached() {
    let write = r#"{"prompt_tokens":2000,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":500,"cache_write_tokens":1400}}"#;
    is(chat(write), 2000, 1, &[(READ, 500), (WRITE, 1400)]);
    let over = r#"{"prompt_tokens":2000,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":1500,"cache_write_tokens":1400}}"#;
    is(chat(over), 2900, 1, &[(READ, 1500), (WRITE, 1400)]);
}

#[test]
fn responses_report_in_their_own_words() {
    let reading = json(
        Endpoint::Responses,
        r#"{"id":"resp_1","model":"gpt-5","status":"completed","service_tier":"fast","error":null,
            "output":[{"type":"web_search_call","action":{"type":"search"}},
                      {"type":"web_search_call","action":{"type":"open_page"}},
                      {"type":"web_search_call","action":{"type":"find_in_page"}},
                      {"type":"message","content":[{"type":"output_text","text":"hi"}]}],
            "usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},
                     "output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":14}}"#,
    );
    is(
        reading.usage.unwrap(),
        9,
        5,
        &[(READ, 4), (REASONING, 3), ("web_search_requests", 1)],
    );
    assert_eq!(reading.service_tier.as_deref(), Some("priority"));
    assert_eq!(reading.response_id.as_deref(), Some("resp_1"));
    assert_eq!(reading.output.choices[0].text, "hi");
    assert!(reading.failed.is_none() && !reading.queued && reading.usage_final);
}

#[test]
fn calls_of_tools_that_no_usage_reports_are_told_of() {
    let usage = r#""usage":{"input_tokens":9,"output_tokens":5,"total_tokens":14}"#;
    for (kind, billed) in [
        ("file_search_call", true),
        ("code_interpreter_call", true),
        ("image_generation_call", true),
        ("web_search_call", false),
        ("function_call", false),
        ("message", false),
    ] {
        let item = format!(r#"{{"type":"{kind}","action":{{"type":"open_page"}}}}"#);
        let whole = format!(r#"{{"status":"completed","output":[{item}],{usage}}}"#);
        assert_eq!(
            json(Endpoint::Responses, &whole).other_billed_calls,
            billed,
            "{kind}"
        );
        let done = format!(r#"{{"type":"response.output_item.done","item":{item}}}"#);
        let broken_off = stream(Endpoint::Responses, &[&done], End::Aborted);
        assert_eq!(broken_off.other_billed_calls, billed, "{kind}");
    }
}

#[test]
fn a_response_in_the_background_is_queued_and_reports_nothing() {
    let reading = json(
        Endpoint::Responses,
        r#"{"id":"resp_1","status":"queued","background":true,"usage":null,"output":[]}"#,
    );
    assert!(reading.queued);
    assert_eq!(reading.usage, None);
}

#[test]
fn a_response_ends_with_its_own_event_and_only_that_reports() {
    let created = r#"{"type":"response.created","response":{"id":"r","model":"gpt-5","status":"in_progress","usage":null}}"#;
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"delta":"Hel"}"#;
    let tool = r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","name":"look"}}"#;
    let arguments =
        r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{\"a\":1}"}"#;
    let aborted = stream(
        Endpoint::Responses,
        &[created, delta, tool, arguments],
        End::Aborted,
    );
    assert_eq!(aborted.usage, None);
    assert_eq!(aborted.output.choices[0].text, "Hel");
    assert_eq!(aborted.output.choices[0].tools[0].name, "look");
    assert_eq!(aborted.output.choices[0].tools[0].arguments, r#"{"a":1}"#);
    for kind in ["completed", "incomplete", "failed"] {
        let last = format!(
            r#"{{"type":"response.{kind}","response":{{"usage":{{"input_tokens":0,"output_tokens":0,"total_tokens":0}}}}}}"#
        );
        let reading = stream(Endpoint::Responses, &[created, delta, &last], End::Aborted);
        assert_eq!(reading.usage, Some(Usage::default()), "zeros are a report");
        assert!(reading.usage_final);
        assert_eq!(reading.failed.is_some(), kind == "failed");
    }
}

#[test]
fn output_that_comes_after_a_report_is_not_in_it() {
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"delta":"Hello"}"#;
    for (usage, event) in [
        (
            r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#,
            "created",
        ),
        (
            r#"{"input_tokens":11,"output_tokens":2,"total_tokens":13}"#,
            "in_progress",
        ),
    ] {
        let began = format!(r#"{{"type":"response.{event}","response":{{"usage":{usage}}}}}"#);
        let failed = r#"{"type":"response.failed","response":{"usage":null}}"#;
        for (events, end) in [
            (vec![&*began, delta, delta], End::Aborted),
            (vec![&*began, delta, delta], End::Complete),
            (vec![&*began, delta, failed], End::Complete),
        ] {
            let reading = stream(Endpoint::Responses, &events, end);
            assert!(!reading.usage_final && !reading.output.is_empty());
        }
    }
    let placeholder =
        r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":0,"total_tokens":8}}"#;
    let text = |index: u8, rest: &str| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"Hi"}}{rest}}}]}}"#)
    };
    let report = r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":3}}"#;
    let (first, second) = (text(0, r#","finish_reason":"stop""#), text(1, ""));
    let is_final =
        |events: &[&str], end| stream(Endpoint::ChatCompletions, events, end).usage_final;
    assert!(!is_final(&[placeholder, &first, &second], End::Aborted));
    assert!(!is_final(
        &[placeholder, &first, &second, &second],
        End::Complete
    ));
    assert!(!is_final(&[&first, report, &second], End::Aborted));
    assert!(is_final(
        &[placeholder, &second, &first, report],
        End::Aborted
    ));
}

#[test]
fn a_failed_response_reports_nothing_but_its_error() {
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"no luck"},"usage":null}}"#;
    let reading = stream(Endpoint::Responses, &[failed], End::Complete);
    assert_eq!(
        (reading.usage, reading.failed.as_deref()),
        (None, Some("no luck"))
    );
}

#[test]
fn legacy_completions_and_embeddings_report_alike() {
    let body = r#"{"choices":[{"index":0,"text":"a"},{"index":1,"text":"b"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
    let reading = json(Endpoint::Completions, body);
    is(reading.usage.unwrap(), 3, 2, &[]);
    assert!(
        reading.output.is_empty(),
        "what is reported need not be counted"
    );
    let silent = body.replace("usage", "x");
    let reading = json(Endpoint::Completions, &silent);
    assert_eq!(reading.output.choices.len(), 2);
    let body = r#"{"object":"list","data":[{"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    is(json(Endpoint::Embeddings, body).usage.unwrap(), 8, 0, &[]);
}

#[test]
fn images_and_transcripts_report_tokens_or_seconds() {
    let image = r#"{"created":1,"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#;
    let endpoint = || Endpoint::Other("images.generations".into());
    is(
        json(endpoint(), image).usage.unwrap(),
        50,
        50,
        &[("image_input_tokens", 40)],
    );
    let seconds = r#"{"text":"hi","usage":{"type":"duration","seconds":4}}"#;
    assert_eq!(json(endpoint(), seconds).usage, None);
}

#[test]
fn realtime_names_its_details_in_the_singular() {
    let done = r#"{"type":"response.done","response":{"usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,
        "input_token_details":{"cached_tokens":5,"audio_tokens":12},"output_token_details":{"audio_tokens":8}}}}"#;
    let usage = stream(Endpoint::Other("realtime".into()), &[done], End::Complete).usage;
    is(
        usage.unwrap(),
        20,
        10,
        &[(READ, 5), (AUDIO, 12), ("audio_output_tokens", 8)],
    );
}

#[test]
fn an_error_in_a_stream_is_told() {
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    let error = r#"{"error":{"message":"overloaded","type":"server_error"}}"#;
    let reading = stream(Endpoint::ChatCompletions, &[chunk, error], End::Complete);
    assert_eq!(reading.failed.as_deref(), Some("overloaded"));
    for nothing in [
        r#"{"error":null}"#,
        r#"{"error":{}}"#,
        r#"{"error":""}"#,
        r#"{"error":false}"#,
    ] {
        let reading = stream(Endpoint::ChatCompletions, &[nothing], End::Complete);
        assert_eq!(reading.failed, None, "{nothing}");
    }
}
