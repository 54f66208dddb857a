//! Plans and limits as JSON in the words of the configuration file, both ways: for the admin API.
//!
//! What comes in is written as TOML and read by the file's own readers, so that an API and a file can never differ in
//! what they take, and a mistake is told in the same sentence.

use serde_json::{Map, Value, json};

use super::errors::ConfigErrors;
use super::names::Names;
use super::reader::{Document, Table};
use super::{Config, FixedEnvironment, limits, plans, units};
use crate::money::Money;
use crate::plan::{Action, Amount, Limit, Measure, ModelPattern, Overage, OverageCharge, Plan};

/// Reads a plan.
///
/// # Errors
/// Every mistake; each `key` is the member's path (`limits[0].max`).
pub fn plan(json: &Map<String, Value>, config: &Config) -> Result<Plan, ConfigErrors> {
    read(json, |table| {
        let currencies = config.currencies.iter().map(|currency| &*currency.code);
        let currencies = Names::known("currency", "[[currencies]]", currencies);
        let mut names = Names::of("plan", "[[plans]]");
        plans::plan(table, &mut names, &currencies, &served(config))
    })
}

/// Reads the `limits` of an account or a key: a list of limits.
///
/// # Errors
/// Every mistake; each `key` is the member's path (`limits[0].max`).
pub fn limits(json: &Value, config: &Config) -> Result<Vec<Limit>, ConfigErrors> {
    let mut members = Map::new();
    members.insert("limits".to_owned(), json.clone());
    read(&members, |table| {
        Some(limits::limits(table, &served(config)))
    })
}

/// A plan in the file's words. What [`plan()`] reads from it is the same plan.
pub fn show_plan(plan: &Plan) -> Map<String, Value> {
    let shown = json!({
        "id": plan.id,
        "price": plan.price,
        "currency": plan.currency,
        "period": plan.period,
        "limits": show_limits(&plan.limits),
        "fixed_cost": plan.fixed_cost,
        "payment_fee": { "percent": percent(plan.payment_fee.ppm), "fixed": plan.payment_fee.fixed },
        "overage": plan.overage.as_ref().map(show_overage),
        "trial_days": plan.trial_days,
    });
    match shown {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Limits in the file's words.
pub fn show_limits(limits: &[Limit]) -> Vec<Value> {
    limits.iter().map(show_limit).collect()
}

fn show_limit(limit: &Limit) -> Value {
    let then = match &limit.then {
        Action::Block => json!("block"),
        Action::Warn => json!("warn"),
        Action::Downgrade(model) => json!({ "downgrade": model }),
        Action::CapOutput(tokens) => json!({ "cap_output": tokens }),
    };
    let models: Vec<String> = limit.models.iter().map(ModelPattern::pattern).collect();
    let warn_at: Vec<f64> = limit
        .warn_at_ppm
        .iter()
        .map(|ppm| f64::from(*ppm) / 1e6)
        .collect();
    json!({
        "on": limit.on.as_str(),
        "max": show_amount(limit.max),
        "per": limit.per.map(|per| per.to_string()),
        "models": models,
        "then": then,
        "warn_at": warn_at,
        "queue": (limit.queue_ms > 0).then(|| {
            units::show_duration(std::time::Duration::from_millis(u64::from(limit.queue_ms)))
        }),
    })
}

/// The most that a limit allows: money as a decimal string, else a count.
pub fn show_amount(amount: Amount) -> Value {
    match amount {
        Amount::Money(money) => json!(money),
        Amount::Count(count) => json!(count),
    }
}

/// Units of a measure (pico-dollars or a count) as a limit of that measure is written.
pub fn show_units(on: Measure, units: i128) -> Value {
    match on {
        Measure::Cost => json!(Money::from_picos(units)),
        _ => json!(u64::try_from(units.max(0)).unwrap_or(u64::MAX)),
    }
}

fn show_overage(overage: &Overage) -> Value {
    match (overage.above, overage.charge) {
        (Amount::Money(above), OverageCharge::MarkupPpm(ppm)) => {
            json!({ "above_cost": above, "markup_percent": percent(ppm.saturating_sub(1_000_000)) })
        }
        (Amount::Count(above), OverageCharge::PerToken(price)) => {
            json!({ "above_tokens": above, "per_million_tokens": price.saturating_mul(1_000_000) })
        }
        // The readers make no other pair.
        _ => Value::Null,
    }
}

/// Parts per million as a percentage without trailing zeros: 29,000 is `2.9`.
fn percent(ppm: u32) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn served(config: &Config) -> Vec<ModelPattern> {
    let routes = config.routes.iter();
    routes
        .flat_map(|route| route.models.iter().cloned())
        .collect()
}

/// Reads one table with the file's readers.
fn read<T>(
    json: &Map<String, Value>,
    reader: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let text = toml::to_string(&toml::Value::Table(toml_table(json)))
        .map_err(|error| ConfigErrors::of_file(NAME, format!("cannot be read: {error}")))?;
    let nothing = FixedEnvironment::default();
    let (document, tree) = Document::parse(NAME, &text, &nothing);
    let value = reader(&Table::root(&document, &tree));
    document.finish()?;
    value.ok_or_else(|| ConfigErrors::of_file(NAME, "cannot be read".to_owned()))
}

/// The name of the text in mistakes.
const NAME: &str = "the request's body";

/// An absent member and `null` are the same: TOML has no `null`.
fn toml_table(json: &Map<String, Value>) -> toml::Table {
    json.iter()
        .filter_map(|(key, value)| Some((key.clone(), toml_value(value)?)))
        .collect()
}

fn toml_value(json: &Value) -> Option<toml::Value> {
    Some(match json {
        Value::Null => return None,
        Value::Bool(flag) => toml::Value::Boolean(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => toml::Value::Integer(integer),
            None => toml::Value::Float(number.as_f64()?),
        },
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Array(items) => toml::Value::Array(items.iter().filter_map(toml_value).collect()),
        Value::Object(members) => toml::Value::Table(toml_table(members)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[[upstreams]]\nid = \"a\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
            [[routes]]\nmodels = [\"gpt-*\"]\nupstreams = [\"a\"]\n\
            [[currencies]]\ncode = \"EUR\"\nrates = [{ from = 2025-01-01, usd = \"1.08\" }]\n";
        super::super::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap()
    }

    fn read_plan(json: Value) -> Result<Plan, ConfigErrors> {
        plan(json.as_object().unwrap(), &config())
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same_plan() {
        let whole = json!({
            "id": "pro", "price": "20.00", "currency": "EUR", "period": "week",
            "limits": [
                { "on": "cost", "max": "150.00", "per": "period", "warn_at": [0.8, 0.95], "models": ["gpt-4*"] },
                { "on": "tokens", "max": 1000, "per": "5h", "then": { "downgrade": "gpt-4o-mini" }, "queue": "2s" },
                { "on": "requests", "max": 0, "per": "minute", "then": { "cap_output": 256 } },
                { "on": "concurrent", "max": 4, "then": "warn" },
            ],
            "fixed_cost": "1.25",
            "payment_fee": { "percent": "2.9", "fixed": "0.30" },
            "overage": { "above_tokens": 1_000_000, "per_million_tokens": "5.00" },
            "trial_days": 14,
        });
        for json in [
            whole,
            json!({ "id": "x", "price": "0", "overage": { "above_cost": "9.00", "markup_percent": "12.5" } }),
            json!({ "id": "x", "price": "0", "limits": null, "payment_fee": null }),
        ] {
            let plan = read_plan(json).unwrap();
            assert_eq!(read_plan(Value::Object(show_plan(&plan))), Ok(plan));
        }
    }

    #[test]
    fn mistakes_name_the_member() {
        for (json, key) in [
            (json!({ "price": "1" }), "id"),
            (json!({ "id": "x", "price": 1 }), "price"),
            (json!({ "id": "x", "price": "1", "prize": "1" }), "prize"),
            (
                json!({ "id": "x", "price": "1", "currency": "GBP" }),
                "currency",
            ),
            (
                json!({ "id": "x", "price": "1", "limits": [{ "on": "cost", "max": "1", "per": "day" }, { "on": "cost" }] }),
                "limits[1].max",
            ),
        ] {
            let errors = read_plan(json).unwrap_err();
            let keys: Vec<&str> = errors.errors.iter().map(|error| &*error.key).collect();
            assert!(keys.contains(&key), "{key}: {errors}");
        }
    }

    #[test]
    fn no_text_and_no_depth_of_a_body_is_too_odd() {
        let mut deep = json!("x");
        for _ in 0..120 {
            deep = json!([deep]);
        }
        for odd in [
            json!("\"\\\n\u{0}\u{1b}'''"),
            deep,
            json!(1e308),
            json!(u64::MAX),
        ] {
            let json = json!({ "id": odd.clone(), "price": "1", "limits": odd });
            assert!(read_plan(json).is_err());
        }
    }
}
