//! What was corrected, and the ledger beside a bill.

use super::{dollars, grouped, plain_table, to_the_right, written};
use crate::margin::reconcile::Reconciliation;
use crate::margin::reprice::Repriced;
use crate::money::Money;

/// Corrections for a terminal.
pub fn repriced_table(done: &Repriced) -> String {
    let mut table = plain_table(&["price", "from", "entries", "difference $"]);
    for row in &done.rows {
        table.add_row([
            row.priced_by.model.to_string(),
            row.priced_by.from.to_string(),
            grouped(row.corrected),
            row.difference_usd.to_string(),
        ]);
    }
    to_the_right(&mut table);
    let verb = if done.dry_run {
        "would be booked (nothing was written)"
    } else {
        "booked"
    };
    let mut text = format!("{}  to  {}\n", done.since, done.until);
    if !done.rows.is_empty() {
        text.push_str(&format!("{table}\n"));
    }
    text.push_str(&format!(
        "{} requests looked at; {} corrections {verb}, {} of them for requests without a price; cost changes by {}\n",
        grouped(done.examined),
        grouped(done.corrected),
        grouped(done.newly_priced),
        done.difference_usd
    ));
    if done.unpriced > 0 {
        text.push_str(&format!(
            "UNPRICED: {} requests have no price still\n",
            grouped(done.unpriced)
        ));
    }
    if done.several_models > 0 {
        text.push_str(&format!(
            "note: {} requests were served by several models and are left as they are\n",
            grouped(done.several_models)
        ));
    }
    text
}

/// Corrections by price row; amounts are exact.
pub fn repriced_csv(done: &Repriced) -> String {
    let header = ["model", "from", "corrected", "difference_usd"];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    lines.extend(done.rows.iter().map(|row| {
        vec![
            row.priced_by.model.to_string(),
            row.priced_by.from.to_string(),
            row.corrected.to_string(),
            row.difference_usd.to_string(),
        ]
    }));
    written(&lines)
}

/// The lines that differ, for a terminal.
pub fn reconciliation_table(report: &Reconciliation) -> String {
    let mut table = plain_table(&[
        "day",
        "model",
        "billed $",
        "ledger $",
        "difference $",
        "tokens differ by",
        "requests differ by",
        "likely cause",
    ]);
    let money = |amount: Option<Money>| amount.map_or_else(|| "-".to_owned(), dollars);
    let count = |count: Option<i128>| count.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for row in report.rows.iter().filter(|row| !row.agrees) {
        let causes: Vec<&str> = row.causes.iter().map(|cause| &*cause.detail).collect();
        let figures = &row.figures;
        table.add_row([
            row.day.to_string(),
            row.model.clone().unwrap_or_else(|| "(all)".to_owned()),
            money(figures.billed.cost_usd),
            dollars(figures.ledger.cost_usd),
            money(figures.difference_usd),
            count(figures.difference_tokens),
            count(figures.difference_requests),
            causes.join("; "),
        ]);
    }
    let differ = report.rows.iter().filter(|row| !row.agrees).count();
    let mut text = format!("{}  to  {}\n", report.since, report.until);
    if differ > 0 {
        text.push_str(&format!("{table}\n"));
    }
    let total = &report.total;
    text.push_str(&format!(
        "{} of {} lines agree; billed {}, in the ledger {}, difference {}\n",
        report.rows.len() - differ,
        report.rows.len(),
        money(total.billed.cost_usd),
        dollars(total.ledger.cost_usd),
        money(total.difference_usd)
    ));
    text
}

/// Every line; amounts are exact.
pub fn reconciliation_csv(report: &Reconciliation) -> String {
    let header = [
        "day",
        "model",
        "agrees",
        "billed_usd",
        "ledger_usd",
        "difference_usd",
        "difference_tokens",
        "difference_requests",
        "unpriced_requests",
        "causes",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    let money = |amount: Option<Money>| amount.map(|money| money.to_string()).unwrap_or_default();
    let count = |count: Option<i128>| count.map(|count| count.to_string()).unwrap_or_default();
    for row in &report.rows {
        let causes: Vec<&str> = row.causes.iter().map(|cause| &*cause.detail).collect();
        let figures = &row.figures;
        lines.push(vec![
            row.day.to_string(),
            row.model.clone().unwrap_or_default(),
            row.agrees.to_string(),
            money(figures.billed.cost_usd),
            figures.ledger.cost_usd.to_string(),
            money(figures.difference_usd),
            count(figures.difference_tokens),
            count(figures.difference_requests),
            figures.ledger.unpriced_requests.to_string(),
            causes.join("; "),
        ]);
    }
    written(&lines)
}
