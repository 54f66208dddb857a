//! Limits, wherever they stand: in a plan, an account or a key.

use std::time::Duration;

use super::names::quoted;
use super::reader::Table;
use super::value::{COUNT_MAX, Value};
use crate::plan::{Action, Amount, Limit, Measure, ModelPattern, Window};

/// Reads `limits`. Two that differ in `max` alone are a mistake; the same counter with another `then` is not: downgrade at
/// 100 dollars, block at 150.
pub(super) fn limits(table: &Table<'_>, served: &[ModelPattern]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for table in table.tables("limits") {
        let Some(limit) = limit(&table, served) else {
            continue;
        };
        let same = |other: &Limit| {
            other.on == limit.on
                && other.per == limit.per
                && other.models == limit.models
                && other.then == limit.then
        };
        if limits.iter().any(same) {
            table.refuse("limits the same as another one here, expected another \"on\", \"per\", \"models\" or \"then\"");
            continue;
        }
        limits.push(limit);
    }
    limits
}

fn limit(table: &Table<'_>, served: &[ModelPattern]) -> Option<Limit> {
    let on = table.need("on", ON).and_then(|value| measure(&value));
    let max = table.need("max", "the most that is allowed");
    let max = max.and_then(|value| match on? {
        Measure::Cost => value.money().map(Amount::Money),
        _ => value.count(0..=COUNT_MAX).map(Amount::Count),
    });
    let per = table.get("per");
    let models: Vec<ModelPattern> = table.list(
        "models",
        "an array of models' names or globs",
        Value::pattern,
    );
    let then = table.or("then", Action::Block, |value| action(value, served));
    let warn_at = table.list(
        "warn_at",
        "an array of shares such as [0.8, 0.95]",
        Value::share_ppm,
    );
    let queue = table.optional("queue", |value| {
        value.duration(Duration::ZERO..=Duration::from_secs(60))
    });
    let on = on?;
    let per = match (on, per) {
        (Measure::Concurrent, None) => None,
        (Measure::Concurrent, Some(per)) => {
            per.refuse("has no meaning with on = \"concurrent\", expected no such key");
            return None;
        }
        (_, None) => {
            table.refuse_absent("per", format!("is missing, expected {PER}"));
            return None;
        }
        (_, Some(per)) => Some(window(&per)?),
    };
    let mut warn_at_ppm = warn_at;
    warn_at_ppm.sort_unstable();
    warn_at_ppm.dedup();
    Some(Limit {
        on,
        max: max?,
        per,
        models,
        then,
        warn_at_ppm,
        queue_ms: queue.map_or(0, |queue| {
            u32::try_from(queue.as_millis()).unwrap_or(u32::MAX)
        }),
    })
}

fn measure(value: &Value<'_>) -> Option<Measure> {
    const WORDS: [(&str, Measure); 6] = [
        ("cost", Measure::Cost),
        ("tokens", Measure::Tokens),
        ("input_tokens", Measure::InputTokens),
        ("output_tokens", Measure::OutputTokens),
        ("requests", Measure::Requests),
        ("concurrent", Measure::Concurrent),
    ];
    value.word(&WORDS)
}

fn window(value: &Value<'_>) -> Option<Window> {
    const WORDS: [(&str, Window); 6] = [
        ("minute", Window::Minute),
        ("hour", Window::Hour),
        ("day", Window::Day),
        ("week", Window::Week),
        ("month", Window::Month),
        ("period", Window::Period),
    ];
    let text = value.text(PER)?;
    if let Some((_, window)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Some(*window);
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let length = value.duration(Duration::from_secs(1)..=Duration::from_secs(366 * 86_400))?;
        return Some(Window::Rolling(u64::try_from(length.as_millis()).ok()?));
    }
    match super::names::nearest(text, WORDS.iter().map(|(word, _)| *word)) {
        Some(meant) => value.refuse(format!(
            "is {}, did you mean {meant:?}? Expected {PER}",
            quoted(text)
        )),
        None => value.refuse(format!("is {}, expected {PER}", quoted(text))),
    }
    None
}

fn action(value: &Value<'_>, served: &[ModelPattern]) -> Option<Action> {
    if !value.is_table() {
        return match value.text(THEN)? {
            "block" => Some(Action::Block),
            "warn" => Some(Action::Warn),
            text => value.wrong(text, THEN),
        };
    }
    let table = value.table(THEN)?;
    match (table.get("downgrade"), table.get("cap_output")) {
        (Some(model), None) => {
            let name = model.model_name()?;
            if !served.iter().any(|pattern| pattern.matches(name.as_str())) {
                model.refuse_absent(format!(
                    "no route serves {}, expected a model that a route names",
                    quoted(name.as_str())
                ));
            }
            Some(Action::Downgrade(name))
        }
        (None, Some(tokens)) => tokens.count(1..=1_000_000_000).map(Action::CapOutput),
        _ => {
            value.refuse(format!("does not say what is done, expected {THEN}"));
            None
        }
    }
}

const ON: &str =
    "\"cost\", \"tokens\", \"input_tokens\", \"output_tokens\", \"requests\" or \"concurrent\"";
const PER: &str =
    "\"minute\", \"hour\", \"day\", \"week\", \"month\", \"period\" or a duration such as \"5h\"";
const THEN: &str = "\"block\", \"warn\", { downgrade = \"MODEL\" } or { cap_output = TOKENS }";
