//! What a client is told of its limits with each answer.

use std::cmp::Ordering;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::exchange::Settled;
use crate::headers;
use crate::ids::ModelName;
use crate::money::Money;
use crate::plan::Measure;
use crate::quota::Bound;

/// OpenAI's `x-ratelimit-*` for the tightest limits, the rest of the tightest budget, and a downgrade.
#[derive(Clone, Debug, Default)]
pub struct LimitHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What was left when the request had reserved.
    left: Vec<Left>,
    /// Whether any limit holds: then the upstream's own figures would mislead.
    replaces: bool,
}

/// What one limit has left.
#[derive(Clone, Debug)]
struct Left {
    name: HeaderName,
    on: Measure,
    units: i128,
    max: i128,
}

static UPSTREAMS_OWN: [HeaderName; 6] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

impl LimitHeaders {
    /// The headers of a request whose bounds were just reserved.
    pub fn new(bounds: &[Bound], downgraded_to: Option<ModelName>, now: Timestamp) -> LimitHeaders {
        let (mut headers, mut left) = (Vec::with_capacity(4), Vec::with_capacity(3));
        let leaves = |name: &HeaderName, bound: &Bound| Left {
            name: name.clone(),
            on: bound.rule.counter.on(),
            units: bound.remaining(),
            max: bound.rule.max.units(),
        };
        let tightest = |fits: fn(Measure) -> bool| {
            let of_kind = bounds.iter().filter(|bound| fits(bound.rule.counter.on()));
            of_kind.min_by(|one, other| has_less(one, other))
        };
        let [
            limit_requests,
            limit_tokens,
            remaining_requests,
            remaining_tokens,
            reset_requests,
            reset_tokens,
        ] = &UPSTREAMS_OWN;
        for (bound, limit, remaining, reset) in [
            (
                tightest(|on| on == Measure::Requests),
                limit_requests,
                remaining_requests,
                reset_requests,
            ),
            (
                tightest(is_tokens),
                limit_tokens,
                remaining_tokens,
                reset_tokens,
            ),
        ] {
            let Some(bound) = bound else { continue };
            headers.push((limit.clone(), count(bound.rule.max.units())));
            left.push(leaves(remaining, bound));
            push(&mut headers, reset, until(bound.window.end_ms, now));
        }
        if let Some(bound) = tightest(|on| on == Measure::Cost) {
            left.push(leaves(&headers::BUDGET_REMAINING_USD, bound));
        }
        if let Some(model) = &downgraded_to {
            let model = model.as_str().to_owned();
            push(&mut headers, &headers::DOWNGRADED_TO, model);
        }
        LimitHeaders {
            headers,
            left,
            replaces: !bounds.is_empty(),
        }
    }

    /// Puts them on an answer, in place of the upstream's own. What is left is told without what the request itself turned
    /// out not to need, where it is `settled` already.
    pub fn apply(self, answer: &mut HeaderMap, settled: Option<&Settled>) {
        if self.replaces {
            headers::remove_all(answer, |name| {
                name.starts_with("x-ratelimit-") && UPSTREAMS_OWN.iter().any(|own| own == name)
            });
        }
        for left in self.left {
            let unused = settled.map_or(0, |settled| {
                settled.held.units(left.on) - settled.spent.units(left.on)
            });
            let units = left.units.saturating_add(unused).clamp(0, left.max);
            let value = if left.on == Measure::Cost {
                HeaderValue::try_from(Money::from_picos(units).to_string()).ok()
            } else {
                Some(count(units))
            };
            if let Some(value) = value {
                answer.insert(left.name, value);
            }
        }
        for (name, value) in self.headers {
            answer.insert(name, value);
        }
    }
}

fn is_tokens(on: Measure) -> bool {
    matches!(
        on,
        Measure::Tokens | Measure::InputTokens | Measure::OutputTokens
    )
}

/// Which of two limits has the smaller share left: the two fractions, each times both limits.
fn has_less(one: &Bound, other: &Bound) -> Ordering {
    let of = |part: &Bound, whole: &Bound| {
        let whole = whole.rule.max.units().max(1);
        part.remaining().saturating_mul(whole)
    };
    of(one, other).cmp(&of(other, one))
}

/// A number in memory of just its size: one that `http` makes takes two pieces of it.
fn count(units: i128) -> HeaderValue {
    let units = u64::try_from(units).unwrap_or(u64::MAX);
    let text = itoa::Buffer::new().format(units).to_owned();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from(units))
}

fn push(headers: &mut Vec<(HeaderName, HeaderValue)>, name: &HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.push((name.clone(), value));
    }
}

/// The time until a moment as OpenAI writes it: `6ms`, `1s`, `6m0s`, `1h2m3s`.
fn until(end_ms: i64, now: Timestamp) -> String {
    let left = u64::try_from(end_ms.saturating_sub(now.as_millisecond())).unwrap_or(0);
    let mut text = String::with_capacity(16);
    if left < 1000 {
        push_number(&mut text, left, "ms");
        return text;
    }
    let seconds = left.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        push_number(&mut text, hours, "h");
    }
    if hours > 0 || minutes > 0 {
        push_number(&mut text, minutes, "m");
    }
    push_number(&mut text, seconds, "s");
    text
}

/// Numbers have one to three digits here, of which the formatter makes far more work.
fn push_number(text: &mut String, number: u64, unit: &str) {
    if number >= 10 {
        push_number(text, number / 10, "");
    }
    text.push(char::from(b'0' + (number % 10) as u8));
    text.push_str(unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        for (left, text) in [
            (0, "0ms"),
            (6, "6ms"),
            (1000, "1s"),
            (1001, "2s"),
            (360_000, "6m0s"),
            (3_723_000, "1h2m3s"),
        ] {
            assert_eq!(until(left, at(0)), text);
        }
        assert_eq!(until(0, at(5)), "0ms");
    }
}
