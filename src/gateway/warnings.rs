//! Warnings about limits: once each in a window, as a log event, a metric and a webhook; never in the request's way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Gateway;
use crate::config::WebhookEvent;
use crate::money::Money;
use crate::plan::{Amount, Measure};
use crate::quota::chain::Rule;
use crate::quota::{CounterId, Crossing, Owner, WindowSpan};

/// Events that wait to be delivered; further ones are dropped and counted.
const QUEUE: usize = 1000;
/// Windows kept in mind in which a limit was reached.
const KEPT: usize = 100_000;

/// An event for webhooks.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: WebhookEvent,
    pub(super) body: Value,
}

/// Which limits were reached in which window, and the queue to the webhooks.
#[derive(Debug)]
pub(super) struct Warnings {
    reached: Mutex<HashMap<Arc<CounterId>, WindowSpan>>,
    sender: mpsc::Sender<Event>,
    receiver: Mutex<Option<mpsc::Receiver<Event>>>,
}

impl Default for Warnings {
    fn default() -> Warnings {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Warnings {
            reached: Mutex::default(),
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Warnings {
    /// The queue's other end, for the one task that delivers.
    pub(super) fn receiver(&self) -> Option<mpsc::Receiver<Event>> {
        self.receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Gateway {
    /// A limit passed one of its `warn_at` shares.
    pub fn limit_warning(&self, crossing: &Crossing) {
        let rule = &crossing.rule;
        let percent = f64::from(crossing.mark_ppm) / 10_000.0;
        tracing::warn!(limit = %rule.counter, percent, used = %amount(rule, crossing.state.used), max = %amount(rule, rule.max.units()), "a limit passed a warning mark");
        self.metrics.event("limit_warning", rule.plan.as_str());
        let mut body = describe(rule, crossing.window);
        if let Value::Object(members) = &mut body {
            members.insert("mark".into(), json!(format!("{}", percent / 100.0)));
            members.insert("used".into(), json!(amount(rule, crossing.state.used)));
        }
        self.tell(WebhookEvent::LimitWarning, body);
    }

    /// A limit refused a request; told once in each window.
    pub fn limit_reached(&self, rule: &Arc<Rule>, window: WindowSpan) {
        {
            let mut reached = self
                .warnings
                .reached
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if reached.len() >= KEPT {
                reached.clear();
            }
            if reached.insert(Arc::clone(&rule.counter), window) == Some(window) {
                return;
            }
        }
        tracing::warn!(limit = %rule.counter, max = %amount(rule, rule.max.units()), "a limit is reached");
        self.tell(WebhookEvent::LimitReached, describe(rule, window));
    }

    /// A changed configuration was refused.
    pub(super) fn config_refused(&self, reason: &str) {
        self.tell(WebhookEvent::ConfigRefused, json!({ "reason": reason }));
    }

    fn tell(&self, kind: WebhookEvent, mut body: Value) {
        if self
            .snapshot()
            .config
            .webhooks
            .iter()
            .all(|webhook| !webhook.events.contains(&kind))
        {
            return;
        }
        if let Value::Object(members) = &mut body {
            members.insert("event".into(), json!(kind.as_str()));
            members.insert("at".into(), json!(Timestamp::now().to_string()));
        }
        if self.warnings.sender.try_send(Event { kind, body }).is_err() {
            self.metrics.event("webhook_dropped", kind.as_str());
        }
    }
}

fn describe(rule: &Rule, window: WindowSpan) -> Value {
    let (account, key) = match rule.counter.owner() {
        Owner::Account(account) => (Some(account.as_str()), None),
        Owner::Key(key) => (None, Some(key.as_str())),
    };
    let time = |ms| {
        Timestamp::from_millisecond(ms)
            .map(|at| at.to_string())
            .ok()
    };
    json!({
        "account": account,
        "key": key,
        "plan": rule.plan.as_str(),
        "on": rule.counter.on().as_str(),
        "per": rule.counter.per().map(|per| per.to_string()),
        "models": rule.counter.models(),
        "max": amount(rule, rule.max.units()),
        "window_start": rule.counter.per().and_then(|_| time(window.start_ms)),
        "window_end": rule.counter.per().and_then(|_| time(window.end_ms)),
    })
}

fn amount(rule: &Rule, units: i128) -> String {
    match (rule.max, rule.counter.on()) {
        (Amount::Money(_), _) | (_, Measure::Cost) => Money::from_picos(units).to_string(),
        _ => units.to_string(),
    }
}
