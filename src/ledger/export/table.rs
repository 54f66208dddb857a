//! An entry as one CSV row.

use std::fmt::Display;

use super::super::entry::Entry;
use super::super::json::rfc3339;
use crate::ids::AccountId;

/// The columns of the CSV export, in order. New ones are only ever added at the end.
pub const COLUMNS: [&str; 49] = [
    "id",
    "started_at",
    "ended_at",
    "account",
    "ancestors",
    "key",
    "plan",
    "endpoint",
    "model",
    "served_model",
    "upstream",
    "service_tier",
    "status",
    "outcome",
    "reason",
    "streamed",
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "web_search_requests",
    "usage_source",
    "cost_usd",
    "cost_input_usd",
    "cost_cache_read_input_usd",
    "cost_cache_write_input_usd",
    "cost_media_input_usd",
    "cost_output_usd",
    "cost_reasoning_output_usd",
    "cost_media_output_usd",
    "cost_other_usd",
    "undiscounted_usd",
    "priced_by",
    "first_token_ms",
    "duration_ms",
    "retries",
    "end_user",
    "tags",
    "corrects",
    "file_search_requests",
    "code_interpreter_requests",
    "images",
    "audio_seconds",
];

/// So many counts of the usage stand together; those that came later stand at the end.
const COUNTS_AT_FIRST: usize = 11;

/// The cells of an entry's row. Absent facts are empty; `ancestors` are joined by `/`, `priced_by` is
/// `model@from` (several joined by a space), `tags` are a JSON object.
pub(super) fn row(entry: &Entry) -> Vec<String> {
    let (account, ancestors) = match entry.lineage.split_last() {
        Some((account, ancestors)) => (account.as_str(), ancestors),
        None => ("", [].as_slice()),
    };
    let ancestors: Vec<&str> = ancestors.iter().map(AccountId::as_str).collect();
    let mut cells = vec![
        entry.id.to_string(),
        rfc3339(entry.started_at).to_string(),
        rfc3339(entry.ended_at).to_string(),
        account.to_owned(),
        ancestors.join("/"),
        entry.key.to_string(),
        entry.plan.to_string(),
        entry.endpoint.to_string(),
        optional(entry.model.as_ref()),
        optional(entry.served_model.as_ref()),
        optional(entry.upstream.as_ref()),
        optional(entry.service_tier.as_ref()),
        entry.status.to_string(),
        entry.outcome.as_str().to_owned(),
        optional(entry.reason.as_ref()),
        entry.streamed.to_string(),
    ];
    let counts = entry.usage.counts().map(|count| count.to_string());
    let (first, later) = counts.split_at(COUNTS_AT_FIRST);
    cells.extend_from_slice(first);
    cells.push(entry.usage_source.as_str().to_owned());
    cells.push(entry.cost_usd().to_string());
    cells.extend(entry.cost.amounts().map(|amount| amount.to_string()));
    let priced_by: Vec<String> = entry
        .priced_by
        .iter()
        .map(|row| format!("{}@{}", row.model, row.from))
        .collect();
    cells.extend([
        entry.undiscounted.to_string(),
        priced_by.join(" "),
        optional(entry.first_token_ms),
        entry.duration_ms.to_string(),
        entry.retries.to_string(),
        optional(entry.end_user.as_ref()),
        super::super::json::tags_to_text(&entry.tags).unwrap_or_default(),
        optional(entry.corrects),
    ]);
    cells.extend_from_slice(later);
    cells
}

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
