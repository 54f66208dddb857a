//! The gauges of `/metrics` that are no sums of traffic: margins by plan, the worst accounts, the fullest limits, the
//! ledger's backlog.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::gateway::Gateway;
use crate::ids::PlanId;
use crate::margin::{self, Books, MarginError, Row};
use crate::metrics::{Family, Sample};
use crate::money::Money;
use crate::quota::Owner;
use crate::quota::chain::Rule;
use crate::snapshot::Snapshot;

/// Gauges that cost nothing to read at the moment of a scrape.
pub fn live(gateway: &Gateway) -> Vec<Family> {
    vec![
        Family::gauge(
            "weir_ledger_queue",
            "Closed entries that are not in the store yet",
            vec![Sample::plain(gateway.ledger.queue_len() as f64)],
        ),
        Family::gauge(
            "weir_ledger_spooled_entries",
            "Of these, the ones that wait in the journal because the store is away",
            vec![Sample::plain(gateway.ledger.spooled_entries() as f64)],
        ),
        Family::gauge(
            "weir_quota_up",
            "Whether the counters of limits can be reached",
            vec![Sample::plain(f64::from(u8::from(gateway.quota.is_up())))],
        ),
        Family::gauge(
            "weir_tasks",
            "Tasks alive in the runtime: connections, answers that are read on, background work",
            tasks().into_iter().map(Sample::plain).collect(),
        ),
    ]
}

/// How many tasks the runtime has that serves the page. What the gateway spawned and nobody waits for is among them.
fn tasks() -> Option<f64> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(runtime.metrics().num_alive_tasks() as f64)
}

/// Gauges that are computed from the ledger and the counters. Blocks.
///
/// # Errors
/// When the ledger cannot be read, or a plan's price has no exchange rate.
pub fn compute(gateway: &Gateway) -> Result<Vec<Family>, MarginError> {
    let snapshot = gateway.snapshot();
    let now = Timestamp::now();
    let range = margin::range(None, None, now)?;
    let store = gateway.store.as_ref();
    let books = Books::read(&snapshot.config, store)?;
    let (plans, accounts) = margin::plans_and_accounts(store, &books, range, now)?;
    let worst_max = snapshot.config.metrics.worst_accounts;
    let (plans, mut accounts) = (plans.rows, accounts.rows);
    accounts.sort_by_key(|row| worst_first(row.revenue_usd, row.margin_usd));
    accounts.truncate(worst_max);
    let limits = fullest(gateway, &snapshot, worst_max, now);
    Ok(families(
        &plan_accounts(&snapshot),
        &plans,
        &accounts,
        limits,
    ))
}

/// The same families without figures: what is shown until they have been computed for the first time.
pub fn unknown() -> Vec<Family> {
    families(&BTreeMap::new(), &[], &[], Vec::new())
}

/// The order in which accounts are worth a series: first those that pay and cost more than that, which somebody can act on;
/// then all others. Internal teams and free accounts are in loss by design, and there may be thousands of them.
fn worst_first(revenue: Money, margin: Money) -> (bool, Money) {
    let pays_too_little = revenue > Money::ZERO && margin < Money::ZERO;
    (!pays_too_little, margin)
}

fn plan_accounts(snapshot: &Snapshot) -> BTreeMap<PlanId, u64> {
    let mut counts: BTreeMap<PlanId, u64> = snapshot
        .directory
        .plans()
        .map(|plan| (plan.id.clone(), 0))
        .collect();
    let today = jiff::tz::Offset::UTC.to_datetime(Timestamp::now()).date();
    let open = snapshot.directory.members().map(|member| &member.account);
    for account in open.filter(|account| account.until.is_none_or(|until| until > today)) {
        *counts.entry(account.plan.clone()).or_default() += 1;
    }
    counts
}

/// What of each limit is used, in shares of its maximum, for the `count` limits of each measure that are nearest to it.
fn fullest(gateway: &Gateway, snapshot: &Snapshot, count: usize, now: Timestamp) -> Vec<Sample> {
    let mut ratios: HashMap<(String, &'static str, String), f64> = HashMap::new();
    let keys: HashMap<_, _> = snapshot
        .directory
        .keys()
        .map(|key| (&key.id, &key.account))
        .collect();
    for (rule, state) in gateway.quota.fullest(count, now) {
        let account = match rule.counter.owner() {
            Owner::Account(account) => account.to_string(),
            Owner::Key(key) => keys.get(key).map(ToString::to_string).unwrap_or_default(),
        };
        let ratio = ratio(&rule, state.used.max(0));
        let labels = (account, rule.counter.on().as_str(), per(&rule));
        // Limits that differ in models or keys alone share their labels: the fullest speaks.
        let shown = ratios.entry(labels).or_default();
        *shown = shown.max(ratio);
    }
    let samples = ratios.iter().map(|((account, on, per), ratio)| {
        Sample::labelled(&[("account", account), ("on", on), ("per", per)], *ratio)
    });
    samples.collect()
}

fn ratio(rule: &Rule, used: i128) -> f64 {
    used as f64 / rule.max.units().max(1) as f64
}

fn per(rule: &Rule) -> String {
    rule.counter
        .per()
        .map_or_else(|| "none".to_owned(), |per| per.to_string())
}

fn families(
    plan_accounts: &BTreeMap<PlanId, u64>,
    plans: &[Row],
    worst: &[Row],
    limits: Vec<Sample>,
) -> Vec<Family> {
    let by_plan = |name: &str, help: &str, pick: fn(&Row) -> f64| {
        let samples = plans
            .iter()
            .map(|row| Sample::labelled(&[("plan", &row.id)], pick(row)));
        Family::gauge(name, help, samples.collect())
    };
    vec![
        Family::gauge(
            "weir_plan_accounts",
            "Accounts that have the plan now",
            plan_accounts
                .iter()
                .map(|(plan, count)| Sample::labelled(&[("plan", plan.as_str())], *count as f64))
                .collect(),
        ),
        by_plan(
            "weir_plan_revenue_usd",
            "Revenue of the current calendar month so far, in US dollars",
            |row| row.revenue_usd.to_f64(),
        ),
        by_plan(
            "weir_plan_cost_usd",
            "All costs of the current calendar month so far, in US dollars",
            |row| row.cost_usd.to_f64(),
        ),
        by_plan(
            "weir_plan_margin_usd",
            "Revenue less cost of the current calendar month so far, in US dollars",
            |row| row.margin_usd.to_f64(),
        ),
        by_plan(
            "weir_plan_projected_margin_usd",
            "Revenue less cost at the end of the current calendar month, in US dollars, if things go on as they do",
            |row| row.projected.margin_usd.to_f64(),
        ),
        by_plan(
            "weir_plan_loss_making_accounts",
            "Accounts of the plan that have cost more than they brought in the current calendar month",
            |row| row.loss_making_accounts as f64,
        ),
        Family::gauge(
            "weir_account_margin_usd",
            "Revenue less cost of the current calendar month so far, in US dollars, of the worst accounts: those that pay and are in loss first",
            worst
                .iter()
                .map(|row| {
                    let plan = row.plan.as_deref().unwrap_or_default();
                    let labels = [("account", row.id.as_str()), ("plan", plan)];
                    Sample::labelled(&labels, row.margin_usd.to_f64())
                })
                .collect(),
        ),
        Family::gauge(
            "weir_limit_used_ratio",
            "Settled use as a share of the limit's maximum, of the limits nearest to it by what they are on",
            limits,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paying_account_in_loss_comes_before_any_number_of_free_ones() {
        let mut accounts = [
            ("team", 0, -900),
            ("free", 0, -5),
            ("in profit", 20, 15),
            ("in loss", 20, -2),
            ("deeper in loss", 20, -3),
        ];
        accounts.sort_by_key(|(_, revenue, margin)| {
            worst_first(Money::from_usd(*revenue), Money::from_usd(*margin))
        });
        let names: Vec<_> = accounts.iter().map(|(name, ..)| *name).collect();
        let expected = ["deeper in loss", "in loss", "team", "free", "in profit"];
        assert_eq!(names, expected);
    }

    #[test]
    fn every_family_is_there_before_the_first_figures() {
        let names: Vec<String> = unknown().into_iter().map(|family| family.name).collect();
        assert_eq!(names.len(), 8);
        assert!(names.iter().all(|name| name.starts_with("weir_")));
    }
}
