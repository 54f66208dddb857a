use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn chat(body: &str) -> Result<Ask, AskError> {
    read(&Endpoint::ChatCompletions, body.as_bytes())
}

fn refusal(body: &[u8]) -> (String, Option<String>) {
    let error = read(&Endpoint::ChatCompletions, body).unwrap_err();
    (error.message, error.param)
}

#[test]
fn what_matters_is_found_among_what_does_not() {
    let body = r#"{"messages":[{"role":"user","content":"model"}],"model":"gpt-4o","stream":true,
        "stream_options":{"include_usage":true},"max_tokens":10,"max_completion_tokens":20,"n":3,
        "service_tier":"flex","user":"u-1"}"#;
    let ask = chat(body).unwrap();
    assert_eq!(ask.model.as_ref().unwrap().as_str(), "gpt-4o");
    assert_eq!(&body[ask.model_span.clone().unwrap()], "\"gpt-4o\"");
    assert!(ask.stream && ask.asks_usage() && !ask.background && ask.conversation.is_none());
    assert_eq!(ask.max_output(&Endpoint::ChatCompletions), Some(20));
    assert_eq!(ask.choices, 3);
    assert_eq!(ask.service_tier.as_deref(), Some("flex"));
    assert_eq!(ask.end_user.as_deref(), Some("u-1"));
}

#[test]
fn a_negative_bound_is_none() {
    // As llama.cpp and LM Studio have it. A limit's cap can still take its place.
    let body = br#"{"model":"m","max_tokens":-1}"#;
    let ask = read(&Endpoint::ChatCompletions, body).unwrap();
    assert_eq!(ask.max_output(&Endpoint::ChatCompletions), None);
    let span = ask.max_tokens.unwrap().span;
    assert_eq!(&body[span], b"-1");
}

#[test]
fn each_endpoint_has_its_own_bound_of_output() {
    let body = br#"{"model":"m","max_tokens":1,"max_completion_tokens":2,"max_output_tokens":3}"#;
    for (endpoint, expected) in [
        (Endpoint::ChatCompletions, Some(2)),
        (Endpoint::Completions, Some(1)),
        (Endpoint::Messages, Some(1)),
        (Endpoint::Responses, Some(3)),
        (Endpoint::Embeddings, Some(0)),
    ] {
        let ask = read(&endpoint, body).unwrap();
        assert_eq!(ask.max_output(&endpoint), expected, "{endpoint}");
    }
    assert_eq!(
        chat(r#"{"model":"m"}"#)
            .unwrap()
            .max_output(&Endpoint::ChatCompletions),
        None
    );
}

#[test]
fn a_response_may_continue_an_earlier_one_or_run_in_the_background() {
    let read = |body: &str| read(&Endpoint::Responses, body.as_bytes()).unwrap();
    let continues = |body: &str| {
        read(body)
            .continues(&Endpoint::Responses)
            .map(str::to_owned)
    };
    let earlier = r#"{"model":"m","previous_response_id":"resp_1"}"#;
    assert_eq!(continues(earlier).as_deref(), Some("resp_1"));
    let kept = r#"{"model":"m","conversation":{"id":"conv_1"}}"#;
    assert_eq!(continues(kept).as_deref(), Some("conv_1"));
    let named = r#"{"model":"m","conversation":"conv_2"}"#;
    assert_eq!(continues(named).as_deref(), Some("conv_2"));
    assert_eq!(
        continues(r#"{"model":"m","previous_response_id":null}"#),
        None
    );
    assert!(read(r#"{"model":"m","background":true}"#).background);
}

#[test]
fn the_end_user_is_named_in_one_of_three_places() {
    let user = |body: &str| chat(body).unwrap().end_user.map(String::from);
    assert_eq!(
        user(r#"{"model":"m","metadata":{"user_id":"a"}}"#).as_deref(),
        Some("a")
    );
    assert_eq!(
        user(r#"{"model":"m","metadata":{"user_id":"a"},"user":"b"}"#).as_deref(),
        Some("b")
    );
    assert_eq!(
        user(r#"{"model":"m","safety_identifier":"c","user":"b"}"#).as_deref(),
        Some("c")
    );
    assert_eq!(user(r#"{"model":"m","user":7,"metadata":null}"#), None);
    assert_eq!(
        user(r#"{"model":"m","user":"a\u0000\nb\u0085"}"#).as_deref(),
        Some("ab"),
        "it is printed"
    );
    let long = format!(r#"{{"model":"m","user":"{}\n"}}"#, "é".repeat(500));
    assert_eq!(user(&long).unwrap().len(), END_USER_BYTES_MAX);
}

#[test]
fn a_member_given_twice_is_refused_however_it_is_written() {
    for (body, param) in [
        (r#"{"model":"a","model":"b"}"#, "model"),
        (r#"{"model":"a","model":"a"}"#, "model"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
        (r#"{"model":"a","stream":true,"stream":true}"#, "stream"),
        (
            r#"{"model":"a","temperature":1,"temperature":1}"#,
            "temperature",
        ),
        (r#"{"model":"a","Model":"b"}"#, "model"),
        (r#"{"model":"a","STREAM":true}"#, "stream"),
        ("{\"model\":\"a\",\"\u{17f}tream\":true}", "stream"),
        ("{\"model\":\"a\",\"max_to\u{212a}ens\":1}", "max_tokens"),
        (
            r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
            "stream_options.include_usage",
        ),
    ] {
        assert_eq!(refusal(body.as_bytes()).1.as_deref(), Some(param), "{body}");
    }
    let nested = r#"{"model":"a","tools":[{"x":1,"x":2}]}"#;
    assert!(
        chat(nested).is_ok(),
        "only the top level decides anything here"
    );
}

#[test]
fn a_member_that_matters_must_be_what_it_should_be() {
    for (body, message) in [
        (r#"{}"#, "`model` is missing"),
        (
            r#"{"model":null}"#,
            "`model` must be a string of valid Unicode",
        ),
        (r#"{"model":""}"#, "`model` must not be empty"),
        (
            r#"{"model":"a\u0000"}"#,
            "`model` must not contain control characters",
        ),
        (
            r#"{"model":"\ud800"}"#,
            "`model` must be a string of valid Unicode",
        ),
        (
            "{\"model\":\"a\",\n \"stream\":\"yes\"}",
            "`stream` must be true, false or null, not \"yes\" at line 2 column 11 (byte 24)",
        ),
        (
            r#"{"model":"a","n":0}"#,
            "`n` must be a whole number from 1 to 10000, not 0 at line 1 column 18 (byte 17)",
        ),
        (
            r#"{"model":"a","max_tokens":1e400}"#,
            "`max_tokens` must be a whole number from 0 to 1000000000, not 1e400 at line 1 column 27 (byte 26)",
        ),
        (
            r#"{"model":"a","max_tokens":1.5}"#,
            "`max_tokens` must be a whole number from 0 to 1000000000, not 1.5 at line 1 column 27 (byte 26)",
        ),
        (
            r#"{"model":"a","stream_options":true}"#,
            "`stream_options` must be an object or null, not true at line 1 column 31 (byte 30)",
        ),
    ] {
        assert_eq!(refusal(body.as_bytes()).0, message, "{body}");
    }
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(ModelName::MAX_BYTES + 1));
    assert_eq!(refusal(long.as_bytes()).0, "`model` is too long");
}

#[test]
fn numbers_may_be_written_as_lenient_upstreams_read_them() {
    let ask =
        chat(r#"{"model":"a","max_tokens":100.0,"max_completion_tokens":1e2,"n":null}"#).unwrap();
    assert_eq!(ask.max_tokens.unwrap().tokens, Some(100));
    assert_eq!(ask.max_completion_tokens.unwrap().tokens, Some(100));
    assert_eq!(ask.choices, 1);
}

#[test]
fn a_body_that_readers_could_take_apart_differently_is_refused() {
    for body in [
        b"\xef\xbb\xbf{\"model\":\"a\"}".as_slice(),
        b"{\"model\":\"a\"}x",
        b"{\"model\":\"a\"}{\"model\":\"b\"}",
        b"{\"model\":\"a\"}\0",
        b"{\"model\":\"\xff\"}",
        b"{\"model\":\"a\",\"x\":\"\xc0\xaf\"}",
        b"{\"model\":\"a\",}",
        b"{'model':'a'}",
        b"{\"model\":\"a\" /* b */}",
        b"[{\"model\":\"a\"}]",
        b"",
    ] {
        let (message, param) = refusal(body);
        assert!(
            param.is_none() && message.starts_with("the request body is not"),
            "{message}"
        );
    }
}

#[test]
fn an_endpoint_that_is_passed_through_takes_any_body() {
    let other = Endpoint::Other("files".into());
    for body in [
        b"--boundary\r\n\xff\x00".as_slice(),
        b"",
        b"[1]",
        b"{\"model\":",
    ] {
        let ask = read(&other, body).unwrap();
        assert_eq!((ask.model, ask.choices), (None, 1));
    }
    let ask = read(
        &other,
        br#"{"model":"tts-1","n":"x","stream":7,"max_tokens":{}}"#,
    )
    .unwrap();
    assert_eq!(ask.model.unwrap().as_str(), "tts-1");
    assert!(read(&other, br#"{"model":"a","model":"b"}"#).is_err());
}

#[test]
fn deep_nesting_and_many_members_are_bounded() {
    let deep = format!(
        r#"{{"model":"a","x":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(chat(&deep).is_ok());
    let many: Vec<String> = (0..10_000).map(|index| format!("\"m{index}\":0")).collect();
    let (message, _) = refusal(format!("{{{}}}", many.join(",")).as_bytes());
    assert!(message.contains("more than 4096 members"), "{message}");
}

/// A tree where it is one to `serde_json` too, with the members that matter in odd forms.
fn bodies() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "model",
        "mod\\u0065l",
        "stream",
        "n",
        "max_tokens",
        "user",
        "x",
        "Model",
        "stream_options",
    ]);
    let value = prop::sample::select(vec![
        "\"gpt-4o\"",
        "\"\"",
        "true",
        "false",
        "null",
        "1",
        "-1",
        "2.0",
        "[{}]",
        "{\"include_usage\":true}",
        "\"\\u00e9\"",
        "\"\\ud83d\"",
        "{\"a\":{\"model\":\"b\"}}",
        "01",
        "\"a\tb\"",
    ]);
    prop::collection::vec((name, value), 0..6).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!(" \"{name}\" : {value} "))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #[test]
    fn what_is_read_is_what_a_tree_says(body in bodies()) {
        let Ok(ask) = chat(&body) else { return Ok(()) };
        let Ok(tree) = serde_json::from_str::<Value>(&body) else {
            // Only lone surrogates in members that do not matter are more than serde_json takes.
            prop_assert!(body.contains("\\ud83d"));
            return Ok(());
        };
        prop_assert_eq!(&json!(ask.model.as_ref().unwrap().as_str()), &tree["model"]);
        prop_assert_eq!(ask.stream, tree["stream"] == json!(true));
        prop_assert_eq!(ask.choices, tree["n"].as_f64().unwrap_or(1.0) as u64);
        let span = ask.model_span.unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&body[span]).unwrap(), tree["model"].clone());
        prop_assert_eq!(body.matches("\"model\"").count() + body.matches("\"mod\\u0065l\"").count() - body.matches("{\"model\":\"b\"}").count(), 1);
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&Endpoint::ChatCompletions, &body);
        let _ = read(&Endpoint::Other("x".into()), &body);
    }
}
