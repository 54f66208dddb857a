//! What the demo's past must show.

use super::*;
use crate::config;
use crate::demo::config::OWN_PLANS;
use crate::ids::AccountId;
use crate::ledger::Outcome;
use crate::money::Money;
use crate::tokens::UsageSource;
use jiff::civil::date;

fn past(now: &str, days: u32) -> Past {
    let now: Timestamp = now.parse().unwrap();
    Past {
        seed: 3,
        today: date(2026, 11, 24),
        days,
        now,
    }
}

fn days(past: Past, range: std::ops::Range<u32>) -> Vec<Entry> {
    days_with(&crate::demo::config::of_plans(OWN_PLANS), past, range)
}

fn days_with(config: &Config, past: Past, range: std::ops::Range<u32>) -> Vec<Entry> {
    let world = World::new(past.seed, past.today, past.days).unwrap();
    let mut made = Days::new(&world, config, past);
    range.rev().flat_map(|ago| made.day(ago)).collect()
}

#[test]
fn a_limit_that_a_plan_is_given_holds_in_the_past() {
    let past = past("2026-11-24T12:00:00Z", 31);
    let costs = |entries: &[Entry]| {
        let mut costs: HashMap<AccountId, Money> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.plan.as_str() == "pro") {
            let account = entry.account().unwrap().clone();
            *costs.entry(account).or_default() += entry.cost_usd();
        }
        costs
    };
    let limited = OWN_PLANS.replacen(
        "on = \"concurrent\"",
        "on = \"cost\"\nmax = \"90.00\"\nper = \"month\"\n[[plans.limits]]\non = \"concurrent\"",
        1,
    );
    let free = days(past, 0..24);
    let held = days_with(&crate::demo::config::of_plans(&limited), past, 0..24);
    let most = |entries: &[Entry]| costs(entries).into_values().max().unwrap();
    assert!(most(&free) > Money::from_usd(900));
    assert!(most(&held) <= Money::from_usd(90));
    assert!(
        held.iter()
            .any(|entry| entry.reason.as_deref() == Some("cost/month"))
    );
    // Whoever stays below it does what they did.
    let (free, held) = (costs(&free), costs(&held));
    let below = free.iter().filter(|(_, cost)| **cost < Money::from_usd(90));
    assert!(below.clone().count() > 30);
    for (account, cost) in below {
        assert_eq!(held.get(account), Some(cost), "{account}");
    }
}

#[test]
fn a_seed_and_a_day_always_give_the_same_entries_and_a_later_moment_only_more_of_them() {
    let noon = days(past("2026-11-24T12:00:00Z", 3), 0..3);
    assert_eq!(noon, days(past("2026-11-24T12:00:00Z", 3), 0..3));
    let evening = days(past("2026-11-24T20:00:00Z", 3), 0..3);
    assert!(noon.len() < evening.len());
    let ids: std::collections::HashSet<_> = evening.iter().map(|entry| entry.id).collect();
    assert_eq!(ids.len(), evening.len());
    assert!(noon.iter().all(|entry| ids.contains(&entry.id)));
}

#[test]
fn every_entry_that_used_something_has_its_exact_price_or_is_the_house_models() {
    let config = config::parse(b"", "demo", &config::FixedEnvironment::default()).unwrap();
    for entry in days(past("2026-11-24T12:00:00Z", 3), 0..3) {
        if entry.usage_source == UsageSource::None {
            assert_eq!(entry.cost_usd(), Money::ZERO);
            continue;
        }
        let served = entry.served_model.as_ref().unwrap().as_str();
        if entry.is_unpriced() {
            assert_eq!(served, "house-llama");
            continue;
        }
        let (_, row) = config.prices.price(served, entry.started_at).unwrap();
        let cost = row
            .cost(&entry.usage, entry.service_tier.as_deref())
            .unwrap();
        assert_eq!(entry.cost, cost.by_class);
    }
}

#[test]
fn the_job_burns_the_teams_budget_to_its_limit_and_what_follows_is_refused() {
    let entries = days(past("2026-11-24T12:00:00Z", 30), 0..30);
    let of_team = |entry: &&Entry| entry.account().unwrap().as_str() == "team-search";
    let spent: Money = entries.iter().filter(of_team).map(Entry::cost_usd).sum();
    let budget = Money::from_usd(6000);
    assert!(spent <= budget && spent > Money::from_usd(5990), "{spent}");
    let last = entries.iter().rfind(of_team).unwrap();
    assert_eq!(last.outcome, Outcome::Rejected);
    assert_eq!(last.reason.as_deref(), Some("cost/90d"));
}

#[test]
fn everything_that_can_happen_to_a_request_happened() {
    let entries = days(past("2026-11-24T12:00:00Z", 20), 0..20);
    for outcome in [
        Outcome::Completed,
        Outcome::ClientClosed,
        Outcome::UpstreamFailed,
        Outcome::Rejected,
    ] {
        assert!(
            entries.iter().any(|entry| entry.outcome == outcome),
            "{outcome:?}"
        );
    }
    assert!(entries.iter().any(Entry::is_unpriced));
    assert!(
        entries
            .iter()
            .any(|entry| entry.usage.reasoning_output_tokens > 0)
    );
    assert!(
        entries
            .iter()
            .any(|entry| entry.usage.cache_read_input_tokens > 0)
    );
    for reason in ["cost/90d", "requests/day", "model_not_found"] {
        let reached = entries
            .iter()
            .any(|entry| entry.reason.as_deref() == Some(reason));
        assert!(reached, "{reason}");
    }
}

#[test]
fn pro_is_in_loss_for_every_seed_and_five_in_a_hundred_cause_it() {
    for seed in 1..4 {
        let past = Past {
            seed,
            ..past("2026-11-24T12:00:00Z", 31)
        };
        let mut costs: HashMap<AccountId, Money> = HashMap::new();
        for entry in days(past, 1..31) {
            if entry.plan.as_str() == "pro" {
                let account = entry.account().unwrap().clone();
                *costs.entry(account).or_default() += entry.cost_usd();
            }
        }
        let mut costs: Vec<Money> = costs.into_values().collect();
        costs.sort_unstable_by(|a, b| b.cmp(a));
        let total: Money = costs.iter().copied().sum();
        let revenue = Money::from_usd(60 * 200);
        assert!(
            total > revenue.mul_ratio(110, 100).unwrap(),
            "{seed}: {total}"
        );
        let heaviest: Money = costs.iter().take(3).copied().sum();
        assert!(
            heaviest > total.mul_ratio(60, 100).unwrap(),
            "{seed}: {heaviest} of {total}"
        );
        let others = total - heaviest;
        assert!(
            others < revenue.mul_ratio(50, 100).unwrap(),
            "{seed}: {others}"
        );
    }
}
