//! A response made in the background is billed once, when its usage is first seen.

use crate::support::{ACME, Asked, Gateway, Reply, Upstream, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_background_response_is_billed_once_however_often_it_is_fetched() {
    // Made a moment ago, as far as the provider says. Not every id has a digit.
    let made_at = jiff::Timestamp::now().as_second() - 5;
    let upstream = Upstream::start(move |asked| {
        Reply::json(
            200,
            if asked.body.is_empty() {
                r#"{"id":"resp_once","object":"response","created_at":1790000000,"status":"completed","background":true,"model":"gpt-4o-mini","output":[],"usage":{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}}"#.replace("1790000000", &made_at.to_string())
            } else {
                r#"{"id":"resp_once","object":"response","created_at":1790000000,"status":"queued","background":true,"model":"gpt-4o-mini","output":[],"usage":null}"#.to_owned()
            },
        )
    })
    .await;
    let mut gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = r#"{"model":"gpt-4o-mini","input":"hi","background":true}"#;
    assert_eq!(
        gateway.client().post("/v1/responses", body).await.status,
        200
    );
    for _ in 0..3 {
        assert_eq!(
            gateway.client().get("/v1/responses/resp_once").await.status,
            200
        );
    }
    gateway.kill_and_restart().await;
    assert_eq!(
        gateway.client().get("/v1/responses/resp_once").await.status,
        200
    );
    let entries = gateway.ledger();
    let billed: Vec<_> = entries
        .iter()
        .filter(|entry| entry["cost_usd"] != "0.00")
        .collect();
    assert_eq!(billed.len(), 1, "{entries:#?}");
    assert_eq!(billed[0]["cost_usd"], "0.00021");
    assert_eq!(billed[0]["usage"]["input_tokens"], 1000);
    // The creation, four fetches, and the bill.
    assert_eq!(entries.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_response_that_was_streamed_is_billed_once_and_counts_once_on_limits() {
    let made_at = jiff::Timestamp::now().as_second() - 5;
    let response = format!(
        r#"{{"id":"resp_2","object":"response","created_at":{made_at},"status":"completed","background":true,"model":"gpt-4o-mini","output":[],"usage":{{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}}}}"#
    );
    let events = [
        format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{}}}\n\n",
            response.replace("\"completed\"", "\"in_progress\"").replace(
                r#"{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}"#,
                "null"
            )
        ),
        format!("event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{response}}}\n\n"),
    ]
    .map(String::into_bytes);
    let upstream = Upstream::start(move |asked| {
        if asked.body.is_empty() {
            Reply::json(200, response.clone())
        } else {
            Reply::events(events.to_vec())
        }
    })
    .await;
    let limit = "[[plans.limits]]\non = \"cost\"\nmax = \"1.00\"\nper = \"month\"\n[[accounts]]";
    let mut gateway =
        Gateway::start(&config(&upstream, &ACME.replacen("[[accounts]]", limit, 1))).await;
    let body = r#"{"model":"gpt-4o-mini","input":"hi","background":true,"stream":true,"max_output_tokens":200}"#;
    let fetch = async |gateway: &Gateway| {
        let answer = gateway.client().get("/v1/responses/resp_2").await;
        assert_eq!(answer.status, 200);
    };
    let used = async |gateway: &Gateway| {
        let page = gateway.admin_page("/api/v1/limits?account=acme").await;
        page["items"][0]["used"].as_str().unwrap().to_owned()
    };
    let answer = gateway.client().post("/v1/responses", body).await;
    assert_eq!(answer.status, 200);
    fetch(&gateway).await;
    gateway.kill_and_restart().await;
    assert_eq!(used(&gateway).await, "0.00021");
    fetch(&gateway).await;
    fetch(&gateway).await;
    assert_eq!(used(&gateway).await, "0.00021");
    let entries = gateway.ledger_of(5).await;
    let billed: Vec<_> = entries
        .iter()
        .filter(|entry| entry["cost_usd"] != "0.00")
        .collect();
    assert_eq!(billed.len(), 1, "{entries:#?}");
    // The creation, three fetches, and the bill.
    assert_eq!(entries.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_response_is_billed_once_whichever_way_it_is_fetched() {
    let made_at = jiff::Timestamp::now().as_second() - 5;
    let upstream = Upstream::start(move |asked| {
        let (status, usage) = if asked.body.is_empty() {
            ("completed", r#"{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}"#)
        } else {
            ("queued", "null")
        };
        Reply::json(200, format!(r#"{{"id":"resp_1","object":"response","created_at":{made_at},"status":"{status}","background":true,"model":"gpt-4o-mini","output":[],"usage":{usage}}}"#))
    })
    .await;
    // A second way to the same provider: what names no model takes the first.
    let more = format!(
        "[[upstreams]]\nid = \"second\"\nbase_url = \"{}\"\napi_key = \"sk-second\"\n{ACME}",
        upstream.url()
    );
    let text = config(&upstream, &more).replace(
        "models = [\"*\"]",
        "models = [\"other\"]\nupstreams = [\"sim\"]\n[[routes]]\nmodels = [\"gpt-*\"]",
    );
    let text = text.replace(
        "upstreams = [\"sim\", \"sim-anthropic\"]",
        "upstreams = [\"second\"]",
    );
    let mut gateway = Gateway::start(&text).await;
    let body = r#"{"model":"gpt-4o-mini","input":"hi","background":true}"#;
    let answer = gateway.client().post("/v1/responses", body).await;
    assert_eq!(answer.status, 200);
    let fetch = async |gateway: &Gateway| {
        let answer = gateway.client().get("/v1/responses/resp_1").await;
        assert_eq!(answer.status, 200);
    };
    fetch(&gateway).await;
    // Which upstream has it is not known any more.
    gateway.kill_and_restart().await;
    fetch(&gateway).await;
    let keys: Vec<_> = upstream
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").unwrap().to_owned())
        .collect();
    let (second, first) = ("Bearer sk-second", "Bearer sk-upstream");
    assert_eq!(keys, [second, second, first]);
    // The creation, two fetches, and the bill.
    let entries = gateway.ledger_of(4).await;
    let billed = |entry: &&serde_json::Value| entry["cost_usd"] != "0.00";
    assert_eq!(entries.iter().filter(billed).count(), 1, "{entries:#?}");
    assert_eq!(entries.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_by_an_upstream_is_asked_for_there() {
    let answer = |id: &'static str| {
        move |_: &Asked| {
            let queued = r#"{"id":"ID","object":"response","status":"queued","background":true,"model":"m","output":[],"usage":null}"#;
            Reply::json(200, queued.replace("ID", id))
        }
    };
    let (first, second) = (
        Upstream::start(answer("resp_1st")).await,
        Upstream::start(answer("resp_2")).await,
    );
    let more = format!(
        "[[upstreams]]\nid = \"second\"\nbase_url = \"{}\"\n{ACME}",
        second.url()
    );
    // Both serve the model, in turn; what names no model goes to the first.
    let both = "models = [\"*\"]\nupstreams = [{ id = \"sim\", priority = 1 }, { id = \"second\", priority = 1 }]";
    let text = config(&first, &more).replace(
        "models = [\"*\"]\nupstreams = [\"sim\", \"sim-anthropic\"]",
        &format!("models = [\"only-first\"]\nupstreams = [\"sim\"]\n[[routes]]\n{both}"),
    );
    let gateway = Gateway::start(&text).await;
    let client = gateway.client();
    let body = r#"{"model":"m","input":"hi","background":true}"#;
    while second.asked().is_empty() || first.asked().is_empty() {
        assert_eq!(client.post("/v1/responses", body).await.status, 200);
    }
    let (of_first, of_second) = (first.asked().len(), second.asked().len());
    for _ in 0..5 {
        client.get("/v1/responses/resp_2").await;
        client.post("/v1/responses/resp_2/cancel", "").await;
        let goes_on = r#"{"model":"m","input":"go on","previous_response_id":"resp_2"}"#;
        client.post("/v1/responses", goes_on).await;
        client.get("/v1/responses/resp_1st").await;
    }
    assert_eq!(second.asked().len(), of_second + 15);
    assert_eq!(first.asked().len(), of_first + 5);
}
