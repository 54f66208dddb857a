//! The present: requests, tokens and dollars second by second, errors, latency, time to the first token.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::access::Role;
use super::ask::Ask;
use super::error::ApiError;
use super::operation::{Content, Operation, Param};
use super::{Console, answer};
use crate::gateway::pulse::{Beat, SECONDS};
use crate::metrics::REQUEST_BUCKETS;

pub(super) fn operations() -> Vec<Operation> {
    const QUERY: &[Param] = &[Param::new(
        "seconds",
        "Seconds",
        "How far back: 60 unless given",
    )];
    vec![
        Operation::new(Method::GET, "/live", "showLive", Role::Viewer, get(show))
            .says("What this gateway did in the last seconds")
            .asks(QUERY)
            .gives(200, Content::Json("Live")),
    ]
}

async fn show(State(console): State<Arc<Console>>, ask: Ask) -> Result<Response, ApiError> {
    let seconds = ask.count("seconds", 1..=SECONDS)?.unwrap_or(60);
    let gateway = &console.gateway;
    let beats = gateway.pulse.last(seconds);
    let pairs = beats.iter().zip(beats.iter().skip(1));
    let samples: Vec<Value> = pairs.map(|(from, to)| between(from, to)).collect();
    let whole = match (beats.first(), beats.last()) {
        (Some(first), Some(last)) => between(first, last),
        _ => Value::Null,
    };
    Ok(answer::ok(&json!({
        "in_flight_requests": gateway.metrics.in_flight_requests().max(0),
        "ledger_queue": gateway.ledger.queue_len(),
        "ready": gateway.is_ready(),
        "samples": samples,
        "whole": whole,
    })))
}

/// What happened between two beats.
fn between(from: &Beat, to: &Beat) -> Value {
    let (a, b) = (&from.totals, &to.totals);
    let seconds = to.at.duration_since(from.at).as_millis_f64() / 1_000.0;
    let counts = |a: &[u64], b: &[u64]| -> Vec<u64> {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| b.saturating_sub(*a)).collect()
    };
    let durations = counts(&a.durations, &b.durations);
    let first_tokens = counts(&a.first_tokens, &b.first_tokens);
    json!({
        "at": to.at,
        "seconds": seconds.max(0.0),
        "requests": b.requests.saturating_sub(a.requests),
        "failed": b.failed.saturating_sub(a.failed),
        "rejected": b.rejected.saturating_sub(a.rejected),
        "input_tokens": b.input_tokens.saturating_sub(a.input_tokens),
        "output_tokens": b.output_tokens.saturating_sub(a.output_tokens),
        "cost_usd": b.cost - a.cost,
        "in_flight_requests": to.in_flight.max(0),
        "duration_p50_seconds": quantile(&durations, 0.5),
        "duration_p95_seconds": quantile(&durations, 0.95),
        "first_token_p50_seconds": quantile(&first_tokens, 0.5),
        "first_token_p95_seconds": quantile(&first_tokens, 0.95),
    })
}

/// A quantile of bucketed durations in seconds, as Prometheus' `histogram_quantile` has it: on the line within the bucket.
fn quantile(counts: &[u64], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = share * all as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in counts.iter().zip(REQUEST_BUCKETS) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(lower + (upper - lower) * (rank - below) / count);
        }
        below += count;
        lower = upper;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_on_the_line_within_their_bucket() {
        let mut counts = [0; REQUEST_BUCKETS.len() + 1];
        assert_eq!(quantile(&counts, 0.5), None);
        counts[1] = 10; // 5 to 10 ms
        assert_eq!(quantile(&counts, 0.5), Some(0.0075));
        counts = [0; REQUEST_BUCKETS.len() + 1];
        counts[REQUEST_BUCKETS.len()] = 1;
        assert_eq!(quantile(&counts, 0.5), Some(300.0));
    }
}
