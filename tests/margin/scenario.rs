//! A seeded world of three months, reported over many ranges, against figures that this file computes another way:
//! cost entry by entry, revenue minute by minute as exact fractions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::{Span, Timestamp};
use weir::ledger::store::{AccountChange, AccountEvent, PlanEvent, TimeRange};
use weir::ledger::{Entry, Outcome};
use weir::margin::{Books, By, PlanHistory, Report};
use weir::money::Money;
use weir::plan::{Account, Period, Plan};
use weir::tokens::Usage;

use crate::ledger::Ledger;
use crate::world::*;

struct World {
    /// As they stand at the end.
    plans: Vec<Plan>,
    /// The terms that they had from when on.
    terms: Vec<PlanEvent>,
    accounts: Vec<Account>,
    events: Vec<AccountEvent>,
    store: Ledger,
}

fn world(seed: u64) -> World {
    let mut random = fastrand::Rng::with_seed(seed);
    let prices = prices();
    let mut weekly = plan("weekly", "6.99");
    weekly.period = Period::Week;
    let plans = vec![
        plan("team", "0"),
        plan("plus", "20.00"),
        plan("pro", "200.00"),
        weekly,
    ];
    // One plan's price rises in the middle of periods, and falls again; another's falls.
    let terms = [
        ("2024-08-01T00:00:00Z", &plans[2], "180.00"),
        ("2024-08-01T00:00:00Z", &plans[3], "7.77"),
        ("2024-09-17T13:37:21Z", &plans[2], "230.00"),
        ("2024-10-05T00:00:00Z", &plans[3], "6.99"),
        ("2024-10-29T08:00:00.5Z", &plans[2], "200.00"),
    ]
    .map(|(moment, plan, price)| PlanEvent {
        at: at(moment),
        terms: Plan {
            price: usd(price),
            ..plan.terms()
        },
    });
    let ids = ["team", "plus", "pro", "weekly"];
    let first: Date = day("2024-08-03");
    let mut accounts = Vec::new();
    let mut events = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    for number in 0..30 {
        let id = format!("account-{number:02}");
        let since = first + Span::new().days(random.i64(0..80));
        let mut plan_id = *random.choice(&ids).unwrap();
        events.push(event(
            &id,
            &since.to_string(),
            on_plan(plan_id, &since.to_string()),
        ));
        let mut turns = vec![(since, 0, plan_id)];
        if number % 3 == 0 {
            let changed = since + Span::new().days(random.i64(5..60));
            let minute = random.i64(0..1440);
            plan_id = *random.choice(&ids).unwrap();
            let moment =
                changed.to_string() + &format!("T{:02}:{:02}:00Z", minute / 60, minute % 60);
            let anchor = if random.bool() { since } else { changed };
            events.push(event(&id, &moment, on_plan(plan_id, &anchor.to_string())));
            turns.push((changed, minute, plan_id));
        }
        if number % 7 == 0 {
            let refunded = since + Span::new().days(random.i64(3..70));
            let change = AccountChange::Refund(usd("12.34"));
            events.push(event(&id, &format!("{refunded}T17:45:00Z"), change));
        }
        if number % 5 == 4 {
            let closed = since + Span::new().days(random.i64(40..90));
            events.push(event(
                &id,
                &format!("{closed}T06:30:00Z"),
                AccountChange::Closed,
            ));
        }
        let mut account = account(&id, plan_id, &since.to_string());
        account.tags = vec![("cohort".into(), format!("{}", number % 2).into())];
        accounts.push(account);
        for _ in 0..random.usize(0..120) {
            let minute = random.i64(0..100 * 1440);
            let moment = at("2024-08-03T00:00:00Z") + jiff::SignedDuration::from_mins(minute);
            let model = *random
                .choice(&[
                    "gpt-4o",
                    "gpt-4o",
                    "gpt-3.5-turbo",
                    "gpt-4-32k-0314",
                    "mystery",
                ])
                .unwrap();
            let input = random.u64(0..200_000);
            let usage = Usage {
                input_tokens: input,
                cache_read_input_tokens: random.u64(0..=input),
                output_tokens: random.u64(0..9_000),
                ..Usage::default()
            };
            let then = turns
                .iter()
                .rev()
                .find(|(day, minute, _)| {
                    moment >= at(&day.to_string()) + jiff::SignedDuration::from_mins(*minute)
                })
                .unwrap_or(&turns[0])
                .2;
            let mut entry = entry(&prices, &id, then, model, moment, usage);
            entry.outcome = *random.choice(&Outcome::ALL).unwrap();
            entry.upstream = Some((*random.choice(&["openai", "azure"]).unwrap()).into());
            if random.bool() {
                entry.tags = vec![("feature".into(), format!("{}", random.u8(0..3)).into())];
            }
            entries.push(entry);
        }
    }
    World {
        plans,
        terms: terms.into(),
        accounts,
        store: Ledger::new(entries, &events),
        events,
    }
}

/// The start of the billing period of a moment, by walking from the anchor a period at a time.
fn period(anchor: Date, period: Period, at: Timestamp) -> (Timestamp, Timestamp) {
    let start = |index: i64| {
        let span = match period {
            Period::Day => Span::new().days(index),
            Period::Week => Span::new().weeks(index),
            Period::Month => Span::new().months(index),
            Period::Year => Span::new().years(index),
        };
        crate::world::at(&(anchor + span).to_string())
    };
    let mut index = 0;
    while start(index + 1) <= at {
        index += 1;
    }
    (start(index), start(index + 1))
}

/// Revenue by account and plan, minute by minute; fractions are added up before they are divided.
fn revenue(world: &World, range: TimeRange) -> BTreeMap<(String, String), Money> {
    let mut sums = BTreeMap::new();
    for account in &world.accounts {
        let events: Vec<&AccountEvent> = world
            .events
            .iter()
            .filter(|event| event.account == account.id)
            .collect();
        let mut shares: BTreeMap<(String, i64, i128), i128> = BTreeMap::new();
        let mut now = range.since;
        let (mut known, mut current) = (None, None);
        while now < range.until {
            let in_force = events.iter().rposition(|event| {
                event.at <= now && !matches!(event.change, AccountChange::Refund(_))
            });
            if in_force != known {
                known = in_force;
                current = in_force.and_then(|position| match &events[position].change {
                    AccountChange::Plan { plan, since } => Some((plan.clone(), *since)),
                    _ => None,
                });
            }
            if let Some((id, anchor)) = &current {
                let plan = world.plans.iter().find(|plan| plan.id == *id).unwrap();
                let price = world
                    .terms
                    .iter()
                    .rfind(|event| event.terms.id == *id && event.at <= now)
                    .map_or(plan.price, |event| event.terms.price);
                let (start, end) = period(*anchor, plan.period, now);
                let length = i128::from(end.as_millisecond() - start.as_millisecond());
                // On to the end of the hour, the period or the range, or to the next event.
                let next = events
                    .iter()
                    .map(|event| event.at)
                    .chain(world.terms.iter().map(|event| event.at))
                    .filter(|at| *at > now)
                    .chain([end, range.until])
                    .min()
                    .unwrap();
                let minute = now + jiff::SignedDuration::from_mins(60);
                let stop = next.min(minute);
                let covered = stop.as_millisecond() - now.as_millisecond();
                *shares
                    .entry((id.to_string(), start.as_millisecond(), length))
                    .or_default() += i128::from(covered) * price.picos();
                now = stop;
            } else {
                now += jiff::SignedDuration::from_mins(1);
            }
        }
        for ((plan, _, length), numerator) in shares {
            let sum: &mut Money = sums
                .entry((account.id.to_string(), plan))
                .or_insert(Money::ZERO);
            *sum += Money::from_picos((2 * numerator + length) / (2 * length));
        }
        for event in &events {
            if let AccountChange::Refund(amount) = &event.change
                && (range.since..range.until).contains(&event.at)
            {
                let plan = events
                    .iter()
                    .rev()
                    .filter(|other| other.at <= event.at)
                    .find_map(|other| match &other.change {
                        AccountChange::Plan { plan, .. } => Some(plan.to_string()),
                        _ => None,
                    })
                    .unwrap();
                *sums
                    .entry((account.id.to_string(), plan))
                    .or_insert(Money::ZERO) -= *amount;
            }
        }
    }
    sums
}

/// Cost and requests of the entries in the range that a row is about.
fn spent(
    world: &World,
    range: TimeRange,
    rows_of: impl Fn(&Entry) -> Vec<String>,
) -> BTreeMap<String, (Money, u64, u64, u64)> {
    let mut sums: BTreeMap<String, (Money, u64, u64, u64)> = BTreeMap::new();
    for entry in &world.store.entries {
        if !(range.since..range.until).contains(&entry.started_at) {
            continue;
        }
        // Dollars per million tokens, by hand.
        let per_million = match entry.served_model.as_ref().unwrap().as_str() {
            "gpt-4o" if entry.started_at < at("2024-10-02") => {
                Some((5_000_000, 5_000_000, 15_000_000))
            }
            "gpt-4o" => Some((2_500_000, 1_250_000, 10_000_000)),
            "gpt-3.5-turbo" => Some((500_000, 500_000, 1_500_000)),
            "gpt-4-32k-0314" => Some((60_000_000, 60_000_000, 120_000_000)),
            _ => None,
        };
        let usage = &entry.usage;
        let cached = usage.cache_read_input_tokens;
        let picos = per_million.map_or(0, |(input, cache, output)| {
            (usage.input_tokens - cached) * input + cached * cache + usage.output_tokens * output
        });
        for row in rows_of(entry) {
            let sum = sums.entry(row).or_default();
            sum.0 += Money::from_picos(picos.into());
            sum.1 += 1;
            sum.2 += u64::from(per_million.is_none());
            sum.3 += usage.input_tokens + usage.output_tokens;
        }
    }
    sums
}

const RANGES: [(&str, &str); 5] = [
    ("2024-09-01T00:00:00Z", "2024-10-01T00:00:00Z"),
    ("2024-10-01T00:00:00Z", "2024-11-01T00:00:00Z"),
    ("2024-09-17T13:37:00Z", "2024-10-05T02:03:00Z"),
    ("2024-10-01T22:15:00Z", "2024-10-02T01:00:00Z"),
    ("2024-08-01T00:00:00Z", "2024-11-20T00:00:00Z"),
];
const NOW: &str = "2024-12-01T00:00:00Z";

fn check_costs(report: &Report, expected: &BTreeMap<String, (Money, u64, u64, u64)>) {
    for (id, (cost, requests, unpriced, tokens)) in expected {
        let row = row(report, id);
        assert_eq!(row.cost_usd, *cost, "{id}");
        assert_eq!(row.requests, *requests, "{id}");
        assert_eq!(row.unpriced_requests, *unpriced, "{id}");
        assert_eq!(row.usage.total_tokens(), *tokens, "{id}");
        assert_eq!(row.margin_usd, row.revenue_usd - row.cost_usd, "{id}");
    }
    let known: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    for row in &report.rows {
        assert!(
            known.contains(row.id.as_str()) || (row.cost_usd, row.requests) == (Money::ZERO, 0),
            "{row:?}"
        );
    }
}

fn assert_near(actual: Money, expected: Money, what: &str) {
    // Each piece of a period is rounded to the pico-dollar: far below a cent, but not below one pico-dollar.
    assert!(
        (actual - expected).picos().abs() <= 100,
        "{what}: {actual} is not {expected}"
    );
}

#[test]
fn every_figure_agrees_with_the_same_figure_computed_another_way() {
    for seed in [1, 2] {
        let world = world(seed);
        let books = Books::new(
            PlanHistory::of(world.plans.clone(), world.terms.iter().cloned().collect()),
            world.accounts.clone(),
            &world.events,
            &[],
        )
        .unwrap();
        for (since, until) in RANGES {
            let range = range(since, until);
            let of = |by| report(&world.store, &books, by, range, NOW);
            let plans = of(By::Plan);
            check_costs(
                &plans,
                &spent(&world, range, |entry| vec![entry.plan.to_string()]),
            );
            let accounts = of(By::Account);
            let both = weir::margin::plans_and_accounts(&*world.store, &books, range, at(NOW));
            assert_eq!(both.unwrap(), (plans.clone(), accounts.clone()));
            let account = |entry: &Entry| vec![entry.account().unwrap().to_string()];
            let costs = spent(&world, range, account);
            check_costs(&accounts, &costs);
            check_costs(
                &of(By::Model),
                &spent(&world, range, |entry| {
                    vec![entry.model.clone().unwrap().to_string()]
                }),
            );
            check_costs(
                &of(By::Key),
                &spent(&world, range, |entry| vec![entry.key.to_string()]),
            );
            check_costs(
                &of(By::Upstream),
                &spent(&world, range, |entry| {
                    vec![entry.upstream.clone().unwrap().to_string()]
                }),
            );
            let days = of(By::Day);
            check_costs(
                &days,
                &spent(&world, range, |entry| {
                    vec![entry.started_at.to_string()[..10].to_owned()]
                }),
            );
            let tags = of(By::Tag);
            let cohort = |entry: &Entry| {
                let account = entry.account().unwrap().as_str();
                let number: u32 = account[8..].parse().unwrap();
                let mut rows = vec![format!("cohort={}", number % 2)];
                rows.extend(
                    entry
                        .tags
                        .iter()
                        .map(|(name, value)| format!("{name}={value}")),
                );
                rows
            };
            check_costs(&tags, &spent(&world, range, cohort));

            let earned = revenue(&world, range);
            let mut by_account: BTreeMap<&str, Money> = BTreeMap::new();
            let mut by_plan: BTreeMap<&str, Money> = BTreeMap::new();
            for ((account, plan), money) in &earned {
                *by_account.entry(account).or_default() += *money;
                *by_plan.entry(plan).or_default() += *money;
            }
            for (id, money) in &by_plan {
                assert_near(row(&plans, id).revenue_usd, *money, id);
            }
            let mut losing = 0;
            for (id, money) in &by_account {
                assert_near(row(&accounts, id).revenue_usd, *money, id);
            }
            for row in &accounts.rows {
                let cost = costs.get(&row.id).map_or(Money::ZERO, |sum| sum.0);
                let money = by_account.get(row.id.as_str()).copied().unwrap_or_default();
                losing += u64::from(money < cost);
            }
            assert_eq!(plans.total.loss_making_accounts, losing);
            // All ways to cut it give the same whole.
            for other in [&accounts, &days, &tags, &of(By::Model), &of(By::Upstream)] {
                assert_eq!(other.total, plans.total, "{:?}", other.by);
            }
            // And where rows do not overlap, the rows add up to it.
            for other in [
                &plans,
                &accounts,
                &days,
                &of(By::Model),
                &of(By::Key),
                &of(By::Upstream),
            ] {
                let rest = other
                    .unallocated
                    .as_ref()
                    .map_or(Money::ZERO, |rest| rest.revenue_usd);
                let revenue: Money = other.rows.iter().map(|row| row.revenue_usd).sum();
                assert_eq!(revenue + rest, plans.total.revenue_usd, "{:?}", other.by);
                let cost: Money = other.rows.iter().map(|row| row.cost_usd).sum();
                assert_eq!(cost, plans.total.cost_usd, "{:?}", other.by);
            }
            let unpriced: u64 = plans
                .unpriced
                .iter()
                .map(|unpriced| unpriced.requests)
                .sum();
            assert_eq!(unpriced, plans.total.unpriced_requests);
        }
    }
}

#[test]
fn the_json_has_the_members_that_users_depend_on() {
    let world = world(3);
    let books = Books::new(world.plans, world.accounts, &world.events, &[]).unwrap();
    let range = range("2024-10-01", "2024-10-20");
    let report = report(&world.store, &books, By::Plan, range, "2024-10-20");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["since"], "2024-10-01T00:00:00Z");
    assert_eq!(json["until"], "2024-10-20T00:00:00Z");
    assert_eq!(json["by"], "plan");
    let rows = json["rows"].as_array().unwrap();
    for row in rows.iter().chain([&json["total"]]) {
        assert!(row["id"].is_string());
        for count in [
            "accounts",
            "loss_making_accounts",
            "requests",
            "unpriced_requests",
        ] {
            assert!(row[count].is_u64(), "{count}");
        }
        assert!(row["usage"]["input_tokens"].is_u64());
        for money in ["revenue_usd", "cost_usd", "margin_usd"] {
            Money::parse(row[money].as_str().unwrap()).unwrap();
        }
        assert!(row["margin_ratio"].is_string() || row["margin_ratio"].is_null());
        for member in ["tokens", "requests", "date"] {
            assert!(row["break_even"].get(member).is_some(), "{member}");
        }
        assert_eq!(row["projected"]["until"], "2024-11-01T00:00:00Z");
        for money in ["cost_usd", "margin_usd", "low_usd", "high_usd"] {
            Money::parse(row["projected"][money].as_str().unwrap()).unwrap();
        }
        assert!(row["projected"]["method"].is_string());
    }
    let csv = weir::margin::csv(&report);
    assert_eq!(csv.lines().count(), report.rows.len() + 2);
    let table = weir::margin::table(&report);
    assert!(
        table.contains("UNPRICED: ") && table.contains("mystery ("),
        "{table}"
    );
    println!("{table}");
}
