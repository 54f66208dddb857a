//! Reports for people (tables) and spreadsheets (CSV).

mod advice;
mod correction;
mod what_if;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

pub use advice::{advice_csv, advice_table};
pub use correction::{reconciliation_csv, reconciliation_table, repriced_csv, repriced_table};
pub use what_if::{what_if_csv, what_if_table};

use super::By;
use super::report::{Report, Row};
use crate::money::Money;
use crate::spreadsheet::Sheet;

/// A table for a terminal: dollars to the cent, numbers grouped and to the right.
pub fn table(report: &Report) -> String {
    let mut table = plain_table(&[
        name(report.by),
        "accounts",
        "in loss",
        "requests",
        "tokens",
        "revenue $",
        "cost $",
        "of it use $",
        "margin $",
        "margin %",
        "use may cost $",
        "turns on",
        "at period end $",
        "range $",
    ]);
    for row in &report.rows {
        table.add_row(cells(row));
    }
    table.add_row(cells(&report.total));
    to_the_right(&mut table);
    let mut text = format!("{}  to  {}\n{table}\n", report.since, report.until);
    let total = &report.total;
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    if total.unpriced_requests > 0 {
        let models: Vec<String> = report
            .unpriced
            .iter()
            .map(|unpriced| format!("{} ({})", unpriced.model, grouped(unpriced.requests)))
            .collect();
        line(format!(
            "UNPRICED: {} requests have no price and are in no cost above: {}",
            grouped(total.unpriced_requests),
            models.join(", ")
        ));
    }
    if let Some(rest) = &report.unallocated
        && (rest.revenue_usd, rest.cost_usd) != (Money::ZERO, Money::ZERO)
    {
        line(format!(
            "accounts that used nothing: revenue {}, cost {} (in the total only)",
            dollars(rest.revenue_usd),
            dollars(rest.cost_usd)
        ));
    }
    line(format!(
        "paid for and not used: {}   losses: {}   saved by caches and tiers: {}",
        dollars(total.breakage_usd),
        dollars(total.losses_usd),
        dollars(total.savings_usd)
    ));
    line(format!(
        "cost nobody sees: reasoning {}, clients gone {}, failed {}, retries {}",
        dollars(total.hidden.reasoning_usd),
        dollars(total.hidden.client_closed_usd),
        dollars(total.hidden.failed_usd),
        grouped(total.hidden.retries)
    ));
    if let Some(shares) = &total.concentration {
        let percent = |share: &Option<String>| share.as_deref().map_or("-".to_owned(), percent);
        line(format!(
            "share of cost: top 1 % of accounts {}, top 5 % {}, top 10 % {}; Gini {}",
            percent(&shares.top_1_percent),
            percent(&shares.top_5_percent),
            percent(&shares.top_10_percent),
            shares.gini.as_deref().unwrap_or("-")
        ));
    }
    line(format!(
        "period end {}: {}",
        total.projected.until, total.projected.method
    ));
    line(
        "use may cost: the revenue to the period's end, less fixed costs and payment fees; it turns where use costs more"
            .to_owned(),
    );
    for note in &report.notes {
        line(format!("note: {note}"));
    }
    text
}

/// A header and one line a row, the total last; amounts are exact.
pub fn csv(report: &Report) -> String {
    let mut lines = vec![
        [
            name(report.by),
            "accounts",
            "loss_making_accounts",
            "requests",
            "unpriced_requests",
            "input_tokens",
            "cache_read_input_tokens",
            "cache_write_input_tokens",
            "output_tokens",
            "reasoning_output_tokens",
            "revenue_usd",
            "cost_usd",
            "fixed_usd",
            "payment_fee_usd",
            "margin_usd",
            "margin_ratio",
            "break_even_tokens",
            "break_even_requests",
            "break_even_date",
            "projected_until",
            "projected_cost_usd",
            "projected_margin_usd",
            "projected_low_usd",
            "projected_high_usd",
            "breakage_usd",
            "losses_usd",
            "savings_usd",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    lines.extend(report.rows.iter().chain([&report.total]).map(record));
    written(&lines)
}

/// An empty table with lines only round its head.
pub(super) fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(
        comfy_table::TableStyle::new()
            .header_separator(comfy_table::LineStyle::none().fill('─').junction('─')),
    );
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

/// Numbers to the right: all columns but the first.
pub(super) fn to_the_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Lines of comma-separated values, quoted where needed.
pub(super) fn written(lines: &[Vec<String>]) -> String {
    let mut sheet = Sheet::new(Vec::new());
    for line in lines {
        // Writing to memory cannot fail, and all lines are as long as the header.
        let _ = sheet.line(line);
    }
    sheet.into_text()
}

fn record(row: &Row) -> Vec<String> {
    let optional = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    vec![
        row.id.clone(),
        row.accounts.to_string(),
        row.loss_making_accounts.to_string(),
        row.requests.to_string(),
        row.unpriced_requests.to_string(),
        row.usage.input_tokens.to_string(),
        row.usage.cache_read_input_tokens.to_string(),
        row.usage.cache_write_input_tokens.to_string(),
        row.usage.output_tokens.to_string(),
        row.usage.reasoning_output_tokens.to_string(),
        row.revenue_usd.to_string(),
        row.cost_usd.to_string(),
        row.cost.fixed.to_string(),
        row.cost.payment_fee.to_string(),
        row.margin_usd.to_string(),
        row.margin_ratio.clone().unwrap_or_default(),
        optional(row.break_even.tokens),
        optional(row.break_even.requests),
        row.break_even
            .date
            .map(|date| date.to_string())
            .unwrap_or_default(),
        row.projected.until.to_string(),
        row.projected.cost_usd.to_string(),
        row.projected.margin_usd.to_string(),
        row.projected.low_usd.to_string(),
        row.projected.high_usd.to_string(),
        row.breakage_usd.to_string(),
        row.losses_usd.to_string(),
        row.savings_usd.to_string(),
    ]
}

fn cells(row: &Row) -> Vec<Cell> {
    let requests = if row.unpriced_requests > 0 {
        format!(
            "{} ({} unpriced)",
            grouped(row.requests),
            grouped(row.unpriced_requests)
        )
    } else {
        grouped(row.requests)
    };
    let turns = match row.break_even.date {
        Some(date) if row.break_even.reached => date.to_string(),
        Some(date) => format!("~{date}"),
        None => "-".to_owned(),
    };
    [
        row.id.clone(),
        grouped(row.accounts),
        grouped(row.loss_making_accounts),
        requests,
        grouped(row.usage.total_tokens()),
        dollars(row.revenue_usd),
        dollars(row.cost_usd),
        dollars(row.cost.use_by_class.total()),
        dollars(row.margin_usd),
        row.margin_ratio.as_deref().map_or("-".to_owned(), percent),
        dollars(row.break_even.cost_usd),
        turns,
        dollars(row.projected.margin_usd),
        format!(
            "{} … {}",
            dollars(row.projected.low_usd),
            dollars(row.projected.high_usd)
        ),
    ]
    .into_iter()
    .map(Cell::new)
    .collect()
}

fn name(by: By) -> &'static str {
    match by {
        By::Plan => "plan",
        By::Account => "account",
        By::Model => "model",
        By::Key => "key",
        By::Upstream => "upstream",
        By::Tag => "tag",
        By::Day => "day",
    }
}

/// Dollars to the cent with groups of thousands: `-1,234.50`.
pub(crate) fn dollars(money: Money) -> String {
    let cents = money
        .mul_ratio(100, Money::from_usd(1).picos())
        .map_or(0, Money::picos);
    let sign = if cents < 0 { "-" } else { "" };
    let magnitude = cents.unsigned_abs();
    let whole = u64::try_from(magnitude / 100).unwrap_or(u64::MAX);
    format!("{sign}{}.{:02}", grouped(whole), magnitude % 100)
}

/// A count with groups of thousands: `1,234,567`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio with four decimals as a percentage: `-0.1645` is `-16.5 %`.
pub(crate) fn percent(ratio: &str) -> String {
    let Ok(value) = Money::parse(ratio) else {
        return ratio.to_owned();
    };
    let tenths = value
        .mul_ratio(1_000, Money::from_usd(1).picos())
        .map_or(0, Money::picos);
    let sign = if tenths < 0 { "-" } else { "" };
    let magnitude = tenths.unsigned_abs();
    format!("{sign}{}.{} %", magnitude / 10, magnitude % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_are_grouped_and_rounded_to_the_cent() {
        let shown = |text: &str| dollars(Money::parse(text).unwrap());
        assert_eq!(shown("-1234567.895"), "-1,234,567.90");
        assert_eq!(shown("0.004"), "0.00");
        assert_eq!(shown("999.995"), "1,000.00");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(percent("-0.1645"), "-16.4 %");
        assert_eq!(percent("1.0000"), "100.0 %");
    }
}
