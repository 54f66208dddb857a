//! Advice, a line for each thing that would mend a plan.

use super::{dollars, grouped, percent, plain_table, to_the_right, written};
use crate::margin::advise::{Advice, Standing};

/// Advice for a terminal.
pub fn advice_table(advice: &Advice) -> String {
    let mut table = plain_table(&[
        "what",
        "revenue $",
        "cost $",
        "margin $",
        "margin %",
        "in loss",
        "accounts touched",
    ]);
    for (what, standing, touched) in lines(advice) {
        table.add_row([
            what,
            dollars(standing.revenue_usd),
            dollars(standing.cost_usd),
            dollars(standing.margin_usd),
            standing
                .margin_ratio
                .as_deref()
                .map_or("-".to_owned(), percent),
            grouped(standing.loss_making_accounts),
            grouped(touched),
        ]);
    }
    to_the_right(&mut table);
    let mut text = format!(
        "plan {}, {}  to  {}: target margin {}, {}\n{table}\n",
        advice.plan,
        advice.since,
        advice.until,
        percent(&advice.target_margin_ratio),
        if advice.reached {
            "reached as it is"
        } else {
            "not reached as it is"
        }
    );
    for note in &advice.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

/// Advice as lines: the plan as it was, then each thing that would mend it; amounts are exact.
pub fn advice_csv(advice: &Advice) -> String {
    let header = [
        "what",
        "revenue_usd",
        "cost_usd",
        "margin_usd",
        "margin_ratio",
        "loss_making_accounts",
        "touched_accounts",
    ];
    let mut all = vec![header.map(str::to_owned).to_vec()];
    for (what, standing, touched) in lines(advice) {
        all.push(vec![
            what,
            standing.revenue_usd.to_string(),
            standing.cost_usd.to_string(),
            standing.margin_usd.to_string(),
            standing.margin_ratio.clone().unwrap_or_default(),
            standing.loss_making_accounts.to_string(),
            touched.to_string(),
        ]);
    }
    written(&all)
}

fn lines(advice: &Advice) -> Vec<(String, &Standing, u64)> {
    let mut lines = vec![("as it was".to_owned(), &advice.actual, 0)];
    if let Some(price) = &advice.price {
        let what = format!("price {}", price.price_usd);
        lines.push((what, &price.whatif, price.touched_accounts));
    }
    for limit in &advice.limits {
        let what = format!("limit {}", limit.limit);
        lines.push((what, &limit.whatif, limit.touched_accounts));
    }
    lines
}
