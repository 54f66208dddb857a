//! The ledger against bills that differ from it in known ways.

use weir::ids::UpstreamId;
use weir::ledger::{Entry, Outcome};
use weir::margin::reconcile::bill::Bill;
use weir::margin::reconcile::{CauseKind, Line, Reconciliation, reconcile};

use crate::ledger::Ledger;
use crate::world::*;

fn compare(entries: Vec<Entry>, bill: &str) -> Reconciliation {
    let ledger = Ledger::new(entries, &[]);
    let bill = Bill::read(bill).unwrap();
    let upstreams = [UpstreamId::from("openai")];
    reconcile(&*ledger, &prices(), &bill, &upstreams, &|_, _| {}).unwrap()
}

/// One request of a million input tokens on each of so many days of March 2025.
fn days(model: &str, days: std::ops::RangeInclusive<u32>) -> Vec<Entry> {
    days.map(|day| {
        let moment = at(&format!("2025-03-{day:02}T10:00:00Z"));
        entry(&prices(), "a", "pro", model, moment, tokens(1_000_000, 0))
    })
    .collect()
}

fn kinds(line: &Line) -> Vec<CauseKind> {
    line.causes.iter().map(|cause| cause.cause).collect()
}

#[test]
fn a_bill_that_says_the_same_agrees() {
    let report = compare(
        days("gpt-4o", 1..=2),
        "date,model,cost,input_tokens,output_tokens,requests\n\
         2025-03-01,gpt-4o,2.50,1000000,0,1\n\
         2025-03-02,gpt-4o,2.499,1000000,0,1\n",
    );
    assert!(report.agrees, "{report:?}");
    assert_eq!(report.total.difference_usd, Some(usd("-0.001")));
}

#[test]
fn each_difference_has_its_likely_cause() {
    let mut entries = days("gpt-4o", 1..=5);
    // The third day's answer broke off, and its tokens were counted.
    entries[2].outcome = Outcome::ClientClosed;
    entries.extend(days("mystery", 1..=1));
    let mut elsewhere = days("gpt-4o", 1..=1);
    elsewhere[0].upstream = Some("azure".into());
    entries.extend(elsewhere);
    let report = compare(
        entries,
        "date,model,cost,input_tokens,output_tokens,requests\n\
         2025-03-01,gpt-4o,2.50,1000000,0,1\n\
         2025-03-01,mystery,9.00,1000000,0,1\n\
         2025-03-02,gpt-4o,5.00,2000000,0,2\n\
         2025-03-03,gpt-4o,2.51,1004000,0,1\n\
         2025-03-04,gpt-4o,3.75,1000000,0,1\n\
         2025-03-04,o3-mini,1.10,1000000,0,1\n",
    );
    let causes: Vec<(String, Vec<CauseKind>)> = report
        .rows
        .iter()
        .filter(|row| !row.agrees)
        .map(|row| {
            let model = row.model.clone().unwrap();
            (format!("{} {model}", row.day), kinds(row))
        })
        .collect();
    let expected = [
        ("2025-03-01 mystery", vec![CauseKind::Unpriced]),
        ("2025-03-02 gpt-4o", vec![CauseKind::AnotherKey]),
        ("2025-03-03 gpt-4o", vec![CauseKind::Uncounted]),
        ("2025-03-04 gpt-4o", vec![CauseKind::Price]),
        ("2025-03-04 o3-mini", vec![CauseKind::AnotherKey]),
    ];
    let expected: Vec<(String, Vec<CauseKind>)> = expected
        .into_iter()
        .map(|(line, kinds)| (line.to_owned(), kinds))
        .collect();
    assert_eq!(causes, expected);
}

#[test]
fn what_only_the_ledger_has_and_what_lies_across_midnight_are_told_apart() {
    let mut entries = days("gpt-4o", 1..=2);
    entries.extend(days("gpt-4o", 2..=2));
    entries.extend(days("o3-mini", 2..=2));
    let report = compare(
        entries,
        "date,model,input_tokens,output_tokens\n\
         2025-03-01,gpt-4o,2000000,0\n\
         2025-03-02,gpt-4o,1000000,0\n",
    );
    let of = |model: &str| {
        report
            .rows
            .iter()
            .filter(|row| row.model.as_deref() == Some(model))
            .map(kinds)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("gpt-4o"), [[CauseKind::Midnight], [CauseKind::Midnight]]);
    assert_eq!(of("o3-mini"), [[CauseKind::NotBilled]]);
}

#[test]
fn a_bill_without_models_is_compared_by_the_day_and_names_its_keys() {
    let mut entries = days("gpt-4o", 1..=1);
    entries.extend(days("o3-mini", 1..=1));
    let report = compare(
        entries,
        r#"{"object":"page","data":[{"start_time":1740787200,"results":[
            {"object":"organization.costs.result","amount":{"value":13.6,"currency":"usd"},"line_item":null,"api_key_id":"key_other"}
        ]}]}"#,
    );
    assert_eq!(report.rows.len(), 1);
    let row = &report.rows[0];
    assert_eq!(row.model, None);
    assert_eq!(row.figures.difference_usd, Some(usd("10")));
    assert_eq!(kinds(row), [CauseKind::AnotherKey]);
    assert!(row.causes[0].detail.contains("key_other"));
    let table = weir::margin::reconciliation_table(&report);
    assert!(table.contains("0 of 1 lines agree"), "{table}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["rows"][0]["difference_usd"], "10.00");
    assert_eq!(json["rows"][0]["causes"][0]["cause"], "another_key");
}
