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

/// What a response says that called this once, whole and in a stream that broke off.
fn called(item: &str) -> [Reading; 2] {
    let usage = r#""usage":{"input_tokens":9,"output_tokens":5,"total_tokens":14}"#;
    let whole = format!(r#"{{"status":"completed","output":[{item}],{usage}}}"#);
    let done = format!(r#"{{"type":"response.output_item.done","item":{item}}}"#);
    [
        json(Endpoint::Responses, &whole),
        stream(Endpoint::Responses, &[&done], End::Aborted),
    ]
}

#[test]
fn calls_of_tools_are_counted() {
    let one = |kind: &str| format!(r#"{{"type":"{kind}","action":{{"type":"search"}}}}"#);
    for (kind, calls) in [
        (
            "web_search_call",
            Calls {
                web_searches: 1,
                ..Calls::default()
            },
        ),
        (
            "file_search_call",
            Calls {
                file_searches: 1,
                ..Calls::default()
            },
        ),
        (
            "code_interpreter_call",
            Calls {
                code_interpreters: 1,
                ..Calls::default()
            },
        ),
        ("function_call", Calls::default()),
        ("message", Calls::default()),
    ] {
        for reading in called(&one(kind)) {
            assert_eq!(reading.calls, calls, "{kind}");
            assert!(!reading.billed_beside, "{kind}");
        }
    }
    let [whole, _] = called(&one("file_search_call"));
    is(whole.usage.unwrap(), 9, 5, &[("file_search_requests", 1)]);
}

#[test]
fn calls_of_tools_whose_bill_is_nowhere_in_the_answer_are_told_of() {
    let shell =
        |kind: &str| format!(r#"{{"type":"shell_call","environment":{{"type":"{kind}"}}}}"#);
    for (item, beside) in [
        (r#"{"type":"image_generation_call"}"#.to_owned(), true),
        (shell("container_reference"), true),
        (shell("local"), false),
        (r#"{"type":"local_shell_call"}"#.to_owned(), false),
    ] {
        for reading in called(&item) {
            assert_eq!(reading.billed_beside, beside, "{item}");
        }
    }
}

#[test]
fn images_made_beside_a_response_are_a_part_by_their_own_model() {
    let body = |image_gen: &str| {
        format!(
            r#"{{"status":"completed","model":"gpt-5","output":[{{"type":"image_generation_call"}}],
            "tools":[{{"type":"web_search"}},{{"type":"image_generation","model":"gpt-image-1"}}],
            "tool_usage":{{"image_gen":{image_gen},"web_search":{{"num_requests":0}}}},
            "usage":{{"input_tokens":9,"output_tokens":5,"total_tokens":14}}}}"#
        )
    };
    let reading = json(
        Endpoint::Responses,
        &body(
            r#"{"input_tokens":50,"input_tokens_details":{"image_tokens":40,"text_tokens":10},"output_tokens":1056,
                "output_tokens_details":{"image_tokens":1056,"text_tokens":0},"total_tokens":1106}"#,
        ),
    );
    let parts: Vec<_> = reading
        .parts
        .iter()
        .map(|part| {
            let usage = part.usage;
            let model = part.model.as_ref().map(|model| model.as_str().to_owned());
            (model.unwrap(), usage.input_tokens, usage.output_tokens)
        })
        .collect();
    assert_eq!(
        parts,
        [
            ("gpt-5".to_owned(), 9, 5),
            ("gpt-image-1".to_owned(), 50, 1056)
        ]
    );
    is(
        reading.usage.unwrap(),
        59,
        1061,
        &[("image_input_tokens", 40), ("image_output_tokens", 1056)],
    );
    assert!(!reading.billed_beside);
    let zero = json(
        Endpoint::Responses,
        &body(r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#),
    );
    assert_eq!(zero.parts.len(), 1);
    assert!(zero.billed_beside, "an image was made, and not reported");
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
fn images_report_tokens_or_are_counted() {
    let endpoint = || Endpoint::Other("images.generations".into());
    let image = r#"{"created":1,"data":[{"b64_json":"aGk="}],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#;
    let tokens = json(endpoint(), image).usage.unwrap();
    is(tokens, 50, 50, &[("image_input_tokens", 40)]);
    let silent = r#"{"created":1,"data":[{"url":"https://a"},{"url":"https://b"}]}"#;
    let reading = json(endpoint(), silent);
    assert_eq!((reading.usage, reading.images), (None, 2));
    let embeddings = json(Endpoint::Embeddings, silent);
    assert_eq!(embeddings.images, 0, "other lists are no images");
    let partial = r#"{"type":"image_generation.partial_image","partial_image_index":0}"#;
    let whole = r#"{"type":"image_generation.completed","usage":{"input_tokens":7,"output_tokens":9,"total_tokens":16}}"#;
    let reading = stream(endpoint(), &[partial, whole], End::Complete);
    is(reading.usage.unwrap(), 7, 9, &[]);
    assert!(reading.usage_final);
}

#[test]
fn transcripts_report_tokens_or_seconds() {
    let endpoint = || Endpoint::Other("audio.transcriptions".into());
    for (seconds, heard) in [("4", 4), ("4.0", 4), ("12.6", 13), ("0.2", 1)] {
        let body = format!(r#"{{"text":"hi","usage":{{"type":"duration","seconds":{seconds}}}}}"#);
        let reading = json(endpoint(), &body);
        is(reading.usage.unwrap(), 0, 0, &[("audio_seconds", heard)]);
        assert!(reading.usage_final);
    }
    let done = r#"{"type":"transcript.text.done","text":"hi","usage":{"type":"tokens","input_tokens":14,
        "input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#;
    let reading = stream(endpoint(), &[done], End::Complete);
    is(reading.usage.unwrap(), 14, 45, &[(AUDIO, 14)]);
    let beside_tokens = r#"{"choices":[],"usage":{"prompt_tokens":42,"completion_tokens":12,"total_tokens":54,"seconds":1}}"#;
    let usage = json(Endpoint::ChatCompletions, beside_tokens)
        .usage
        .unwrap();
    is(usage, 42, 12, &[("audio_seconds", 1)]);
    let alone = r#"{"choices":[],"usage":{"seconds":3}}"#;
    assert_eq!(json(Endpoint::ChatCompletions, alone).usage, None);
    let absurd = r#"{"text":"hi","usage":{"type":"duration","seconds":-4}}"#;
    let reading = json(endpoint(), absurd);
    assert!(reading.usage.is_none() && reading.absurd);
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
