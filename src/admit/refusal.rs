//! Which error a limit's refusal is, and what it tells whom.

use std::time::Duration;

use jiff::Timestamp;

use super::LimitHeaders;
use crate::dialect::error_body::Code;
use crate::money::Money;
use crate::plan::{Amount, Measure};
use crate::quota::chain::Rule;
use crate::quota::{Bound, Denied, ReserveError};
use crate::refuse::Refusal;

/// The refusal of a limit: while open reservations hold the rest of it, another try soon may fit (`rate_limit_exceeded`);
/// when what is settled leaves too little, only the window's end helps (`insufficient_quota`).
pub(super) fn refuse_limit(bounds: &[Bound], denied: Denied, now: Timestamp) -> Refusal {
    let Some(bound) = bounds.get(denied.bound) else {
        return refuse_quota(&ReserveError::WrongState);
    };
    let rule = &bound.rule;
    let wait = denied
        .retry_at
        .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    let (code, retry_after) = if denied.settled {
        (Code::InsufficientQuota, wait)
    } else {
        // Open requests settle within seconds, most of them.
        (
            Code::RateLimitExceeded,
            Some(
                wait.unwrap_or(Duration::from_secs(1))
                    .min(Duration::from_secs(1)),
            ),
        )
    };
    let name = limit_name(rule);
    let message = if denied.settled {
        format!(
            "You have reached your limit of {}: {}.",
            describe(rule),
            resets(denied, now)
        )
    } else {
        format!(
            "Your limit of {} is held by requests that are still open: try again shortly.",
            describe(rule)
        )
    };
    let mut refusal = Refusal::new(code, message).detail(format!(
        "{}: used {} and reserved {} of {}",
        rule.counter,
        amount(rule, bound.state.used),
        amount(rule, bound.state.reserved),
        amount(rule, rule.max.units()),
    ));
    refusal.reason = Some(name.into());
    refusal.retry_after = retry_after;
    LimitHeaders::new(bounds, None, now).apply(&mut refusal.headers, None);
    refusal
}

/// A refusal because the counters themselves did not answer.
pub(super) fn refuse_quota(error: &ReserveError) -> Refusal {
    let mut refusal = Refusal::new(
        Code::Overloaded,
        "The gateway cannot check your limits just now.",
    )
    .detail(error.to_string());
    refusal.retry_after = Some(Duration::from_secs(1));
    refusal
}

/// The ledger's name of a limit: `cost/month`.
pub(super) fn limit_name(rule: &Rule) -> String {
    match rule.counter.per() {
        Some(per) => format!("{}/{per}", rule.counter.on().as_str()),
        None => rule.counter.on().as_str().to_owned(),
    }
}

/// The limit in words for the client: `$150.00 per period`, `60 requests per minute`.
fn describe(rule: &Rule) -> String {
    let what = match (rule.max, rule.counter.on()) {
        (Amount::Money(money), _) => format!("${money}"),
        (Amount::Count(count), Measure::Concurrent) => format!("{count} requests at once"),
        (Amount::Count(count), on) => format!("{count} {}", on.as_str().replace('_', " ")),
    };
    match rule.counter.per() {
        Some(per) => format!("{what} per {per}"),
        None => what,
    }
}

fn amount(rule: &Rule, units: i128) -> String {
    match rule.max {
        Amount::Money(_) => format!("${}", Money::from_picos(units)),
        Amount::Count(_) => units.to_string(),
    }
}

fn resets(denied: Denied, now: Timestamp) -> String {
    match denied.retry_at {
        Some(at) if at > now => {
            format!("it has room again at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        }
        _ => "this request alone is larger than what it allows".to_owned(),
    }
}
