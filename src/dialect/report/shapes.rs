//! Each provider's way of reporting usage, as a small answer and the usage that it means.

use super::*;
use crate::dialect::{Dialect, Endpoint};

fn json(endpoint: Endpoint, body: &str) -> Reading {
    let mut report = Report::new(&endpoint, Dialect::OpenAi, 1 << 20);
    assert!(report.body(body.as_bytes()), "a JSON object: {body}");
    report.finish(End::Complete)
}

fn stream(endpoint: Endpoint, events: &[&str], end: End) -> Reading {
    let mut report = Report::new(&endpoint, Dialect::OpenAi, 1 << 20);
    for event in events {
        report.event(b"", event.as_bytes());
    }
    report.finish(end)
}

fn chat(usage: &str) -> Usage {
    let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
    json(Endpoint::ChatCompletions, &body).usage.unwrap()
}

fn messages(usage: &str) -> Usage {
    let body = format!(r#"{{"type":"message","usage":{usage}}}"#);
    json(Endpoint::Messages, &body).usage.unwrap()
}

/// Input and output, and by name what else is not zero.
fn is(usage: Usage, input: u64, output: u64, others: &[(&str, u64)]) {
    let seen: Vec<(&str, u64)> = usage
        .classes()
        .into_iter()
        .filter(|(name, tokens)| !matches!(*name, "input_tokens" | "output_tokens") && *tokens > 0)
        .collect();
    assert_eq!((usage.input_tokens, usage.output_tokens), (input, output));
    assert_eq!(seen, others);
}

const READ: &str = "cache_read_input_tokens";
const WRITE: &str = "cache_write_input_tokens";
const WRITE_1H: &str = "cache_write_1h_input_tokens";
const REASONING: &str = "reasoning_output_tokens";
const AUDIO: &str = "audio_input_tokens";

mod openai {
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
        let arguments = r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{\"a\":1}"}"#;
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
}

mod compatible {
    use super::*;

    #[test]
    fn xai_keeps_reasoning_outside_the_completion_in_chats() {
        let outside = r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":303,"completion_tokens_details":{"reasoning_tokens":290}}"#;
        is(chat(outside), 12, 291, &[(REASONING, 290)]);
        let inside = r#"{"input_tokens":12,"output_tokens":291,"total_tokens":303,"output_tokens_details":{"reasoning_tokens":290}}"#;
        is(chat(inside), 12, 291, &[(REASONING, 290)]);
    }

    #[test]
    fn gemini_hides_its_thinking_in_the_total() {
        let usage = r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#;
        is(chat(usage), 35, 74, &[(REASONING, 62)]);
        let no_candidates = r#"{"prompt_tokens":35,"total_tokens":97}"#;
        is(chat(no_candidates), 35, 62, &[(REASONING, 62)]);
    }

    #[test]
    fn geminis_own_api_counts_thoughts_beside_candidates() {
        let body = r#"{"candidates":[],"modelVersion":"gemini-2.5-pro","usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":40,
            "candidatesTokenCount":10,"thoughtsTokenCount":30,"totalTokenCount":140}}"#;
        let usage = json(Endpoint::Other("models.id".into()), body).usage;
        is(usage.unwrap(), 100, 40, &[(READ, 40), (REASONING, 30)]);
    }

    #[test]
    fn cached_tokens_never_exceed_the_prompt_they_are_part_of() {
        let azure_grok = r#"{"prompt_tokens":7,"completion_tokens":8,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":161}}"#;
        is(chat(azure_grok), 7, 8, &[(READ, 7)]);
        let mistral = r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"num_cached_tokens":64}"#;
        is(chat(mistral), 10, 3, &[(READ, 10)]);
    }

    #[test]
    fn a_total_that_counts_the_cache_apart_shows_that_it_stands_outside() {
        let usage = r#"{"prompt_tokens":7,"completion_tokens":8,"total_tokens":176,"prompt_tokens_details":{"cached_tokens":161}}"#;
        is(chat(usage), 168, 8, &[(READ, 161)]);
    }

    #[test]
    fn mistral_counts_audio_beside_the_prompt() {
        let usage = r#"{"prompt_audio_seconds":4,"prompt_tokens":9,"total_tokens":585,"completion_tokens":201,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":375}}"#;
        is(chat(usage), 384, 201, &[(AUDIO, 375)]);
    }

    #[test]
    fn deepseek_and_kimi_name_cache_reads_at_the_top() {
        let deepseek = r#"{"prompt_tokens":496,"completion_tokens":31,"total_tokens":527,"prompt_cache_hit_tokens":384,"prompt_cache_miss_tokens":112}"#;
        is(chat(deepseek), 496, 31, &[(READ, 384)]);
        let no_prompt = r#"{"completion_tokens":31,"prompt_cache_hit_tokens":384,"prompt_cache_miss_tokens":112}"#;
        is(chat(no_prompt), 496, 31, &[(READ, 384)]);
        let kimi =
            r#"{"prompt_tokens":50,"completion_tokens":2,"total_tokens":52,"cached_tokens":40}"#;
        is(chat(kimi), 50, 2, &[(READ, 40)]);
    }

    #[test]
    fn groq_reports_twice_or_only_in_its_own_member() {
        let usage =
            r#"{"queue_time":0.09,"prompt_tokens":12,"completion_tokens":24,"total_tokens":36}"#;
        for body in [
            format!(r#"{{"choices":[],"x_groq":{{"id":"r","usage":{usage}}}}}"#),
            format!(r#"{{"choices":[],"usage":{usage},"x_groq":{{"usage":{usage}}}}}"#),
            format!(r#"{{"choices":[],"usage":null,"x_groq":{{"usage":{usage}}}}}"#),
        ] {
            is(
                json(Endpoint::ChatCompletions, &body).usage.unwrap(),
                12,
                24,
                &[],
            );
        }
    }

    #[test]
    fn usage_in_every_chunk_is_cumulative_and_never_summed() {
        let chunk = |tokens: u32| {
            format!(
                r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"finish_reason":null}}],"usage":{{"prompt_tokens":12,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
                12 + tokens
            )
        };
        let chunks = [chunk(0), chunk(3), chunk(8)];
        let events: Vec<&str> = chunks.iter().map(String::as_str).collect();
        let whole = stream(Endpoint::ChatCompletions, &events, End::Complete);
        is(whole.usage.unwrap(), 12, 8, &[]);
        assert!(whole.usage_final);
        let cut = stream(Endpoint::ChatCompletions, &events[..2], End::Aborted);
        is(cut.usage.unwrap(), 12, 3, &[]);
        assert!(!cut.usage_final, "more could have followed");
    }

    #[test]
    fn a_zero_after_a_report_does_not_take_it_back() {
        let report = r#"{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":8}}"#;
        let zero = r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#;
        let reading = stream(
            Endpoint::ChatCompletions,
            &[report, zero, "[DONE]"],
            End::Complete,
        );
        is(reading.usage.unwrap(), 12, 8, &[]);
    }

    #[test]
    fn voyage_reports_a_total_only() {
        let body = r#"{"object":"list","data":[],"model":"voyage-3","usage":{"total_tokens":10}}"#;
        is(json(Endpoint::Embeddings, body).usage.unwrap(), 10, 0, &[]);
    }

    #[test]
    fn perplexity_counts_its_searches() {
        let usage = r#"{"prompt_tokens":5,"completion_tokens":390,"total_tokens":395,"num_search_queries":3,"cost":{"total_cost":0.01}}"#;
        is(chat(usage), 5, 390, &[("web_search_requests", 3)]);
    }

    #[test]
    fn perplexity_keeps_reasoning_and_citations_outside() {
        let usage = r#"{"prompt_tokens":33,"completion_tokens":11395,"total_tokens":11428,"citation_tokens":19028,"num_search_queries":21,"reasoning_tokens":193947}"#;
        let others = [(REASONING, 193947), ("web_search_requests", 21)];
        is(chat(usage), 19061, 205342, &others);
        let little = r#"{"prompt_tokens":33,"completion_tokens":3000,"total_tokens":3033,"citation_tokens":900,"reasoning_tokens":2500}"#;
        is(chat(little), 933, 5500, &[(REASONING, 2500)]);
        let inside = r#"{"prompt_tokens":33,"completion_tokens":3000,"total_tokens":3033,"reasoning_tokens":2500}"#;
        is(chat(inside), 33, 3000, &[(REASONING, 2500)]);
    }

    #[test]
    fn kimi_reports_within_its_choice() {
        let usage = r#""usage":{"prompt_tokens":1336,"completion_tokens":31,"total_tokens":1367,"cached_tokens":1280}"#;
        let text = r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null,"usage":null}]}"#;
        let last =
            format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop",{usage}}}]}}"#);
        let without_cache = r#"{"choices":[],"usage":{"prompt_tokens":1336,"completion_tokens":31,"total_tokens":1367}}"#;
        for events in [
            &[text, text, &last][..],
            &[text, &last, without_cache, "[DONE]"],
        ] {
            let reading = stream(Endpoint::ChatCompletions, events, End::Aborted);
            is(reading.usage.unwrap(), 1336, 31, &[(READ, 1280)]);
            assert!(reading.usage_final);
        }
        let body = format!(r#"{{"choices":[{{"index":0,"message":{{"content":"Hi"}},{usage}}}]}}"#);
        let reading = json(Endpoint::ChatCompletions, &body);
        is(reading.usage.unwrap(), 1336, 31, &[(READ, 1280)]);
    }

    #[test]
    fn qwen_names_cache_writes_among_the_details() {
        let usage = r#"{"prompt_tokens":1700,"completion_tokens":5,"total_tokens":1705,"prompt_tokens_details":{"cached_tokens":0,"cache_creation_input_tokens":1605,"cache_creation":{"ephemeral_1h_input_tokens":5}}}"#;
        is(chat(usage), 1700, 5, &[(WRITE, 1605), (WRITE_1H, 5)]);
    }

    #[test]
    fn openrouter_may_report_more_reasoning_than_output() {
        let event = r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502,"message":"gone"},
            "usage":{"prompt_tokens":5,"completion_tokens":10,"total_tokens":15,"completion_tokens_details":{"reasoning_tokens":11},"cost":0}}"#;
        let reading = stream(Endpoint::ChatCompletions, &[event], End::Complete);
        is(reading.usage.unwrap(), 5, 10, &[(REASONING, 10)]);
        assert_eq!(reading.failed.as_deref(), Some("gone"));
    }

    #[test]
    fn litellm_names_the_same_cache_twice() {
        let usage = r#"{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"cache_read_input_tokens":80,"cache_creation_input_tokens":10,
            "prompt_tokens_details":{"cached_tokens":80,"cache_creation_tokens":10,"cache_creation_token_details":{"ephemeral_1h_input_tokens":10}}}"#;
        is(
            chat(usage),
            100,
            5,
            &[(READ, 80), (WRITE, 10), (WRITE_1H, 10)],
        );
    }

    #[test]
    fn bedrock_splits_cache_writes_by_lifetime() {
        let usage = r#"{"inputTokens":10,"outputTokens":5,"totalTokens":45,"cacheReadInputTokens":20,"cacheWriteInputTokens":10,
            "cacheDetails":[{"ttl":"1h","inputTokens":4},{"ttl":"5m","inputTokens":6}]}"#;
        is(
            chat(usage),
            40,
            5,
            &[(READ, 20), (WRITE, 10), (WRITE_1H, 4)],
        );
    }

    #[test]
    fn figures_are_read_however_they_are_written() {
        let usage = r#"{"prompt_tokens":"12","completion_tokens":3.0,"total_tokens":null,"prompt_tokens_details":"none","completion_tokens_details":[1]}"#;
        is(chat(usage), 12, 3, &[]);
    }

    #[test]
    fn an_odd_member_loses_nothing_else() {
        let body = r#"{"id":7,"model":{"no":"name"},"service_tier":[],"choices":{"not":"a list"},"choices":[1,{"index":"x","message":4}],
            "usage":{"prompt_tokens":1},"usage":{"prompt_tokens":12,"completion_tokens":3},"emoji":"\ud83d"}"#;
        let reading = json(Endpoint::ChatCompletions, body);
        is(reading.usage.unwrap(), 12, 3, &[]);
        assert_eq!((reading.served_model, reading.response_id), (None, None));
    }

    #[test]
    fn absurd_figures_are_refused_and_said_so() {
        for tokens in ["-1", "1000000001", "1e30", "-0.5", "99999999999999999999"] {
            let body = format!(
                r#"{{"choices":[],"usage":{{"prompt_tokens":5,"completion_tokens":{tokens}}}}}"#
            );
            let reading = json(Endpoint::ChatCompletions, &body);
            assert!(reading.absurd && reading.usage.is_none(), "{tokens}");
        }
        let most = r#"{"prompt_tokens":1000000000,"completion_tokens":0}"#;
        is(chat(most), 1_000_000_000, 0, &[]);
    }

    #[test]
    fn a_usage_without_figures_is_no_report() {
        for usage in [
            "null",
            "{}",
            r#"{"cost":0.1}"#,
            "[]",
            "7",
            r#"{"prompt_tokens":null}"#,
        ] {
            let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
            assert_eq!(
                json(Endpoint::ChatCompletions, &body).usage,
                None,
                "{usage}"
            );
        }
    }
}

mod anthropic {
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
        let delta =
            r#"{"type":"message_delta","usage":{"output_tokens":9,"service_tier":"standard"}}"#;
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
        assert_eq!(reading.web_search_calls, 1);
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
        let error =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
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
}
