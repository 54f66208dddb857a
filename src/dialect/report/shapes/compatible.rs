//! Shapes of servers that speak OpenAI's dialect in their own way.

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
    let mistral =
        r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"num_cached_tokens":64}"#;
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
    is(chat(usage), 384, 201, &[(AUDIO, 375), ("audio_seconds", 4)]);
}

#[test]
fn deepseek_and_kimi_name_cache_reads_at_the_top() {
    let deepseek = r#"{"prompt_tokens":496,"completion_tokens":31,"total_tokens":527,"prompt_cache_hit_tokens":384,"prompt_cache_miss_tokens":112}"#;
    is(chat(deepseek), 496, 31, &[(READ, 384)]);
    let no_prompt =
        r#"{"completion_tokens":31,"prompt_cache_hit_tokens":384,"prompt_cache_miss_tokens":112}"#;
    is(chat(no_prompt), 496, 31, &[(READ, 384)]);
    let kimi = r#"{"prompt_tokens":50,"completion_tokens":2,"total_tokens":52,"cached_tokens":40}"#;
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
    let text =
        r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null,"usage":null}]}"#;
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
fn a_sane_report_counts_that_comes_after_an_absurd_one() {
    let chunk = |usage: &str| format!(r#"{{"choices":[],"usage":{usage}}}"#);
    let chat = |usages: &[&str]| {
        let chunks: Vec<String> = usages.iter().map(|usage| chunk(usage)).collect();
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        stream(Endpoint::ChatCompletions, &chunks, End::Complete)
    };
    let sane = r#"{"prompt_tokens":5,"completion_tokens":3}"#;
    let negative = r#"{"prompt_tokens":5,"completion_tokens":-1}"#;
    let huge = r#"{"prompt_tokens":5000000000,"completion_tokens":-3}"#;
    for usages in [&[negative, sane][..], &[sane, huge, negative, sane]] {
        let reading = chat(usages);
        is(reading.usage.unwrap(), 5, 3, &[]);
        assert!(reading.absurd && reading.usage_final, "it is still told");
    }
    // Nothing sane stands in its place.
    let without_output = r#"{"prompt_tokens":5}"#;
    let cached =
        r#"{"prompt_tokens":5,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":-2}}"#;
    for usages in [
        &[sane, negative][..],
        &[negative, without_output],
        &[huge, negative],
        &[cached, sane],
    ] {
        let reading = chat(usages);
        assert!(reading.absurd && reading.usage.is_none(), "{usages:?}");
    }
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
