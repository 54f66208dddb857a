//! A budget that cannot be overrun, by any number of clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weir::money::Money;

use crate::support::{ACME, Body, Gateway, Reply, Upstream, chat_answer, config};

fn account(limit: &str) -> String {
    format!(
        "[[plans]]\nid = \"team\"\nprice = \"0.00\"\nperiod = \"month\"\n[[plans.limits]]\n{limit}\n[[accounts]]\nid = \"acme\"\nplan = \"team\"\nsince = 2026-01-01\nkeys = [{{ id = \"acme-app\", secret = \"sk-acme\" }}]\n"
    )
}

fn spent(entries: &[Value]) -> Money {
    entries
        .iter()
        .map(|entry| Money::parse(entry["cost_usd"].as_str().unwrap()).unwrap())
        .sum()
}

/// 64 clients ask until they are told that the budget is spent. `body` is what each asks.
async fn spend(gateway: &Gateway, body: &'static str) -> usize {
    let refused = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, refused) = (gateway.client(), Arc::clone(&refused));
        clients.spawn(async move {
            for _ in 0..200 {
                let answer = client.post("/v1/chat/completions", body).await;
                match answer.status.as_u16() {
                    200 => {}
                    429 => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        if answer.code() == "insufficient_quota" {
                            assert_eq!(answer.header("x-should-retry"), Some("false"));
                            return;
                        }
                        assert_eq!(answer.code(), "rate_limit_exceeded");
                        assert!(answer.header("retry-after").is_some());
                        tokio::task::yield_now().await;
                    }
                    status => panic!("{status}: {}", answer.text()),
                }
            }
        });
    }
    clients.join_all().await;
    refused.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_never_spend_more_than_a_dollar_and_can_spend_nearly_all_of_it() {
    // 2,000 in and 500 out on gpt-4o: 0.005 + 0.005, a cent a request.
    let upstream = Upstream::start(|_| {
        Reply::json(200, chat_answer(2000, 500).replace("gpt-4o-mini", "gpt-4o"))
    })
    .await;
    let limit = account("on = \"cost\"\nmax = \"1.00\"\nper = \"month\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let words: &'static str = Box::leak("word ".repeat(1980).into_boxed_str());
    let body: &'static str = Box::leak(format!(r#"{{"model":"gpt-4o","max_tokens":500,"messages":[{{"role":"user","content":"{words}"}}]}}"#).into_boxed_str());
    let refused = spend(&gateway, body).await;
    assert!(refused > 0);
    let entries = gateway.ledger();
    let spent = spent(&entries);
    assert!(spent <= Money::from_usd(1), "{spent} of 1.00");
    assert!(
        spent >= Money::parse("0.90").unwrap(),
        "only {spent} of 1.00 could be used"
    );
    let last = entries
        .iter()
        .rfind(|entry| entry["outcome"] == "rejected")
        .unwrap();
    assert_eq!(last["reason"], "cost/month", "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_state_no_maximum_cannot_overrun_it_either_and_do_not_lock_it_up() {
    // The upstream obeys the maximum that it is given, and would write 600 tokens otherwise.
    let upstream = Upstream::start(|asked| {
        let asked = asked.json();
        let most = asked["max_tokens"]
            .as_u64()
            .or(asked["max_completion_tokens"].as_u64())
            .unwrap_or(u64::MAX);
        Reply::json(
            200,
            chat_answer(10, most.min(600)).replace("gpt-4o-mini", "gpt-4o"),
        )
    })
    .await;
    let limit = account("on = \"cost\"\nmax = \"1.00\"\nper = \"month\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    spend(
        &gateway,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Tell me a story."}]}"#,
    )
    .await;
    let spent = spent(&gateway.ledger());
    assert!(spent <= Money::from_usd(1), "{spent} of 1.00");
    assert!(
        spent >= Money::parse("0.90").unwrap(),
        "only {spent} of 1.00 could be used"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_is_remembered_over_a_restart() {
    let upstream = Upstream::start(|_| {
        Reply::json(200, chat_answer(2000, 500).replace("gpt-4o-mini", "gpt-4o"))
    })
    .await;
    let limit = account("on = \"cost\"\nmax = \"0.03\"\nper = \"month\"");
    let mut gateway = Gateway::start(&config(&upstream, &limit)).await;
    let body = r#"{"model":"gpt-4o","max_tokens":500,"messages":[{"role":"user","content":"hi"}]}"#;
    for _ in 0..2 {
        assert_eq!(
            gateway
                .client()
                .post("/v1/chat/completions", body)
                .await
                .status,
            200
        );
    }
    gateway.kill_and_restart().await;
    let left = gateway.client().post("/v1/chat/completions", body).await;
    assert_eq!(left.status, 200);
    assert_eq!(
        gateway
            .client()
            .post("/v1/chat/completions", body)
            .await
            .code(),
        "insufficient_quota"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_requests_counts_requests() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let limit = account("on = \"requests\"\nmax = 3\nper = \"day\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[]}"#;
    for left in ["2", "1", "0"] {
        let answer = gateway.client().post("/v1/chat/completions", body).await;
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
    }
    assert_eq!(
        gateway
            .client()
            .post("/v1/chat/completions", body)
            .await
            .status,
        429
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_answers_itself_counts_on_no_limit_also_after_a_restart() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let limit = account("on = \"requests\"\nmax = 3\nper = \"day\"");
    let mut gateway = Gateway::start(&config(&upstream, &limit)).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[]}"#;
    for _ in 0..5 {
        assert_eq!(gateway.client().get("/v1/models").await.status, 200);
    }
    let answer = gateway.client().post("/v1/chat/completions", body).await;
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("2"));
    gateway.kill_and_restart().await;
    let answer = gateway.client().post("/v1/chat/completions", body).await;
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_limit_that_only_warns_nothing_is_left_once_it_is_exceeded() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1_000, 500))).await;
    let limit = account("on = \"cost\"\nmax = \"0.001\"\nper = \"week\"\nthen = \"warn\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[]}"#;
    for left in ["0.00055", "0.0001", "0.00", "0.00"] {
        let answer = gateway.client().post("/v1/chat/completions", body).await;
        assert_eq!(answer.header("x-weir-budget-remaining-usd"), Some(left));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_told_by_what_an_answer_took() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1_000, 500))).await;
    let limit = account(
        "on = \"cost\"\nmax = \"150.00\"\nper = \"month\"\n[[plans.limits]]\non = \"tokens\"\nmax = 1000000\nper = \"day\"",
    );
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[]}"#;
    let answer = gateway.client().post("/v1/chat/completions", body).await;
    assert_eq!(answer.header("x-weir-cost-usd"), Some("0.00045"));
    assert_eq!(
        answer.header("x-weir-budget-remaining-usd"),
        Some("149.99955")
    );
    assert_eq!(
        answer.header("x-ratelimit-remaining-tokens"),
        Some("998500")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cost_that_is_not_known_is_not_told() {
    let upstream = Upstream::start(|_| {
        Reply::json(
            200,
            chat_answer(1_000, 500).replace("gpt-4o-mini", "mystery"),
        )
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    for (model, priced_by) in [
        ("mystery", Value::Null),
        // The price of what was asked for stands in: perhaps it is not all.
        ("gpt-4o-mini", json!("gpt-4o-mini")),
    ] {
        let body = json!({ "model": model, "messages": [] }).to_string();
        let answer = gateway.client().post("/v1/chat/completions", body).await;
        assert_eq!(answer.header("x-weir-cost-usd"), None);
        let id = answer.header("x-weir-request-id").unwrap();
        let entries = gateway.ledger();
        let entry = entries.iter().find(|entry| entry["id"] == id).unwrap();
        assert_eq!(entry["priced_by"]["model"], priced_by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_have_no_price_make_an_answer_unpriced_though_its_tokens_have_one() {
    let upstream = Upstream::start(|_| {
        let answer = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-3.5-turbo","output":[{"type":"web_search_call","id":"ws_1","status":"completed"}],"usage":{"input_tokens":1000,"output_tokens":500,"total_tokens":1500}}"#;
        Reply::json(200, answer.to_owned())
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = r#"{"model":"gpt-3.5-turbo","input":"What is new?"}"#;
    let answer = gateway.client().post("/v1/responses", body).await;
    assert_eq!(answer.header("x-weir-cost-usd"), None, "it is not all");
    let entry = gateway.ledger_of(1).await.remove(0);
    // $0.50 and $1.50 a million.
    assert_eq!(entry["cost_usd"], "0.00125", "{entry}");
    assert_eq!(entry["reason"], "a part of what was used has no price");
    assert_eq!(gateway.metric("weir_unpriced_requests_total").await, 1.0);
}

/// A response that called these tools, of 1,000 and 500 tokens.
fn response_with(calls: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","status":"completed","model":"gpt-4o","output":[{calls}],"usage":{{"input_tokens":1000,"output_tokens":500,"total_tokens":1500}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_in_files_are_billed_by_the_call() {
    let calls = r#"{"type":"file_search_call","id":"fs_1","status":"completed"},{"type":"file_search_call","id":"fs_2","status":"completed"}"#;
    let upstream = Upstream::start(move |_| Reply::json(200, response_with(calls))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = r#"{"model":"gpt-4o","input":"What do we know of weirs?"}"#;
    let answer = gateway.client().post("/v1/responses", body).await;
    let entry = gateway.ledger_of(1).await.remove(0);
    // $2.50 and $10 a million, and $2.50 a thousand searches.
    assert_eq!(entry["cost_usd"], "0.0125", "{entry}");
    assert_eq!(answer.header("x-weir-cost-usd"), Some("0.0125"));
    assert_eq!(entry["usage"]["file_search_requests"], 2);
    assert_eq!(entry["reason"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_interpreter_is_billed_beside_the_tokens_and_the_entry_says_so() {
    let call = r#"{"type":"code_interpreter_call","id":"ci_1","status":"completed","container_id":"cntr_1"}"#;
    let upstream = Upstream::start(move |_| Reply::json(200, response_with(call))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = r#"{"model":"gpt-4o","input":"How high is the weir?"}"#;
    let answer = gateway.client().post("/v1/responses", body).await;
    assert_eq!(answer.header("x-weir-cost-usd"), None, "it is not all");
    let entry = gateway.ledger_of(1).await.remove(0);
    assert_eq!(entry["cost_usd"], "0.0075", "{entry}");
    assert_eq!(entry["usage"]["code_interpreter_requests"], 1);
    assert_eq!(
        entry["reason"],
        "calls of code_interpreter, image_generation or a hosted shell are billed beside this cost"
    );
    assert_eq!(gateway.metric("weir_unpriced_requests_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_made_beside_a_response_are_priced_by_their_own_model() {
    let answer = response_with(r#"{"type":"image_generation_call","id":"ig_1"}"#).replacen(
        '{',
        r#"{"tools":[{"type":"image_generation","model":"gpt-image-1"}],"tool_usage":{"image_gen":{"input_tokens":50,"input_tokens_details":{"image_tokens":40,"text_tokens":10},"output_tokens":1056,"total_tokens":1106}},"#,
        1,
    );
    let upstream = Upstream::start(move |_| Reply::json(200, answer.clone())).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = r#"{"model":"gpt-4o","input":"Draw a weir."}"#;
    gateway.client().post("/v1/responses", body).await;
    let entry = gateway.ledger_of(1).await.remove(0);
    // $0.0075 of text, and of gpt-image-1: 10 x $5, 40 x $10, 1,056 x $40 a million.
    assert_eq!(entry["cost_usd"], "0.05019", "{entry}");
    let priced_by = entry["priced_by"].as_array().unwrap();
    assert_eq!(priced_by[1]["model"], "gpt-image-1");
    assert_eq!(entry["reason"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_the_provider_keeps_is_reserved_with_the_request_that_continues_it() {
    // $2.50 a million of input, $10 of output: the first turn costs $0.255, and its 100,500 tokens come again with the second.
    let limit = account("on = \"cost\"\nmax = \"0.50\"\nper = \"month\"");
    let upstream = Upstream::start(|_| {
        let answer = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-4o","output":[{"type":"message","content":[{"type":"output_text","text":"Hello."}]}],"usage":{"input_tokens":100000,"output_tokens":500,"total_tokens":100500}}"#;
        Reply::json(200, answer.to_owned())
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let client = gateway.client();
    let ask = async |more: &str| {
        let body = format!(r#"{{"model":"gpt-4o","max_output_tokens":500,"input":"Hi."{more}}}"#);
        client.post("/v1/responses", body).await.status
    };
    assert_eq!(ask(r#","conversation":"conv_1""#).await, 200);
    for continues in [
        r#","previous_response_id":"resp_1""#,
        r#","conversation":{"id":"conv_1"}"#,
    ] {
        assert_eq!(ask(continues).await, 429, "{continues}");
    }
    assert_eq!(ask("").await, 200, "one that begins anew has room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_is_billed_and_held_to_limits_like_a_response() {
    // $2.50 a million of input, $10 of output, at most 16,384 tokens of it: $0.16384 are held, $0.03 spent.
    let limit = account("on = \"cost\"\nmax = \"0.20\"\nper = \"month\"");
    let upstream = Upstream::start(|_| {
        let answer = r#"{"id":"resp_1","object":"response.compaction","created_at":1790000000,"output":[{"id":"cmp_1","type":"compaction","encrypted_content":"gAAA"}],"usage":{"input_tokens":10000,"input_tokens_details":{"cached_tokens":0},"output_tokens":500,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":10500}}"#;
        Reply::json(200, answer)
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let client = gateway.client();
    let body = r#"{"model":"gpt-4o","input":[{"role":"user","content":"Hi."}]}"#;
    for _ in 0..2 {
        let answer = client.post("/v1/responses/compact", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-weir-cost-usd"), Some("0.03"));
    }
    let answer = client.post("/v1/responses/compact", body).await;
    assert_eq!(answer.code(), "insufficient_quota");
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[0].body,
        body.as_bytes(),
        "no maximum is sent: it takes none"
    );
    let entries = gateway.ledger_of(3).await;
    assert_eq!(entries[0]["endpoint"], "responses.compact");
    assert_eq!(entries[0]["usage_source"], "reported");
    assert_eq!(entries[0]["usage"]["output_tokens"], 500);
    assert_eq!(entries[0]["cost_usd"], "0.03");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_caps_outputs_refuses_a_compaction_whose_output_it_cannot_cap() {
    let limit =
        account("on = \"cost\"\nmax = \"0.10\"\nper = \"month\"\nthen = { cap_output = 256 }");
    let upstream = Upstream::start(|_| Reply::json(200, "{}")).await;
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let client = gateway.client();
    let body = r#"{"model":"gpt-4o","max_output_tokens":16384,"input":"Hi."}"#;
    assert_eq!(client.post("/v1/responses", body).await.status, 200);
    assert_eq!(upstream.asked()[0].json()["max_output_tokens"], 256);
    let answer = client.post("/v1/responses/compact", body).await;
    assert_eq!(answer.code(), "insufficient_quota", "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_must_have_room_for_the_tier_that_it_may_be_served_in() {
    // A thousand tokens of output are $0.010, and $0.017 in the priority tier.
    let limit = account("on = \"cost\"\nmax = \"0.014\"\nper = \"month\"");
    let body =
        |tier: &str| format!(r#"{{"model":"gpt-4o","max_tokens":1000,{tier}"messages":[]}}"#);
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let text = config(&upstream, &limit);
    let gateway = Gateway::start(&text).await;
    for (tier, status) in [
        ("\"service_tier\":\"priority\",", 429),
        // What others call it.
        ("\"service_tier\":\"fast\",", 429),
        ("\"service_tier\":\"flex\",", 200),
        ("", 200),
    ] {
        let answer = gateway
            .client()
            .post("/v1/chat/completions", body(tier))
            .await;
        assert_eq!(answer.status, status, "{tier}: {}", answer.text());
    }
    // A thousand tokens of Claude Opus 4.6 are $0.025, and $0.15 in its fast mode.
    let limit = account("on = \"cost\"\nmax = \"0.16\"\nper = \"month\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    for (speed, status) in [
        // A tenth more where the request is kept in one region.
        ("\"speed\":\"fast\",\"inference_geo\":\"us\",", 429),
        ("\"speed\":\"fast\",\"inference_geo\":\"global\",", 200),
        ("\"speed\":\"standard\",", 200),
    ] {
        let body = body(speed).replace("gpt-4o", "claude-opus-4-6");
        let answer = gateway.client().post("/v1/messages", body).await;
        assert_eq!(answer.status, status, "{speed}: {}", answer.text());
    }
    let always = "api_key = \"sk-upstream\"\nservice_tier = { fixed = \"priority\" }\ntimeouts";
    let gateway =
        Gateway::start(&text.replacen("api_key = \"sk-upstream\"\ntimeouts", always, 1)).await;
    let answer = gateway
        .client()
        .post("/v1/chat/completions", body(""))
        .await;
    assert_eq!(answer.status, 429, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_another_request_to_end_changes_nothing_in_this_one() {
    let upstream = Upstream::start(|_| Reply {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: Body::Later(Duration::from_millis(300), chat_answer(1, 1).into_bytes()),
    })
    .await;
    let limit = account("on = \"concurrent\"\nmax = 1\nqueue = \"5s\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let asked = || {
        let client = gateway.client();
        tokio::spawn(async move { client.post("/v1/chat/completions", body).await.status })
    };
    let (first, second) = (asked(), asked());
    assert_eq!(
        (first.await.unwrap(), second.await.unwrap()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    for asked in upstream.asked() {
        assert_eq!(String::from_utf8_lossy(&asked.body), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_cheaper_model_has_what_others_are_given() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let limit = account(
        "on = \"requests\"\nmax = 1\nper = \"day\"\nthen = { downgrade = \"gpt-4o-mini\" }",
    );
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    for (model, downgraded) in [
        ("gpt-4o", None),
        ("gpt-4o", Some("gpt-4o-mini")),
        ("gpt-4o-mini", None),
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        let answer = gateway.client().post("/v1/chat/completions", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-weir-downgraded-to"), downgraded, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_several_answers_must_have_room_for_all_of_them() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let limit = account("on = \"output_tokens\"\nmax = 1000\nper = \"month\"");
    let gateway = Gateway::start(&config(&upstream, &limit)).await;
    for (count, status) in [("\"n\":3", 200), ("\"n\":4", 429), ("\"best_of\":4", 429)] {
        let body = format!(r#"{{"model":"gpt-4o-mini","max_tokens":300,{count},"messages":[]}}"#);
        let answer = gateway.client().post("/v1/chat/completions", body).await;
        assert_eq!(answer.status, status, "{count}: {}", answer.text());
    }
    assert_eq!(upstream.asked().len(), 1);
}
