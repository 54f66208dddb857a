//! A call whose client may go away before its answer's head: the call is then read on for a while, and settled.

use std::sync::Arc;

use http::header;

use super::is_event_stream;
use crate::answer::read_on;
use crate::exchange::Exchange;
use crate::measure::CLIENT_CLOSED_REQUEST;
use crate::meter::{ContentEncoding, End, Meter, MeterCaps, MeterSettings, Reading};
use crate::upstream::{Call, Upstream};

/// A request that has set out.
pub(super) struct Departure {
    pub(super) call: Option<Call>,
    pub(super) exchange: Option<Box<Exchange>>,
}

impl Departure {
    /// The next call goes to this upstream.
    pub(super) fn aim(&mut self, upstream: &Arc<Upstream>, another: bool) {
        if let Some(exchange) = &mut self.exchange {
            exchange.slot = None;
            exchange.upstream = Arc::clone(upstream);
            exchange.entry.upstream = Some(upstream.settings.id.clone());
            exchange.entry.retries = exchange.entry.retries.saturating_add(u8::from(another));
        }
    }

    /// The last call was in vain: its place is free for others.
    pub(super) fn retry(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.slot = None;
            exchange.entry.retries = exchange.entry.retries.saturating_add(1);
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let Some(mut exchange) = self.exchange.take() else {
            return;
        };
        let call = self.call.take();
        exchange.tasks().spawn(async move {
            let outcome = exchange.abandoned();
            let Some(mut call) = call else {
                // Between two tries: the last one failed, and there will be no other.
                exchange.settle_unanswered(CLIENT_CLOSED_REQUEST, outcome);
                return;
            };
            let time = exchange.drain_after_close();
            let deadline = tokio::time::Instant::now() + time;
            exchange.entry.status = CLIENT_CLOSED_REQUEST;
            let answered = tokio::time::timeout_at(deadline, &mut call).await;
            let sent = match &answered {
                Ok(Err(error)) => !error.certainly_not_processed(),
                _ => call.may_have_been_sent(),
            };
            let Ok(Ok(answer)) = answered else {
                if sent {
                    exchange.settle(Reading::default(), outcome).done().await;
                } else {
                    // Nobody bills what no upstream has seen.
                    exchange.settle_unanswered(CLIENT_CLOSED_REQUEST, outcome);
                }
                return;
            };
            if answer.status().as_u16() >= 400 {
                exchange.settle_unanswered(CLIENT_CLOSED_REQUEST, outcome);
                return;
            }
            let endpoint = exchange.question.metered_as();
            let is_due = endpoint.is_metered() && exchange.question.ask.stream;
            let mut meter = Meter::new(MeterSettings {
                dialect: exchange.upstream.settings.dialect,
                event_stream: is_event_stream(answer.headers(), is_due),
                endpoint,
                encoding: answer
                    .headers()
                    .get(header::CONTENT_ENCODING)
                    .and_then(|value| {
                        ContentEncoding::of_header(value.to_str().unwrap_or("unknown"))
                    }),
                strip_usage: false,
                caps: MeterCaps::default(),
            });
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let end: End = read_on(answer.into_body(), &mut meter, &mut exchange, left).await;
            exchange.settle(meter.finish(end), outcome).done().await;
        });
    }
}
