//! Who is told about a limit can tell that it was the gateway who said so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;

use crate::support::{ACME, CHAT, Gateway, Reply, Upstream, chat_answer, config};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_signed_and_told_again_until_it_is_taken() {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let tries = AtomicUsize::new(0);
    let receiver = Upstream::start(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(500, "{}"),
        _ => Reply::json(200, "{}"),
    })
    .await;
    let limited = ACME.replace(
        "period = \"month\"\n",
        "period = \"month\"\nlimits = [{ on = \"requests\", max = 1, per = \"day\" }]\n",
    );
    let webhook = format!(
        "[[webhooks]]\nurl = \"{}/hook\"\nsecret = \"the-hooks-secret\"\n{limited}",
        receiver.url()
    );
    let gateway = Gateway::start(&config(&upstream, &webhook)).await;
    let client = gateway.client();
    for status in [200, 429, 429] {
        let answer = client.post("/v1/chat/completions", CHAT).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while receiver.asked().len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "nobody is told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = receiver.asked();
    assert_eq!(told[0].body, told[1].body, "the same again");
    assert_eq!(told[0].path, "/v1/hook");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the-hooks-secret");
    for event in &told {
        assert_eq!(event.json()["event"], "limit_reached");
        assert_eq!(event.json()["account"], "acme");
        let signature = weir::secret::hex(hmac::sign(&key, &event.body).as_ref());
        assert_eq!(
            event.header("x-weir-signature"),
            Some(format!("sha256={signature}").as_str())
        );
    }
}
