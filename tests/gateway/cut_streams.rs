//! A stream that states no maximum reserves what such streams have needed, is counted as it passes, and ends with its
//! dialect's `length` stop when its limits have no more room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use weir::money::Money;

use crate::support::{Asked, Body, Gateway, Reply, Upstream, chat_answer, chat_chunks, config};

/// One account with a budget of so many dollars a month.
fn budget(usd: &str) -> String {
    format!(
        "[[plans]]\nid = \"team\"\nprice = \"0.00\"\nperiod = \"month\"\n[[plans.limits]]\non = \"cost\"\nmax = \"{usd}\"\nper = \"month\"\n[[accounts]]\nid = \"acme\"\nplan = \"team\"\nsince = 2026-01-01\nkeys = [{{ id = \"acme-app\", secret = \"sk-acme\" }}]\n"
    )
}

/// A story of so many words, a token and a chunk each.
fn story(words: usize, usage: bool) -> Vec<Vec<u8>> {
    told(" word", words, usage)
}

/// A text in so many chunks.
fn told(text: &str, chunks: usize, usage: bool) -> Vec<Vec<u8>> {
    let usage = usage.then_some((9, chunks as u64));
    let chunks = chat_chunks(&vec![text; chunks], usage).into_iter();
    chunks
        .map(|chunk| chunk.replace("gpt-4o-mini", "gpt-4o").into_bytes())
        .collect()
}

const ASK: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Tell me a story."}]}"#;

fn cost(entry: &Value) -> Money {
    Money::parse(entry["cost_usd"].as_str().unwrap()).unwrap()
}

/// The JSON data of a stream's events.
fn data(stream: &str) -> Vec<Value> {
    let lines = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    lines
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_cleanly_where_its_budget_ends_and_the_upstream_is_left() {
    // It would go on for ever.
    let upstream = Upstream::start(|asked| {
        Reply::stream(Body::Hangs(
            story(3000, asked.asks_usage())[..3000].to_vec(),
        ))
    })
    .await;
    // A thousand tokens of gpt-4o.
    let gateway = Gateway::start(&config(&upstream, &budget("0.01"))).await;
    let answer = gateway.client().post("/v1/chat/completions", ASK).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.broke_off);
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let events = data(&text);
    let words = events
        .iter()
        .filter(|event| event["choices"][0]["delta"]["content"] == " word")
        .count() as u64;
    let [.., stop, usage] = events.as_slice() else {
        panic!("{text}");
    };
    assert_eq!(
        *stop,
        json!({"id": "chatcmpl-1", "created": 1, "model": "gpt-4o", "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    );
    assert_eq!(usage["choices"], json!([]));
    upstream.left().await;
    assert_eq!(upstream.asked()[0].json()["max_tokens"], Value::Null);

    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["outcome"], "completed", "{entry}");
    assert_eq!(entry["reason"], "cost/month");
    assert_eq!(entry["usage_source"], "counted");
    let output = entry["usage"]["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["usage"]["completion_tokens"], output);
    assert!(
        output.abs_diff(words) <= 2,
        "{output} tokens for {words} words"
    );
    let cost = cost(entry);
    assert!(cost <= Money::parse("0.01").unwrap(), "{cost}");
    assert!(cost >= Money::parse("0.0095").unwrap(), "{cost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_needs_more_than_was_usual_goes_on_as_long_as_its_budget_does() {
    let upstream = Upstream::start(|asked| Reply::events(story(5000, asked.asks_usage()))).await;
    let gateway = Gateway::start(&config(&upstream, &budget("1.00"))).await;
    let answer = gateway.client().post("/v1/chat/completions", ASK).await;
    assert_eq!(answer.body, story(5000, true).concat());
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["usage_source"], "reported");
    assert_eq!(entry["reason"], Value::Null);
    let limits = gateway.admin_page("/api/v1/limits?account=acme").await;
    assert_eq!(limits["items"][0]["used"], entry["cost_usd"]);
    assert_eq!(
        Money::parse(limits["items"][0]["reserved"].as_str().unwrap()),
        Ok(Money::ZERO)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_many_clients_never_spend_more_than_a_dollar_and_can_spend_nearly_all_of_it() {
    // Every seventh stream would take more than the whole budget, which is 100,000 tokens of gpt-4o: it is sure to be cut.
    let upstream = Upstream::start(|asked| {
        let usage = asked.asks_usage();
        Reply::events(match asked.body.len() % 7 {
            0 => told(
                " one two three four five six seven eight nine ten",
                11_000,
                usage,
            ),
            _ => story(700, usage),
        })
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, &budget("1.00"))).await;
    let cut = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (client, cut) = (gateway.client(), Arc::clone(&cut));
        clients.spawn(async move {
            // Until nothing is left: what others hold meanwhile comes back.
            for turn in 0.. {
                let padding = "x".repeat((number + turn) % 7);
                let ask = ASK.replace("story", &format!("story {padding}"));
                let answer = client.post("/v1/chat/completions", ask).await;
                match answer.status.as_u16() {
                    200 => {
                        let text = answer.text();
                        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
                        if text.contains("\"finish_reason\":\"length\"") {
                            cut.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    429 if answer.code() == "insufficient_quota" => return,
                    429 => tokio::task::yield_now().await,
                    status => panic!("{status}: {}", answer.text()),
                }
            }
        });
    }
    clients.join_all().await;
    assert!(cut.load(Ordering::Relaxed) > 0, "no stream was cut");
    let spent: Money = gateway.ledger().iter().map(cost).sum();
    assert!(spent <= Money::from_usd(1), "{spent} of 1.00");
    assert!(
        spent >= Money::parse("0.95").unwrap(),
        "only {spent} of 1.00"
    );
}

fn responses(_: &Asked) -> Reply {
    let event = |kind: &str, members: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{members}}}\n\n").into_bytes()
    };
    let mut events = vec![
        event(
            "response.created",
            r#""response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","incomplete_details":null,"model":"gpt-4o","output":[],"usage":null},"sequence_number":0"#,
        ),
        event(
            "response.output_item.added",
            r#""item":{"id":"msg_1","type":"message","status":"in_progress","content":[],"role":"assistant"},"output_index":0,"sequence_number":1"#,
        ),
        event(
            "response.content_part.added",
            r#""content_index":0,"item_id":"msg_1","output_index":0,"part":{"type":"output_text","annotations":[],"text":""},"sequence_number":2"#,
        ),
    ];
    for number in 0..3000 {
        let members = format!(
            r#""content_index":0,"delta":" word","item_id":"msg_1","output_index":0,"sequence_number":{}"#,
            number + 3
        );
        events.push(event("response.output_text.delta", &members));
    }
    Reply::stream(Body::Hangs(events))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_becomes_incomplete_where_its_budget_ends() {
    let upstream = Upstream::start(responses).await;
    let gateway = Gateway::start(&config(&upstream, &budget("0.01"))).await;
    let ask = r#"{"model":"gpt-4o","stream":true,"input":"Tell me a story."}"#;
    let answer = gateway.client().post("/v1/responses", ask).await;
    let events = data(&answer.text());
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    let response = &last["response"];
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    let streamed: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(response["output"][0]["content"][0]["text"], streamed);
    let numbers: Vec<u64> = events
        .iter()
        .map(|event| event["sequence_number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    upstream.left().await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(
        response["usage"]["output_tokens"],
        entry["usage"]["output_tokens"]
    );
    assert!(cost(entry) <= Money::parse("0.01").unwrap(), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_stops_at_max_tokens_where_its_budget_ends() {
    let upstream = Upstream::start(|_| {
        let event = |kind: &str, members: &str| {
            format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{members}}}\n\n").into_bytes()
        };
        let mut events = vec![
            event("message_start", r#","message":{"id":"msg_1","type":"message","role":"assistant","model":"gpt-4o","content":[],"usage":{"input_tokens":9,"output_tokens":1}}"#),
            event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        ];
        let word = event("content_block_delta", r#","index":0,"delta":{"type":"text_delta","text":" word"}"#);
        events.extend(vec![word; 3000]);
        Reply::stream(Body::Hangs(events))
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, &budget("0.01"))).await;
    let ask = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Tell me a story."}]}"#;
    let answer = gateway.client().post("/v1/messages", ask).await;
    let events = data(&answer.text());
    let kinds: Vec<&str> = events
        .iter()
        .rev()
        .take(3)
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["message_stop", "message_delta", "content_block_stop"]
    );
    let delta = &events[events.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "max_tokens");
    upstream.left().await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(
        delta["usage"]["output_tokens"],
        entry["usage"]["output_tokens"]
    );
    assert!(cost(entry) <= Money::parse("0.01").unwrap(), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_thinks_unseen_is_bounded_by_its_upstream() {
    let upstream = Upstream::start(|asked| {
        let most = asked.json()["max_completion_tokens"].as_u64().unwrap();
        Reply::events(story(most as usize, asked.asks_usage()))
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, &budget("0.05"))).await;
    let ask = ASK.replace("gpt-4o", "o4-mini");
    let answer = gateway.client().post("/v1/chat/completions", ask).await;
    assert_eq!(answer.status, 200);
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["usage_source"], "reported");
    assert!(cost(entry) <= Money::parse("0.05").unwrap(), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_maximum_of_what_cannot_be_followed_grows_with_its_budget() {
    let upstream = Upstream::start(|asked| {
        Reply::json(
            200,
            chat_answer(1, 1).replace("gpt-4o-mini", asked.json()["model"].as_str().unwrap()),
        )
    })
    .await;
    for (usd, least) in [("1.00", 2_048), ("150.00", 20_000)] {
        let gateway = Gateway::start(&config(&upstream, &budget(usd))).await;
        let body = r#"{"model":"gpt-5-pro","messages":[]}"#;
        let answer = gateway.client().post("/v1/chat/completions", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let asked = upstream.asked().pop().unwrap();
        let most = asked.json()["max_completion_tokens"].as_u64().unwrap();
        assert!(
            most >= least && most < 272_000,
            "{most} with a budget of ${usd}"
        );
    }
}
