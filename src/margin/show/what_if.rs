//! A what-if beside what happened.

use std::collections::{HashMap, HashSet};

use super::{dollars, grouped, name, plain_table, to_the_right, written};
use crate::margin::report::Row;
use crate::margin::whatif::WhatIf;
use crate::money::Money;

/// What happened beside what would have, for a terminal.
pub fn what_if_table(report: &WhatIf) -> String {
    let mut table = plain_table(&[
        name(report.actual.by),
        "revenue $",
        "would be $",
        "cost $",
        "would be $",
        "margin $",
        "would be $",
        "difference $",
    ]);
    for (id, was, would_be) in beside(report) {
        let of = |row: Option<&Row>, member: fn(&Row) -> Money| row.map_or(Money::ZERO, member);
        let both = |member: fn(&Row) -> Money| (of(was, member), of(would_be, member));
        let (revenue, cost, margin) = (
            both(|row| row.revenue_usd),
            both(|row| row.cost_usd),
            both(|row| row.margin_usd),
        );
        let amounts = [
            revenue.0,
            revenue.1,
            cost.0,
            cost.1,
            margin.0,
            margin.1,
            margin.1 - margin.0,
        ];
        table.add_row(std::iter::once(id.to_owned()).chain(amounts.map(dollars)));
    }
    to_the_right(&mut table);
    let mut text = format!("{}  to  {}\n{table}\n", report.since, report.until);
    text.push_str(&format!(
        "difference in margin: {} (revenue {}, cost {}); accounts touched: {}, of which pay: {}\n",
        dollars(report.difference_usd),
        dollars(report.difference.revenue_usd),
        dollars(report.difference.cost_usd),
        grouped(report.touched_accounts),
        grouped(report.touched_paying_accounts)
    ));
    let unpriced = report.whatif.total.unpriced_requests;
    if unpriced > 0 {
        text.push_str(&format!(
            "UNPRICED: {} requests have no price and are in no cost above\n",
            grouped(unpriced)
        ));
    }
    if report.stopped_accounts > 0 {
        text.push_str(&format!(
            "stopped by limits: {} accounts\n",
            grouped(report.stopped_accounts)
        ));
    }
    for stopped in report.stopped.iter().take(10) {
        text.push_str(&format!(
            "  {}: first on {}, saves {} (paid {})\n",
            stopped.account,
            stopped.first,
            dollars(stopped.saving_usd),
            dollars(stopped.revenue_usd)
        ));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

/// What happened beside what would have, one line a row, the total last; amounts are exact.
pub fn what_if_csv(report: &WhatIf) -> String {
    let header = [
        name(report.actual.by),
        "actual_revenue_usd",
        "whatif_revenue_usd",
        "actual_cost_usd",
        "whatif_cost_usd",
        "actual_margin_usd",
        "whatif_margin_usd",
        "difference_usd",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for (id, was, would_be) in beside(report) {
        let of = |row: Option<&Row>, member: fn(&Row) -> Money| row.map_or(Money::ZERO, member);
        let mut line = vec![id.to_owned()];
        let members: [fn(&Row) -> Money; 3] = [
            |row| row.revenue_usd,
            |row| row.cost_usd,
            |row| row.margin_usd,
        ];
        for member in members {
            line.extend([
                of(was, member).to_string(),
                of(would_be, member).to_string(),
            ]);
        }
        let margin = |row: &Row| row.margin_usd;
        line.push((of(would_be, margin) - of(was, margin)).to_string());
        lines.push(line);
    }
    written(&lines)
}

/// The rows of both reports by name, as the actual one orders them, those only in the what-if after them, the totals last.
fn beside(report: &WhatIf) -> Vec<(&str, Option<&Row>, Option<&Row>)> {
    let would_be: HashMap<&str, &Row> = report
        .whatif
        .rows
        .iter()
        .map(|row| (row.id.as_str(), row))
        .collect();
    let was: HashSet<&str> = report
        .actual
        .rows
        .iter()
        .map(|row| row.id.as_str())
        .collect();
    let both = report.actual.rows.iter().map(|row| {
        let id = row.id.as_str();
        (id, Some(row), would_be.get(id).copied())
    });
    let new = report
        .whatif
        .rows
        .iter()
        .filter(|row| !was.contains(row.id.as_str()));
    let mut rows: Vec<_> = both
        .chain(new.map(|row| (row.id.as_str(), None, Some(row))))
        .collect();
    rows.push((
        "total",
        Some(&report.actual.total),
        Some(&report.whatif.total),
    ));
    rows
}
