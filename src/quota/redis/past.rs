//! Past use, as it is booked into counters that are built: added up by cell, once in an epoch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::script::Arguments;
use crate::period::{Billing, WindowSpan, span};
use crate::plan::Window;
use crate::quota::chain::Rule;
use crate::quota::{Bound, CounterId, Use, gone_cell};

/// Use by the counter that it is booked in, with one of the rules that count there.
pub(super) fn by_counter<'a>(
    uses: impl IntoIterator<Item = &'a Use>,
) -> Vec<(&'a Arc<Rule>, Vec<&'a Use>)> {
    let mut by_counter: HashMap<&CounterId, (&Arc<Rule>, Vec<&Use>)> = HashMap::new();
    for past in uses {
        let of_counter = by_counter.entry(&past.rule.counter);
        let (_, uses) = of_counter.or_insert((&past.rule, Vec::new()));
        uses.push(past);
    }
    by_counter.into_values().collect()
}

/// Use added up by the cell that it is booked in. What a limit on concurrency counts is never past use.
pub(super) fn by_cell<'a>(
    uses: impl IntoIterator<Item = &'a Use>,
    now: Timestamp,
) -> Vec<(Bound, i128)> {
    let mut sums: BTreeMap<(String, WindowSpan), (Bound, i128)> = BTreeMap::new();
    let with_window = |past: &&Use| past.rule.counter.per().is_some();
    for past in uses.into_iter().filter(with_window) {
        let mut bound = Bound::new(&past.rule, past.at);
        if past.rule.is_rolling() {
            let cell = bound.cell;
            bound.refresh(now);
            bound.cell = cell;
        }
        let key = (past.rule.counter.to_string(), bound.cell);
        let (_, units) = sums.entry(key).or_insert((bound, 0));
        *units = units.saturating_add(past.units);
    }
    sums.into_values().collect()
}

/// Under what name the past use of a limit is booked once in an epoch: for each window, since a changed billing day makes
/// new ones.
pub(super) fn once(rule: &Rule, now: Timestamp) -> String {
    let counter = &rule.counter;
    match rule.per {
        Some(Window::Rolling(_)) | None => counter.to_string(),
        Some(per) => {
            let window = span(per, rule.billing, now);
            format!("{}:{}:{counter}", window.start_ms, window.end_ms)
        }
    }
}

/// A limit's name among those whose past is in their counters. The windows of a billing period are those of its first day.
fn built(rule: &Rule) -> String {
    let counter = &rule.counter;
    match rule.per {
        Some(Window::Period) => {
            let Billing { since, period } = rule.billing;
            format!("{since}:{period:?}:{counter}")
        }
        _ => counter.to_string(),
    }
}

pub(super) fn adopt_arguments(
    epoch: &str,
    latest_ms: i64,
    rules: &[Arc<Rule>],
    now: Timestamp,
) -> Arguments {
    let mut arguments = Arguments::new(epoch, latest_ms);
    arguments.number(rules.len() as i128);
    for rule in rules {
        let bound = Bound::new(rule, now);
        arguments.text(built(rule));
        arguments.counter(&bound);
        match gone_cell(rule, now) {
            Some(_) => arguments.cell(&bound),
            None => arguments.text(""),
        }
        arguments.text(once(rule, now));
    }
    arguments
}

pub(super) fn built_arguments<'a>(
    epoch: &str,
    latest_ms: i64,
    rules: impl ExactSizeIterator<Item = &'a Arc<Rule>>,
) -> Arguments {
    let mut arguments = Arguments::new(epoch, latest_ms);
    arguments.number(rules.len() as i128);
    for rule in rules {
        arguments.text(built(rule));
    }
    arguments
}

pub(super) fn seed_arguments(
    epoch: &str,
    latest_ms: i64,
    once: &str,
    booked: &[(Bound, i128)],
    now: Timestamp,
) -> Arguments {
    let mut arguments = Arguments::new(epoch, latest_ms);
    arguments.text(once);
    arguments.number(booked.len() as i128);
    for (bound, units) in booked {
        arguments.counter(bound);
        arguments.number(bound.window.start_ms);
        arguments.cell(bound);
        arguments.lifetime(bound, now.as_millisecond());
        arguments.amount(*units);
    }
    arguments
}
