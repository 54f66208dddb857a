//! Bytes pass untouched but for what a rule asks.

use serde_json::{Value, json};

use crate::support::{ACME, CHAT, Gateway, Reply, Upstream, chat_answer, chat_chunks, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_upstream_byte_for_byte_with_the_upstreams_own_key() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(9, 3))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = "{ \"messages\":[{\"content\":\"\\u0041\",\"role\":\"user\"}],\n \"x_unknown\": 1.50e+1, \"model\":\"gpt-4o-mini\" }";
    let answer = gateway
        .client()
        .post_with(
            "/v1/chat/completions?x=1",
            body,
            &[
                ("x-api-key", "sk-acme"),
                ("x-custom", "kept"),
                ("connection", "x-hop"),
                ("x-hop", "dropped"),
            ],
        )
        .await;
    assert_eq!(answer.status, 200);
    let asked = upstream.asked().remove(0);
    assert_eq!(String::from_utf8(asked.body.clone()).unwrap(), body);
    assert_eq!(asked.path, "/v1/chat/completions?x=1");
    assert_eq!(asked.header("authorization"), Some("Bearer sk-upstream"));
    assert_eq!(asked.header("x-custom"), Some("kept"));
    assert_eq!(asked.header("x-api-key"), None);
    assert_eq!(asked.header("x-hop"), None);
    assert_eq!(asked.header("x-weir-tags"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_its_request_and_its_exact_cost() {
    let upstream =
        Upstream::start(|_| Reply::json(200, chat_answer(1000, 100)).header("x-upstream", "kept"))
            .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let answer = gateway
        .client()
        .post_with(
            "/v1/chat/completions",
            CHAT,
            &[("x-weir-tags", "feature=search,env=prod")],
        )
        .await;
    // gpt-4o-mini: 0.15 and 0.60 dollars per million tokens.
    assert_eq!(answer.header("x-weir-cost-usd"), Some("0.00021"));
    assert_eq!(answer.header("x-upstream"), Some("kept"));
    assert_eq!(answer.text(), chat_answer(1000, 100));
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["id"], answer.header("x-weir-request-id").unwrap());
    assert_eq!(entry["cost_usd"], "0.00021");
    assert_eq!(entry["usage"]["input_tokens"], 1000);
    assert_eq!(entry["usage_source"], "reported");
    assert_eq!(entry["outcome"], "completed");
    assert_eq!(entry["tags"]["feature"], "search");
    assert_eq!(entry["account"], "acme");
    assert_eq!(entry["key"], "acme-app");
    assert_eq!(entry["priced_by"]["model"], "gpt-4o-mini");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_asked_for_is_metered_whatever_it_is_called() {
    let upstream = Upstream::start(|asked| {
        let usage = asked.asks_usage().then_some((800, 900));
        let mut reply = Reply::events(chat_chunks(&["Hel", "lo"], usage));
        reply.headers.clear();
        match asked.header("x-called") {
            Some(name) => reply.header("content-type", name),
            None => reply,
        }
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = CHAT.replacen('{', "{\"stream\":true,", 1);
    for called in [&[("x-called", "text/plain; charset=utf-8")][..], &[]] {
        let answer = gateway
            .client()
            .post_with("/v1/chat/completions", body.clone(), called)
            .await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("lo") && !answer.text().contains("usage"));
    }
    for entry in gateway.ledger_of(2).await {
        assert_eq!(entry["usage_source"], "reported");
        assert_eq!(entry["usage"]["input_tokens"], 800);
        assert_eq!(entry["usage"]["output_tokens"], 900);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_did_not_ask_for_usage_never_sees_it_and_one_that_did_sees_it_once() {
    let upstream = Upstream::start(|asked| {
        let usage = asked.asks_usage().then_some((7, 2));
        Reply::events(chat_chunks(&["Hel", "lo"], usage))
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let without = gateway
        .client()
        .post(
            "/v1/chat/completions",
            CHAT.replacen('{', "{\"stream\":true,", 1),
        )
        .await;
    assert_eq!(without.text(), chat_chunks(&["Hel", "lo"], None).concat());
    let asks = CHAT.replacen(
        '{',
        "{\"stream\":true,\"stream_options\":{\"include_usage\":true},",
        1,
    );
    let with = gateway.client().post("/v1/chat/completions", asks).await;
    assert_eq!(
        with.text(),
        chat_chunks(&["Hel", "lo"], Some((7, 2))).concat()
    );
    for entry in gateway.ledger_of(2).await {
        assert_eq!(entry["usage"]["input_tokens"], 7, "{entry}");
        assert_eq!(entry["usage"]["output_tokens"], 2, "{entry}");
        assert_eq!(entry["usage_source"], "reported");
        assert_eq!(entry["streamed"], true);
        assert!(entry["first_token_ms"].is_number(), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_passed_on_before_the_next_one_exists() {
    let first = chat_chunks(&["One"], None).remove(0);
    let upstream = Upstream::start({
        let first = first.clone();
        move |_| {
            Reply::stream(crate::support::Body::Hangs(vec![
                first.clone().into_bytes(),
            ]))
        }
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let mut answer = gateway
        .client()
        .start(
            "/v1/chat/completions",
            CHAT.replacen('{', "{\"stream\":true,", 1),
            &[],
        )
        .await
        .unwrap();
    let frame = tokio::time::timeout(
        std::time::Duration::from_secs(5),
        http_body_util::BodyExt::frame(&mut answer),
    )
    .await;
    let data = frame
        .expect("the event comes alone")
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert_eq!(data, first.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_changes_the_model_and_nothing_else() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let renaming = config(&upstream, ACME).replace(
        "models = [\"*\"]",
        "models = [\"*\"]\nrename = { \"gpt-4.5-preview\" = \"gpt-4o-mini\" }",
    );
    let gateway = Gateway::start(&renaming).await;
    let body = CHAT.replace("gpt-4o-mini", "gpt-4.5-preview");
    gateway
        .client()
        .post("/v1/chat/completions", body.clone())
        .await;
    assert_eq!(
        String::from_utf8(upstream.asked()[0].body.clone()).unwrap(),
        CHAT
    );
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["model"], "gpt-4.5-preview");
    assert_eq!(entry["served_model"], "gpt-4o-mini");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_passed_through_and_counted_as_unpriced() {
    let upstream = Upstream::start(|_| Reply::json(200, "{\"id\":\"file-1\"}")).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let answer = gateway.client().post("/v1/files", "{}").await;
    assert_eq!(answer.text(), "{\"id\":\"file-1\"}");
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["endpoint"], "files");
    assert_eq!(entry["priced_by"], Value::Null);
    assert_eq!(gateway.metric("weir_unpriced_requests_total").await, 1.0);
}

/// What an answer to one path costs, by its entry: the cost, the model that it was priced by, and the source of its usage.
async fn booked(path: &str, model: &str, answer: &str) -> (String, Value, String) {
    let answer = answer.to_owned();
    let upstream = Upstream::start(move |_| Reply::json(200, answer.clone())).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let body = json!({ "model": model }).to_string();
    assert_eq!(gateway.client().post(path, body).await.status, 200);
    let entry = gateway.ledger_of(1).await.remove(0);
    let text = |name: &str| entry[name].as_str().unwrap().to_owned();
    (
        text("cost_usd"),
        entry["priced_by"]["model"].clone(),
        text("usage_source"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_images_are_priced_by_what_their_answers_report() {
    let transcriptions = "/v1/audio/transcriptions";
    let images = "/v1/images/generations";
    let cases = [
        // $0.006 a minute.
        (
            transcriptions,
            "whisper-1",
            r#"{"text":"hi","usage":{"type":"duration","seconds":90}}"#,
            ("0.009", json!("whisper-1"), "reported"),
        ),
        // $2.50 and $10 a million.
        (
            transcriptions,
            "gpt-4o-transcribe",
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":1000,"input_token_details":{"text_tokens":0,"audio_tokens":1000},"output_tokens":100,"total_tokens":1100}}"#,
            ("0.0035", json!("gpt-4o-transcribe"), "reported"),
        ),
        // $5 of text, $10 of images, $40 a million of what is made.
        (
            images,
            "gpt-image-1",
            r#"{"created":1,"data":[{"b64_json":"aGk="}],"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":1056,"total_tokens":1106}}"#,
            ("0.04269", json!("gpt-image-1"), "reported"),
        ),
        // Some servers put zeros where they know nothing; an image is there all the same, of 1,056 tokens or so.
        (
            images,
            "gpt-image-1",
            r#"{"created":1,"data":[{"b64_json":"aGk="}],"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}"#,
            ("0.04224", json!("gpt-image-1"), "estimated"),
        ),
        // It tells nothing of what it used: a second is what those few bytes may be.
        (
            transcriptions,
            "whisper-1",
            r#"{"text":"hi"}"#,
            ("0.0001", json!("whisper-1"), "estimated"),
        ),
        // OpenAI's is free.
        (
            "/v1/moderations",
            "omni-moderation-latest",
            r#"{"id":"modr-1","results":[]}"#,
            ("0.00", json!("omni-moderation-latest"), "estimated"),
        ),
    ];
    for (path, model, answer, (cost, priced_by, source)) in cases {
        let expected = (cost.to_owned(), priced_by, source.to_owned());
        assert_eq!(booked(path, model, answer).await, expected, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_renamed_as_a_text_is_and_costs_what_it_was_sent_as() {
    let answer = r#"{"text":"hi","usage":{"type":"tokens","input_tokens":1000,"input_token_details":{"audio_tokens":1000},"output_tokens":100,"total_tokens":1100}}"#;
    let upstream = Upstream::start(move |_| Reply::json(200, answer)).await;
    let limit = "[[accounts.limits]]\non = \"cost\"\nmax = \"0.00\"\nper = \"month\"\nthen = { downgrade = \"gpt-4o-mini-transcribe\" }\n";
    let gateway = Gateway::start(&config(&upstream, &format!("{ACME}{limit}"))).await;
    let form = |model: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
             --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nsound\r\n--b--\r\n"
        )
    };
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let sent = gateway
        .client()
        .post_with("/v1/audio/transcriptions", form("gpt-4o-transcribe"), &kind)
        .await;
    assert_eq!(sent.status, 200, "{}", sent.text());
    let asked = String::from_utf8(upstream.asked()[0].body.clone()).unwrap();
    assert_eq!(asked, form("gpt-4o-mini-transcribe"));
    let entry = gateway.ledger_of(1).await.remove(0);
    // $1.25 and $5 a million.
    assert_eq!(entry["cost_usd"], "0.00175", "{entry}");
    assert_eq!(entry["model"], "gpt-4o-transcribe");
    assert_eq!(entry["served_model"], "gpt-4o-mini-transcribe");
    // Who names no model cannot be sent to a cheaper one.
    let unnamed = gateway
        .client()
        .post("/v1/images/generations", r#"{"prompt":"A weir."}"#)
        .await;
    assert_eq!(unnamed.status, 429, "{}", unnamed.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_rejects_what_has_no_price_rejects_images_and_sound_too() {
    let upstream = Upstream::start(|_| Reply::json(200, "{}")).await;
    let gateway = Gateway::start(&config(
        &upstream,
        &format!("[prices]\nunpriced = \"reject\"\n{ACME}"),
    ))
    .await;
    for (path, body, status) in [
        ("/v1/images/generations", r#"{"model":"mystery"}"#, 403),
        ("/v1/images/generations", r#"{"prompt":"A weir."}"#, 403),
        ("/v1/Images/generations", r#"{"model":"gpt-image-1"}"#, 400),
        ("/v1/images/generations", r#"{"model":"gpt-image-1"}"#, 200),
        ("/v1/moderations", r#"{"input":"A weir."}"#, 200),
    ] {
        let answer = gateway.client().post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_cost_their_price_each_and_a_budget_holds_for_them() {
    let answer = r#"{"created":1,"data":[{"url":"https://a"},{"url":"https://b"}]}"#;
    let upstream = Upstream::start(move |_| Reply::json(200, answer)).await;
    let limit = "[[accounts.limits]]\non = \"cost\"\nmax = \"0.20\"\nper = \"month\"\n";
    let prices = "[prices]\nfiles = [\"painter.toml\"]\n";
    let mut gateway = Gateway::prepare(&[], &config(&upstream, &format!("{prices}{ACME}{limit}")));
    let painter = "[[models]]\nmodel = \"painter\"\n[[models.prices]]\nfrom = 2024-01-01\nimage = \"0.04\"\nsource = \"a test\"\n";
    std::fs::write(gateway.directory().join("painter.toml"), painter).unwrap();
    gateway.restart().await;
    let ask = async |images: u64| {
        let body = json!({ "model": "painter", "prompt": "A weir.", "n": images }).to_string();
        gateway.client().post("/v1/images/generations", body).await
    };
    assert_eq!(ask(6).await.status, 429, "six could cost 0.24");
    let two = ask(2).await;
    assert_eq!(two.status, 200);
    assert_eq!(two.header("x-weir-cost-usd"), Some("0.08"));
    assert_eq!(ask(4).await.status, 429, "0.12 is left");
    assert_eq!(ask(2).await.status, 200);
    let entries = gateway.ledger_of(4).await;
    let paid = entries.iter().find(|entry| entry["status"] == 200).unwrap();
    assert_eq!(paid["cost_usd"], "0.08", "{paid}");
    assert_eq!(paid["usage"]["images"], 2);
    assert_eq!(paid["usage"]["output_tokens"], 0);
    assert_eq!(paid["usage_source"], "counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_what_was_made_is_not_billed_for_it_again() {
    let batch =
        r#"{"id":"batch_1","object":"batch","usage":{"input_tokens":1500,"output_tokens":500}}"#;
    let upstream = Upstream::start(move |asked| match asked.path.as_str() {
        "/v1/files/file-1" => Reply {
            status: 204,
            ..Reply::json(204, "")
        },
        _ => Reply::json(200, batch),
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let client = gateway.client();
    let looks = [
        ("GET", "/v1/batches/batch_1"),
        ("HEAD", "/v1/batches/batch_1"),
        ("GET", "/v1/chat/completions/chatcmpl-1"),
        ("DELETE", "/v1/files/file-1"),
        // A list of what was stored.
        ("GET", "/v1/chat/completions"),
    ];
    for (method, path) in looks {
        let answer = client.ask(method, path).await;
        assert!(
            answer.status.is_success(),
            "{method} {path}: {}",
            answer.status
        );
    }
    for entry in gateway.ledger_of(looks.len()).await {
        assert_eq!(entry["usage_source"], "none", "{entry}");
        assert_eq!(entry["usage"]["input_tokens"], 0, "{entry}");
        assert_eq!(entry["outcome"], "completed", "{entry}");
    }
    assert_eq!(gateway.metric("weir_unpriced_requests_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_names_its_model_and_is_held_to_its_key_and_its_route() {
    let upstream = Upstream::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
    let only = ACME.replace(
        "secret = \"sk-acme\"",
        "secret = \"sk-acme\", models = [\"whisper-1\"]",
    );
    // What has no usage takes nothing of a limit on tokens, however long its body is.
    let limit = "[[accounts.limits]]\non = \"tokens\"\nmax = 1000\nper = \"month\"\n";
    let gateway = Gateway::start(&config(&upstream, &format!("{only}{limit}"))).await;
    let form = |model: &str| {
        let sound = "RIFF".repeat(100_000);
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{sound}\r\n\
             --b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"
        )
    };
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    for (model, status) in [("whisper-1", 200), ("gpt-4o-transcribe", 404)] {
        let answer = gateway
            .client()
            .post_with("/v1/audio/transcriptions", form(model), &kind)
            .await;
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
    }
    assert_eq!(upstream.asked().len(), 1);
    assert_eq!(gateway.ledger_of(2).await[0]["model"], "whisper-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_vendor_points_at_a_new_model_does_not_become_free() {
    let served = chat_answer(1000, 100).replace("gpt-4o-mini", "gpt-4o-mini-2031-01-15");
    assert!(served.contains("2031"), "{served}");
    let upstream = Upstream::start(move |_| Reply::json(200, served.clone())).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    gateway.client().post("/v1/chat/completions", CHAT).await;
    let entry = &gateway.ledger_of(1).await[0];
    assert_eq!(entry["served_model"], "gpt-4o-mini-2031-01-15");
    assert_eq!(entry["cost_usd"], "0.00021");
    assert_eq!(entry["priced_by"]["model"], "gpt-4o-mini");
    // Whoever keeps the price table is told.
    assert!(
        entry["reason"].as_str().unwrap().contains("no price"),
        "{entry}"
    );
    assert_eq!(gateway.metric("weir_unpriced_requests_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_models_is_what_the_key_may_use() {
    let upstream = Upstream::start(|_| Reply::json(500, "{}")).await;
    let only = ACME.replace(
        "secret = \"sk-acme\"",
        "secret = \"sk-acme\", models = [\"gpt-4o*\"]",
    );
    let gateway = Gateway::start(&config(&upstream, &only)).await;
    let list = gateway.client().get("/v1/models").await.json();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert!(
        ids.contains(&"gpt-4o-mini") && ids.iter().all(|id| id.starts_with("gpt-4o")),
        "{ids:?}"
    );
    let refused = gateway
        .client()
        .post(
            "/v1/chat/completions",
            CHAT.replace("gpt-4o-mini", "gpt-4.1"),
        )
        .await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (404, "model_not_found")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_megabytes_are_accepted_and_more_than_the_limit_is_not() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let gateway = Gateway::start(&config(&upstream, ACME)).await;
    let image = "A".repeat(20 << 20);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}],"model":"gpt-4o-mini"}}"#
    );
    let answer = gateway
        .client()
        .post("/v1/chat/completions", body.clone())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.asked()[0].body.len(), body.len());
    let too_large = gateway
        .client()
        .start("/v1/chat/completions", vec![b' '; 33 << 20], &[])
        .await;
    if let Ok(answer) = too_large {
        assert_eq!(answer.status(), 413);
    }
}
