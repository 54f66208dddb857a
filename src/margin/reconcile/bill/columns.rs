//! A CSV with a header.

use super::decimal::decimal;
use super::{Bill, BillError, Billed, day};

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

pub(super) fn csv(text: &str) -> Result<Bill, BillError> {
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
