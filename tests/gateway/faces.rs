//! Every face of the books shows the same figures, and they are the ones that this file computes another way: through
//! changes of plan, new prices in mid-period, refunds, an account that left, and a month's end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::Offset};
use serde_json::Value;
use weir::ids::AccountId;
use weir::ledger::sqlite::SqliteStore;
use weir::ledger::store::{AccountChange, AccountEvent, PlanEvent, Store as _};
use weir::ledger::{Entry, Outcome};
use weir::money::Money;
use weir::plan::{PaymentFee, Period, Plan};
use weir::price::CostByClass;
use weir::tokens::{Usage, UsageSource};

use crate::support::{Client, Gateway, Reply, Upstream, config};

const MORE: &str = r#"
[store]
url = "sqlite:DIRECTORY/weir.db"
[[plans]]
id = "plus"
price = "20.00"
[[plans]]
id = "pro"
price = "240.00"
[[accounts]]
id = "steady"
plan = "plus"
since = 2025-01-01
[[accounts]]
id = "climber"
plan = "pro"
since = 2025-01-15
[[accounts]]
id = "returned"
plan = "pro"
since = 2025-01-01
"#;

fn usd(text: &str) -> Money {
    Money::parse(text).unwrap()
}

fn midnight(day: Date) -> Timestamp {
    Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap()
}

/// So much of the way from one moment to another.
fn between(from: Timestamp, to: Timestamp, part: i64, of: i64) -> Timestamp {
    let (from, to) = (from.as_millisecond(), to.as_millisecond());
    Timestamp::from_millisecond(from + (to - from) * part / of).unwrap()
}

/// A price that an account pays in a stretch of time.
struct Paid {
    account: &'static str,
    plan: &'static str,
    dollars: i128,
    /// The day of the month on which it pays.
    on: i8,
    from: Timestamp,
    to: Timestamp,
}

struct Refund {
    account: &'static str,
    plan: &'static str,
    amount: Money,
    at: Timestamp,
}

/// All that was paid, paid back and used.
struct Shop {
    paid: Vec<Paid>,
    refunds: Vec<Refund>,
    used: Vec<(&'static str, &'static str, Timestamp, Money)>,
}

impl Shop {
    /// Revenue and cost by the name of a row, from one moment to another.
    fn figures(
        &self,
        by_plan: bool,
        since: Timestamp,
        until: Timestamp,
    ) -> BTreeMap<&'static str, (Money, Money)> {
        let name = |plan, account| if by_plan { plan } else { account };
        let mut rows: BTreeMap<&str, (Money, Money)> = BTreeMap::new();
        for paid in &self.paid {
            let row = rows.entry(name(paid.plan, paid.account)).or_default();
            row.0 += earned(paid, since, until);
        }
        for refund in &self.refunds {
            if since <= refund.at && refund.at < until {
                rows.get_mut(name(refund.plan, refund.account)).unwrap().0 -= refund.amount;
            }
        }
        for (account, plan, at, cost) in &self.used {
            if since <= *at && *at < until {
                rows.entry(name(plan, account)).or_default().1 += *cost;
            }
        }
        rows
    }
}

/// Billing period by billing period, from the first to the last: dollars times milliseconds over the period's length.
fn earned(paid: &Paid, since: Timestamp, until: Timestamp) -> Money {
    let (since, until) = (paid.from.max(since), paid.to.min(until));
    let mut start = Date::constant(2025, 1, paid.on);
    let mut sum = Money::ZERO;
    while midnight(start) < until {
        let next = start + Span::new().months(1);
        let (first, end) = (midnight(start), midnight(next));
        let covered = end.min(until).as_millisecond() - first.max(since).as_millisecond();
        let whole = end.as_millisecond() - first.as_millisecond();
        if covered > 0 {
            let picos = paid.dollars * 1_000_000_000_000 * i128::from(covered);
            sum += Money::from_picos(picos / i128::from(whole));
        }
        start = next;
    }
    sum
}

fn plan(id: &str, dollars: i64) -> Plan {
    Plan {
        id: id.into(),
        price: Money::from_usd(dollars),
        currency: "USD".into(),
        period: Period::Month,
        limits: Vec::new(),
        fixed_cost: Money::ZERO,
        payment_fee: PaymentFee::default(),
        overage: None,
        trial_days: 0,
    }
}

fn entry(account: &str, plan: &str, at: Timestamp, cost: Money) -> Entry {
    Entry {
        id: Default::default(),
        started_at: at,
        ended_at: at,
        lineage: Arc::new([AccountId::from(account)]),
        key: format!("{account}-key").as_str().into(),
        plan: plan.into(),
        endpoint: "chat.completions".into(),
        model: Some("gpt-4o".into()),
        served_model: Some("gpt-4o".into()),
        upstream: Some("sim".into()),
        service_tier: None,
        status: 200,
        outcome: Outcome::Completed,
        reason: None,
        streamed: false,
        usage: Usage {
            input_tokens: 1,
            ..Usage::default()
        },
        usage_source: UsageSource::Reported,
        cost: CostByClass {
            input: cost,
            ..CostByClass::default()
        },
        undiscounted: cost,
        priced_by: Vec::new(),
        first_token_ms: None,
        duration_ms: 1,
        retries: 0,
        end_user: None,
        tags: Vec::new(),
        corrects: None,
    }
}

/// What happened last month and in this one, written to the store as gateways would have.
fn shop(store: &SqliteStore, last: Timestamp, month: Timestamp, now: Timestamp) -> Shop {
    let dawn = midnight(Date::constant(2025, 1, 1));
    let ides = midnight(Date::constant(2025, 1, 15));
    let risen_last = between(last, month, 1, 3);
    let risen_now = between(month, now, 1, 2);
    let climbed = between(month, now, 1, 3);
    let gone = between(month, now, 3, 4);
    let change = |id: &'static str, at, change| AccountEvent {
        account: id.into(),
        at,
        change,
    };
    let has = |plan: &str, on| AccountChange::Plan {
        plan: plan.into(),
        since: Date::constant(2025, 1, on),
    };
    let refunds = vec![
        Refund {
            account: "returned",
            plan: "pro",
            amount: usd("33.33"),
            at: between(last, month, 9, 10),
        },
        Refund {
            account: "returned",
            plan: "pro",
            amount: usd("7.01"),
            at: between(month, now, 1, 10),
        },
    ];
    let mut events = vec![
        change("steady", dawn, has("plus", 1)),
        change("climber", ides, has("plus", 15)),
        change("climber", climbed, has("pro", 15)),
        change("returned", dawn, has("pro", 1)),
        // It is in no file any more.
        change("left", dawn, has("pro", 1)),
        change("left", gone, AccountChange::Closed),
    ];
    for refund in &refunds {
        events.push(change(
            refund.account,
            refund.at,
            AccountChange::Refund(refund.amount),
        ));
    }
    store.add_account_events(&events).unwrap();
    let terms = [
        (dawn, plan("pro", 150)),
        (dawn, plan("plus", 20)),
        (risen_last, plan("pro", 200)),
        (risen_now, plan("pro", 240)),
    ];
    store
        .add_plan_events(&terms.map(|(at, terms)| PlanEvent { at, terms }))
        .unwrap();

    let ever = Timestamp::MAX;
    let mut paid = Vec::new();
    let mut pays = |account, plan, dollars, on, from, to| {
        paid.push(Paid {
            account,
            plan,
            dollars,
            on,
            from,
            to,
        });
    };
    pays("steady", "plus", 20, 1, dawn, ever);
    pays("climber", "plus", 20, 15, ides, climbed);
    pays("climber", "pro", 200, 15, climbed, risen_now);
    pays("climber", "pro", 240, 15, risen_now, ever);
    for (account, end) in [("returned", ever), ("left", gone)] {
        pays(account, "pro", 150, 1, dawn, risen_last);
        pays(account, "pro", 200, 1, risen_last, risen_now);
        pays(account, "pro", 240, 1, risen_now, end);
    }

    let second = jiff::SignedDuration::from_secs(1);
    let used = vec![
        ("steady", "plus", month - second, usd("3.141592653589")),
        ("steady", "plus", month, usd("25.000000000001")),
        ("climber", "plus", between(last, month, 1, 2), usd("1.5")),
        ("climber", "plus", climbed - second, usd("0.75")),
        ("climber", "pro", climbed + second, usd("90.123456789012")),
        ("returned", "pro", between(last, month, 1, 7), usd("400")),
        ("returned", "pro", between(month, now, 1, 9), usd("12.34")),
        ("left", "pro", month - second, usd("0.000000000001")),
    ];
    let entries: Vec<Entry> = used
        .iter()
        .map(|(account, plan, at, cost)| entry(account, plan, *at, *cost))
        .collect();
    store.append(&entries).unwrap();
    store.make_durable().unwrap();
    Shop {
        paid,
        refunds,
        used,
    }
}

/// Each row's revenue, cost and margin are what they should be, to less than a millionth of a cent.
fn check(report: &Value, expected: &BTreeMap<&str, (Money, Money)>, face: &str) {
    let rows = report["rows"].as_array().unwrap();
    let money = |value: &Value| Money::parse(value.as_str().unwrap()).unwrap();
    let near = |a: Money, b: Money| (a - b).picos().abs() < 1_000;
    for (id, (revenue, cost)) in expected {
        let row = rows.iter().find(|row| row["id"] == *id);
        let row = row.unwrap_or_else(|| panic!("{face}: no row {id} in {report}"));
        assert!(
            near(money(&row["revenue_usd"]), *revenue),
            "{face} {id}: {revenue} in {row}"
        );
        assert_eq!(money(&row["cost_usd"]), *cost, "{face} {id}");
        let margin = *revenue - *cost;
        assert!(
            near(money(&row["margin_usd"]), margin),
            "{face} {id}: {margin} in {row}"
        );
    }
    assert_eq!(rows.len(), expected.len(), "{face}");
    let revenue: Money = expected.values().map(|(revenue, _)| *revenue).sum();
    assert!(
        near(money(&report["total"]["revenue_usd"]), revenue),
        "{face}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_the_audit_log_with_who_made_it_whichever_way_it_came() {
    let upstream = Upstream::start(|_| Reply::json(200, "{}")).await;
    let gateway = Gateway::start(&config(&upstream, MORE)).await;
    let account = "steady";
    gateway.run(&["key", "create", "--account", account, "--id", "by-hand"]);
    let api = Client::new(gateway.admin, "admin-token");
    let wanted = format!(r#"{{"account":"{account}","id":"by-api"}}"#);
    let made = api.post("/api/v1/keys", wanted).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let read_again = api.post("/api/v1/reload", "").await;
    assert_eq!(read_again.status, 200, "{}", read_again.text());
    let page = gateway.admin_page("/api/v1/audit").await;
    let lines: Vec<(&str, &str, bool)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let actor = line["actor"].as_str().unwrap();
            let by_hand = actor.len() > 4 && actor.starts_with("cli ");
            assert!(by_hand || actor == "admin api 127.0.0.1", "{line}");
            (
                line["action"].as_str().unwrap(),
                line["subject"].as_str().unwrap(),
                by_hand,
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            ("reload", "configuration", false),
            ("key.create", "by-api", false),
            ("key.create", "by-hand", true),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_admin_api_and_metrics_show_the_figures_of_an_independent_sum() {
    let upstream = Upstream::start(|_| Reply::json(200, "{}")).await;
    let mut gateway = Gateway::prepare(&[], &config(&upstream, MORE));
    let now = Timestamp::now();
    let first = Offset::UTC.to_datetime(now).date().first_of_month();
    let (month, last) = (midnight(first), midnight(first - Span::new().months(1)));
    let store = SqliteStore::open(&gateway.directory().join("weir.db")).unwrap();
    store.migrate().unwrap();
    let shop = shop(&store, last, month, now);
    drop(store);
    gateway.restart().await;

    let api = Client::new(gateway.admin, "admin-token");
    for (by_plan, by) in [(true, "plan"), (false, "account")] {
        // Last month, to its last millisecond; both months together; and this one up to now.
        for (since, until) in [
            (last, month),
            (last, now),
            (between(last, month, 2, 5), now),
        ] {
            let expected = shop.figures(by_plan, since, until);
            let (since, until) = (since.to_string(), until.to_string());
            let told = gateway.run(&[
                "margin", "--by", by, "--since", &since, "--until", &until, "--format", "json",
            ]);
            check(
                &serde_json::from_str(&told).unwrap(),
                &expected,
                "weir margin",
            );
            let path = format!("/api/v1/margin?by={by}&since={since}&until={until}");
            let answer = api.get(&path).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            check(&answer.json(), &expected, "the admin API");
        }
        let running: Value =
            serde_json::from_str(&gateway.run(&["margin", "--by", by, "--format", "json"]))
                .unwrap();
        let until: Timestamp = running["until"].as_str().unwrap().parse().unwrap();
        assert_eq!(running["since"], month.to_string());
        let expected = shop.figures(by_plan, month, until);
        check(&running, &expected, "weir margin of the running month");
    }

    // Metrics are of the running month up to a moment ago: a few hundredths of a cent.
    let mut page = String::new();
    for _ in 0..100 {
        page = api.get("/metrics").await.text();
        if page.contains("\nweir_plan_revenue_usd{") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let gauge = |labels: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(labels));
        let line = line.unwrap_or_else(|| panic!("no {labels} in\n{page}"));
        line.trim().parse().unwrap()
    };
    let plans = shop.figures(true, month, Timestamp::now());
    for (plan, (revenue, cost)) in plans {
        for (name, expected) in [
            ("revenue", revenue),
            ("cost", cost),
            ("margin", revenue - cost),
        ] {
            let shown = gauge(&format!("weir_plan_{name}_usd{{plan=\"{plan}\"}}"));
            let expected = expected.to_f64();
            assert!(
                (shown - expected).abs() < 0.01,
                "{name} {plan}: {shown}, not {expected}"
            );
        }
    }
    let accounts = shop.figures(false, month, Timestamp::now());
    for (account, (revenue, cost)) in accounts {
        let on = if account == "steady" { "plus" } else { "pro" };
        let labels = format!("weir_account_margin_usd{{account=\"{account}\",plan=\"{on}\"}}");
        let (shown, expected) = (gauge(&labels), (revenue - cost).to_f64());
        assert!(
            (shown - expected).abs() < 0.01,
            "{account}: {shown}, not {expected}"
        );
    }
}
