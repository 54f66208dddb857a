//! Delivers events to webhooks: signed, tried again with growing pauses, never in a request's way.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Gateway;
use super::warnings::Event;
use crate::config::{Scheme, Webhook};
use crate::secret::hex;
use crate::upstream::tls_config;

type HttpsClient = Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Tries before an event is given up.
const TRIES: u32 = 5;
/// The pause after the first failed try; doubled after each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The signature of the body: `sha256=` and the HMAC-SHA-256 under the webhook's secret, in hexadecimal.
const SIGNATURE: &str = "x-weir-signature";

/// Delivers queued events, one after the other, until the gateway stops.
pub(super) async fn deliver(gateway: Arc<Gateway>) {
    let Some(mut events) = gateway.warnings.receiver() else {
        return;
    };
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "webhooks cannot be delivered");
            return;
        }
    };
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = gateway.stop.cancelled() => return,
        };
        let Some(event) = event else { return };
        let webhooks = gateway.snapshot().config.webhooks.clone();
        for webhook in webhooks
            .iter()
            .filter(|webhook| webhook.events.contains(&event.kind))
        {
            tokio::select! {
                delivered = deliver_to(&client, webhook, &event) => {
                    if let Err(error) = delivered {
                        gateway.metrics.event("webhook_failed", event.kind.as_str());
                        tracing::warn!(host = webhook.url.host(), error, "an event could not be delivered");
                    }
                }
                () = gateway.stop.cancelled() => return,
            }
        }
    }
}

async fn deliver_to(client: &HttpsClient, webhook: &Webhook, event: &Event) -> Result<(), String> {
    let body = Bytes::from(event.body.to_string());
    let mut pause = PAUSE;
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
        let mut request =
            Request::post(webhook.url.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(secret) = &webhook.secret {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
            request = request.header(
                SIGNATURE,
                format!("sha256={}", hex(hmac::sign(&key, &body).as_ref())),
            );
        }
        let request = request
            .body(Full::new(body.clone()))
            .map_err(|error| error.to_string())?;
        last = match tokio::time::timeout(TIMEOUT, client.request(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => return Ok(()),
            Ok(Ok(answer)) => format!("it answered {}", answer.status()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {TIMEOUT:?}"),
        };
    }
    Err(last)
}

fn client() -> Result<HttpsClient, String> {
    let tls = tls_config(None, Scheme::Https).map_err(|error| error.to_string())?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
