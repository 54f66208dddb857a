//! The JSON of OpenAI's and Anthropic's organisation APIs, one page or an array of pages.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decimal::decimal;
use super::{Bill, BillError, Billed, Kind, day, day_of};

#[derive(Deserialize)]
#[serde(expecting = "a page with data")]
struct Page {
    data: Vec<Bucket>,
    has_more: Option<bool>,
}

/// A stretch of time: OpenAI has `start_time` in Unix seconds, Anthropic `starting_at` in RFC 3339.
#[derive(Deserialize)]
#[serde(expecting = "a bucket with results")]
struct Bucket {
    start_time: Option<i64>,
    starting_at: Option<String>,
    #[serde(alias = "result")]
    results: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(expecting = "a result")]
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
#[serde(expecting = "tokens by how long they are kept")]
struct CacheCreation {
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
    #[serde(default)]
    ephemeral_5m_input_tokens: u64,
}

#[derive(Deserialize)]
#[serde(expecting = "an amount with a value")]
struct OpenaiAmount<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    currency: Option<String>,
}

pub(super) fn json(text: &str) -> Result<Bill, BillError> {
    let shape = |error: serde_json::Error| BillError::Json(error.to_string());
    // Several pages may be given as one array.
    let pages: Vec<Page> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(shape)?
    } else {
        vec![serde_json::from_str(text).map_err(shape)?]
    };
    // In whatever order they stand, one of them must be the last.
    if !pages.is_empty() && pages.iter().all(|page| page.has_more == Some(true)) {
        return Err(BillError::MorePages);
    }
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
