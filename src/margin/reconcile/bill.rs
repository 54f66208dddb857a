//! A provider's own bill: OpenAI's costs export and usage API, Anthropic's usage and cost reports, or a plain CSV.
//!
//! Shapes as their references give them (developers.openai.com, "Costs" and "Usage"; platform.claude.com, "Cost Report"
//! and "Messages Usage Report"; seen in November 2026). Amounts are read from their digits, never through a float.

mod columns;
mod decimal;
mod json;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

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
    /// It is JSON of the right shape that lacks the end: the API gives long answers page by page.
    #[error(
        "more pages follow the last one in the file (has_more): fetch them too, and put all of them in one JSON array"
    )]
    MorePages,
    /// Nothing was billed in it, on no day: there is nothing to compare, and no telling for which days.
    #[error("the bill has no lines: there is nothing to compare")]
    Empty,
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
        let bill = if text.trim_start().starts_with(['{', '[']) {
            json::json(text)?
        } else {
            columns::csv(text)?
        };
        if bill.lines.is_empty() {
            return Err(BillError::Empty);
        }
        Ok(bill)
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
    fn a_page_that_others_follow_is_not_taken_for_the_whole() {
        let page = |day: u32, more: &str| {
            format!(
                r#"{{"data":[{{"starting_at":"2025-08-{day:02}T00:00:00Z","results":[{{"uncached_input_tokens":1,
                "output_tokens":1,"model":"m"}}]}}]{more}}}"#
            )
        };
        let (more, end) = (
            r#","has_more":true,"next_page":"p""#,
            r#","has_more":false"#,
        );
        for text in [
            page(1, more),
            format!("[{},{}]", page(1, more), page(2, more)),
        ] {
            let error = Bill::read(&text).unwrap_err().to_string();
            assert!(error.contains("more pages follow"), "{error}");
        }
        for last in [end, ""] {
            let all = format!("[{},{}]", page(1, more), page(2, last));
            assert_eq!(Bill::read(&all).unwrap().lines.len(), 2);
        }
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
            ("[1]", "integer `1`, expected a page with data"),
            (r#"{"data":["x"]}"#, "expected a bucket with results"),
            ("a,b\n1,2\n", "no column date"),
            ("date,model,cost\n", "no lines"),
            (r#"{"data":[]}"#, "no lines"),
            ("[]", "no lines"),
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
}
