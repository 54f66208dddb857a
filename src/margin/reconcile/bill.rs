//! A provider's own bill: OpenAI's costs export and usage API, Anthropic's usage and cost reports, or a plain CSV.
//!
//! Shapes as their references give them (developers.openai.com, "Costs" and "Usage"; platform.claude.com, "Cost Report"
//! and "Messages Usage Report"; seen in November 2026). Amounts are read from their digits, never through a float.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::money::Money;

/// A bill, summed by day and model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bill {
    /// What kind of file it was.
    pub kind: Kind,
    /// What was billed. A line without a model has `None`: the provider did not tell models apart.
    pub lines: BTreeMap<(Date, Option<String>), Billed>,
    /// The provider's names of the keys that each line was billed on, where the file tells them apart.
    pub keys: BTreeMap<(Date, Option<String>), BTreeSet<String>>,
}

/// What kind of file a bill is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `GET /v1/organization/costs`.
    OpenaiCosts,
    /// `GET /v1/organization/usage/…`.
    OpenaiUsage,
    /// `GET /v1/organizations/cost_report`.
    AnthropicCosts,
    /// `GET /v1/organizations/usage_report/messages`.
    AnthropicUsage,
    /// A CSV with a header.
    #[default]
    Csv,
}

/// What was billed for one model on one day. What the file does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Billed {
    /// US dollars.
    pub cost_usd: Option<Money>,
    /// All input tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// All output tokens.
    pub output_tokens: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
}

/// Why a file is no bill.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// It is JSON of another shape.
    #[error(
        "the JSON is neither OpenAI's costs or usage nor Anthropic's usage or cost report: {0}"
    )]
    Json(String),
    /// Its CSV lacks a column.
    #[error(
        "the CSV has no column {0} (expected date, model, and cost or input_tokens and output_tokens)"
    )]
    Column(&'static str),
    /// A line of the CSV cannot be read.
    #[error("line {line}: {what}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// An amount is no decimal number.
    #[error("{0:?} is no amount of money")]
    Amount(String),
    /// A time is no time.
    #[error("{0:?} is no date or time")]
    Time(String),
    /// Another currency than US dollars.
    #[error("the bill is in {0}: only US dollars can be compared")]
    Currency(String),
}

impl Bill {
    /// Reads a bill; its first character says whether it is JSON.
    ///
    /// # Errors
    /// [`BillError`].
    pub fn read(text: &str) -> Result<Bill, BillError> {
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with(['{', '[']) {
            json(text)
        } else {
            csv(text)
        }
    }

    fn add(&mut self, day: Date, model: Option<String>, billed: Billed) {
        self.lines.entry((day, model)).or_default().merge(&billed);
    }
}

impl Billed {
    /// Adds another line of the same day and model.
    pub(super) fn merge(&mut self, other: &Billed) {
        add(&mut self.cost_usd, other.cost_usd, |a, b| a + b);
        for (sum, more) in [
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.requests, other.requests),
        ] {
            add(sum, more, u64::saturating_add);
        }
    }
}

fn add<T: Copy>(sum: &mut Option<T>, more: Option<T>, plus: impl Fn(T, T) -> T) {
    *sum = match (*sum, more) {
        (Some(sum), Some(more)) => Some(plus(sum, more)),
        (sum, more) => sum.or(more),
    };
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Bucket>,
}

/// A stretch of time: OpenAI has `start_time` in Unix seconds, Anthropic `starting_at` in RFC 3339.
#[derive(Deserialize)]
struct Bucket {
    start_time: Option<i64>,
    starting_at: Option<String>,
    #[serde(alias = "result")]
    results: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    object: Option<String>,
    amount: Option<Box<RawValue>>,
    currency: Option<String>,
    line_item: Option<String>,
    api_key_id: Option<String>,
    description: Option<String>,
    model: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    num_model_requests: Option<u64>,
    uncached_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
    #[serde(default)]
    ephemeral_5m_input_tokens: u64,
}

#[derive(Deserialize)]
struct OpenaiAmount<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    currency: Option<String>,
}

fn json(text: &str) -> Result<Bill, BillError> {
    let shape = |error: serde_json::Error| BillError::Json(error.to_string());
    // Several pages may be given as one array.
    let pages: Vec<Page> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(shape)?
    } else {
        vec![serde_json::from_str(text).map_err(shape)?]
    };
    let mut bill = Bill::default();
    let mut kind = None;
    for bucket in pages.into_iter().flat_map(|page| page.data) {
        let day = match (bucket.start_time, bucket.starting_at) {
            (Some(seconds), _) => Timestamp::from_second(seconds)
                .map(day_of)
                .map_err(|_| BillError::Time(seconds.to_string()))?,
            (None, Some(text)) => day(&text)?,
            (None, None) => {
                return Err(BillError::Json("a bucket has no start".to_owned()));
            }
        };
        for item in bucket.results {
            let of = item.kind()?;
            kind.get_or_insert(of);
            let key = item.api_key_id.clone();
            let (model, billed) = item.billed(of)?;
            if let Some(key) = key {
                let line = (day, model.clone());
                bill.keys.entry(line).or_default().insert(key);
            }
            bill.add(day, model, billed);
        }
    }
    bill.kind = kind.unwrap_or(Kind::OpenaiCosts);
    Ok(bill)
}

impl Item {
    fn kind(&self) -> Result<Kind, BillError> {
        let openai = self.object.as_deref().unwrap_or_default();
        match (&self.amount, self.uncached_input_tokens) {
            _ if openai.starts_with("organization.usage") => Ok(Kind::OpenaiUsage),
            (Some(_), _) if openai.starts_with("organization.costs") => Ok(Kind::OpenaiCosts),
            (Some(_), _) => Ok(Kind::AnthropicCosts),
            (None, Some(_)) => Ok(Kind::AnthropicUsage),
            (None, None) => Err(BillError::Json("a result is of no known kind".to_owned())),
        }
    }

    fn billed(self, kind: Kind) -> Result<(Option<String>, Billed), BillError> {
        let mut billed = Billed::default();
        let mut model = self.model;
        match kind {
            Kind::OpenaiCosts => {
                let raw = self.amount.as_deref().map_or("{}", RawValue::get);
                let amount: OpenaiAmount<'_> = serde_json::from_str(raw)
                    .map_err(|error| BillError::Json(error.to_string()))?;
                dollars_only(amount.currency.as_deref())?;
                billed.cost_usd = Some(decimal(amount.value.get(), 0)?);
                // "gpt-4o-2024-08-06, input": the model and the class.
                let named = |item: &str| item.split(", ").next().unwrap_or(item).to_owned();
                model = model.or_else(|| self.line_item.as_deref().map(named));
            }
            Kind::AnthropicCosts => {
                dollars_only(self.currency.as_deref())?;
                let raw = self.amount.as_deref().map_or("", RawValue::get);
                // In cents.
                billed.cost_usd = Some(decimal(raw, -2)?);
                model = model.or(self.description);
            }
            Kind::OpenaiUsage => {
                billed.input_tokens = self.input_tokens;
                billed.output_tokens = self.output_tokens;
                billed.requests = self.num_model_requests;
            }
            Kind::AnthropicUsage => {
                let written = self.cache_creation.map_or(0, |written| {
                    written
                        .ephemeral_1h_input_tokens
                        .saturating_add(written.ephemeral_5m_input_tokens)
                });
                // Anthropic's classes stand beside each other; here a total contains its parts.
                let input = [
                    self.uncached_input_tokens.unwrap_or(0),
                    self.cache_read_input_tokens.unwrap_or(0),
                    written,
                ];
                billed.input_tokens = Some(input.into_iter().fold(0, u64::saturating_add));
                billed.output_tokens = self.output_tokens;
            }
            Kind::Csv => {}
        }
        Ok((model, billed))
    }
}

fn dollars_only(currency: Option<&str>) -> Result<(), BillError> {
    match currency {
        Some(other) if !other.eq_ignore_ascii_case("usd") => {
            Err(BillError::Currency(other.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Columns under any of their usual names.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("date", &["date", "day", "start_time", "usage_date_utc"]),
    (
        "model",
        &["model", "model_version", "served_model", "snapshot_id"],
    ),
    ("cost", &["cost", "cost_usd", "amount", "cost_in_usd"]),
    (
        "input_tokens",
        &["input_tokens", "prompt_tokens", "n_context_tokens_total"],
    ),
    (
        "output_tokens",
        &[
            "output_tokens",
            "completion_tokens",
            "n_generated_tokens_total",
        ],
    ),
    (
        "requests",
        &["requests", "n_requests", "num_model_requests"],
    ),
];

fn csv(text: &str) -> Result<Bill, BillError> {
    let mut reader = ::csv::ReaderBuilder::new()
        .trim(::csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let bad = |line: u64| move |what: String| BillError::Line { line, what };
    let header = reader
        .headers()
        .map_err(|error| bad(1)(error.to_string()))?
        .clone();
    let position = |column: &str| {
        let names = COLUMNS.iter().find(|(name, _)| *name == column)?.1;
        header
            .iter()
            .position(|name| names.contains(&name.to_ascii_lowercase().replace(' ', "_").as_str()))
    };
    let date_at = position("date").ok_or(BillError::Column("date"))?;
    let model_at = position("model").ok_or(BillError::Column("model"))?;
    let (cost_at, input_at) = (position("cost"), position("input_tokens"));
    if cost_at.or(input_at).is_none() {
        return Err(BillError::Column("cost"));
    }
    let (output_at, requests_at) = (position("output_tokens"), position("requests"));
    let mut bill = Bill::default();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, ::csv::Position::line);
            bad(line)(error.to_string())
        })?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let bad = bad(line);
        let cell = |at: Option<usize>| {
            at.and_then(|at| record.get(at))
                .filter(|cell| !cell.is_empty())
        };
        let count = |at: Option<usize>| {
            cell(at)
                .map(|cell| {
                    let digits = cell.replace([',', '_'], "");
                    let what = || format!("{cell:?} is no count");
                    digits.parse::<u64>().map_err(|_| bad(what()))
                })
                .transpose()
        };
        let cost = cell(cost_at)
            .map(|cell| {
                let digits = cell.trim_start_matches('$').replace(',', "");
                decimal(&digits, 0).map_err(|error| bad(error.to_string()))
            })
            .transpose()?;
        let date = cell(Some(date_at)).unwrap_or_default();
        bill.add(
            day(date).map_err(|error| bad(error.to_string()))?,
            cell(Some(model_at)).map(str::to_owned),
            Billed {
                cost_usd: cost,
                input_tokens: count(input_at)?,
                output_tokens: count(output_at)?,
                requests: count(requests_at)?,
            },
        );
    }
    Ok(bill)
}

fn day_of(moment: Timestamp) -> Date {
    Offset::UTC.to_datetime(moment).date()
}

/// The UTC day of a date or a time.
fn day(text: &str) -> Result<Date, BillError> {
    text.parse::<Timestamp>()
        .map(day_of)
        .or_else(|_| text.parse::<Date>())
        .map_err(|_| BillError::Time(text.to_owned()))
}

/// Reads a decimal number, quoted or not, with or without an exponent, times ten to the power of `shift`. Digits beyond
/// the pico-dollar are rounded half to even: a bill may have been through a float before it came here.
fn decimal(text: &str, shift: i32) -> Result<Money, BillError> {
    let bad = || BillError::Amount(text.to_owned());
    let number = text.trim().trim_matches('"');
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let value: i128 = digits.parse().map_err(|_| bad())?;
    let decimals = i32::try_from(fraction.len()).map_err(|_| bad())?;
    let power = exponent
        .checked_add(shift)
        .and_then(|sum| sum.checked_add(12 - decimals))
        .filter(|power| (-60..=26).contains(power))
        .ok_or_else(bad)?;
    let ten = |power: i32| 10_i128.checked_pow(power.unsigned_abs());
    let picos = if power >= 0 {
        ten(power).and_then(|factor| value.checked_mul(factor).map(Money::from_picos))
    } else {
        // Past 38 digits there is nothing left of the value.
        match ten(power) {
            Some(divisor) => Money::from_picos(value).mul_ratio(1, divisor),
            None => Some(Money::ZERO),
        }
    };
    picos
        .map(|money| if negative { -money } else { money })
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bill: &Bill) -> Vec<(String, Option<&str>, Billed)> {
        bill.lines
            .iter()
            .map(|((day, model), billed)| (day.to_string(), model.as_deref(), *billed))
            .collect()
    }

    fn usd(text: &str) -> Option<Money> {
        Some(Money::parse(text).unwrap())
    }

    #[test]
    fn openai_costs_are_summed_over_the_classes_of_a_model() {
        let bill = Bill::read(
            r#"{"object":"page","data":[{"object":"bucket","start_time":1730419200,"end_time":1730505600,"results":[
            {"object":"organization.costs.result","amount":{"value":0.06,"currency":"usd"},"line_item":"gpt-4o-2024-08-06, input","project_id":null},
            {"object":"organization.costs.result","amount":{"value":1.2e-05,"currency":"usd"},"line_item":"gpt-4o-2024-08-06, output"},
            {"object":"organization.costs.result","amount":{"value":"2.5","currency":"usd"},"line_item":null}
            ]}],"has_more":false,"next_page":null}"#,
        )
        .unwrap();
        assert_eq!(bill.kind, Kind::OpenaiCosts);
        let cost = |text| Billed {
            cost_usd: usd(text),
            ..Billed::default()
        };
        assert_eq!(
            lines(&bill),
            [
                ("2024-11-01".to_owned(), None, cost("2.5")),
                (
                    "2024-11-01".to_owned(),
                    Some("gpt-4o-2024-08-06"),
                    cost("0.060012")
                ),
            ]
        );
    }

    #[test]
    fn openai_usage_has_tokens_and_requests() {
        let bill = Bill::read(
            r#"{"data":[{"start_time":1730419200,"results":[{"object":"organization.usage.completions.result",
            "input_tokens":5000,"output_tokens":1000,"input_cached_tokens":4000,"num_model_requests":5,
            "model":"gpt-4o-mini-2024-07-18"}]}]}"#,
        )
        .unwrap();
        assert_eq!(bill.kind, Kind::OpenaiUsage);
        let billed = lines(&bill)[0].2;
        assert_eq!(
            (billed.input_tokens, billed.output_tokens, billed.requests),
            (Some(5_000), Some(1_000), Some(5))
        );
    }

    #[test]
    fn anthropic_s_classes_stand_beside_each_other_and_its_costs_are_in_cents() {
        let usage = Bill::read(
            r#"{"data":[{"starting_at":"2025-08-01T00:00:00Z","ending_at":"2025-08-02T00:00:00Z","results":[
            {"uncached_input_tokens":1500,"cache_creation":{"ephemeral_1h_input_tokens":1000,"ephemeral_5m_input_tokens":500},
            "cache_read_input_tokens":200,"output_tokens":500,"model":"claude-opus-4-20250514","service_tier":"standard"}]}],
            "has_more":false,"next_page":null}"#,
        )
        .unwrap();
        assert_eq!(usage.kind, Kind::AnthropicUsage);
        assert_eq!(lines(&usage)[0].2.input_tokens, Some(3_200));
        let costs = Bill::read(
            r#"{"data":[{"starting_at":"2025-08-01T00:00:00Z","ending_at":"2025-08-02T00:00:00Z","results":[
            {"currency":"USD","amount":"123.78912","description":"Claude Opus 4 Usage - Input Tokens",
            "cost_type":"tokens","model":"claude-opus-4-20250514"}]}]}"#,
        )
        .unwrap();
        assert_eq!(costs.kind, Kind::AnthropicCosts);
        assert_eq!(lines(&costs)[0].2.cost_usd, usd("1.2378912"));
    }

    #[test]
    fn a_csv_may_name_its_columns_in_several_ways() {
        let bill = Bill::read(
            "Date,Model,Prompt Tokens,completion_tokens,Cost USD,note\n\
             2025-03-01,gpt-4o,\"1,000\",10,$0.0026,x\n\
             2025-03-01,gpt-4o,1,,0.10,\n",
        )
        .unwrap();
        let billed = lines(&bill)[0].2;
        assert_eq!(billed.input_tokens, Some(1_001));
        assert_eq!(billed.output_tokens, Some(10));
        assert_eq!(billed.cost_usd, usd("0.1026"));
    }

    #[test]
    fn what_is_no_bill_says_why() {
        for (text, what) in [
            ("{\"data\":[{\"results\":[]}]}", "no start"),
            ("{\"error\":{}}", "neither OpenAI's"),
            ("a,b\n1,2\n", "no column date"),
            ("date,model\n", "no column cost"),
            ("date,model,cost\n2025-03-01,m,cheap\n", "line 2"),
            ("date,model,cost\nsoon,m,1\n", "line 2"),
            (
                r#"{"data":[{"start_time":1,"results":[{"object":"organization.costs.result","amount":{"value":1,"currency":"eur"}}]}]}"#,
                "only US dollars",
            ),
        ] {
            let error = Bill::read(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn amounts_are_read_by_their_digits() {
        for (text, shift, read) in [
            ("0.1", 0, "0.1"),
            ("-1.5e2", 0, "-150"),
            ("12", -2, "0.12"),
            ("0.30000000000000004", 0, "0.3"),
            ("1e-50", 0, "0"),
        ] {
            assert_eq!(decimal(text, shift).ok(), usd(read), "{text}");
        }
        assert!(decimal("1e40", 0).is_err() && decimal(".", 0).is_err());
    }
}
