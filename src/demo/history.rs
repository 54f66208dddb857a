//! The past: three months of requests as the gateway would have booked them, written to the store day by day.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};

use super::allowance::Allowance;
use super::chance::Chance;
use super::habits::{Habit, Hours};
use super::tasks::{Api, Task};
use super::world::{Subscriber, World, midnight};
use crate::config::Config;
use crate::ids::{PlanId, RequestId};
use crate::ledger::store::{Store, StoreError};
use crate::ledger::{Entry, Outcome};
use crate::money::Money;
use crate::plan::Plan;
use crate::price::{Part, PriceTable, price_parts};
use crate::tokens::{Usage, UsageSource};

/// When the past was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// What chance hangs on.
    pub(super) seed: u64,
    /// Its last day, which is not over.
    pub(super) today: Date,
    /// How many days it has, today included.
    pub(super) days: u32,
    /// Nothing is later.
    pub(super) now: Timestamp,
}

/// Writes the past; how many entries it has. The next day is made while one is written. Ends early when `stop` is set.
///
/// # Errors
/// When the store takes no more.
pub(super) fn write(
    world: &World,
    config: &Config,
    store: &dyn Store,
    past: Past,
    stop: &AtomicBool,
) -> Result<u64, StoreError> {
    let (made, days) = sync_channel::<Vec<Entry>>(2);
    let mut written = 0;
    std::thread::scope(|scope| {
        scope.spawn(move || make(world, config, past, stop, &made));
        let mut unsettled = 0;
        for entries in days {
            store.append(&entries)?;
            written += entries.len() as u64;
            unsettled += entries.len();
            // The store's log is copied into its database now and then, or it would grow to the size of it.
            if unsettled > 40_000 {
                store.make_durable()?;
                unsettled = 0;
            }
        }
        store.make_durable()
    })?;
    Ok(written)
}

fn make(
    world: &World,
    config: &Config,
    past: Past,
    stop: &AtomicBool,
    made: &SyncSender<Vec<Entry>>,
) {
    let mut year = Year::new(world, config, past);
    for days_ago in (0..past.days).rev() {
        // The writer has gone: it met an error, which it reports itself.
        if stop.load(Ordering::Relaxed) || made.send(year.day(days_ago)).is_err() {
            return;
        }
    }
}

/// The requests of a few in a thousand go wrong.
const REFUSED_UPSTREAM: u32 = 9;
const BROKE_OFF: u32 = 4;
const CLIENT_GONE: u32 = 25;
const RETRIED: u32 = 6;
const WRONG_MODEL: u32 = 2;
/// Whoever is refused so often gives up for the day.
const REFUSALS_A_DAY: u64 = 150;

/// Makes one day after the other; what was spent stays spent.
struct Year<'a> {
    world: &'a World,
    prices: &'a PriceTable,
    plans: HashMap<&'a PlanId, &'a Plan>,
    past: Past,
    spent: Vec<Spent>,
}

/// What a subscriber has used up.
#[derive(Default)]
struct Spent {
    /// Of its team's budget.
    budget: Money,
    /// Of its plans' limits.
    allowance: Allowance,
}

impl<'a> Year<'a> {
    fn new(world: &'a World, config: &'a Config, past: Past) -> Year<'a> {
        Year {
            world,
            prices: &config.prices,
            plans: config.plans.iter().map(|plan| (&plan.id, plan)).collect(),
            past,
            spent: world.subscribers.iter().map(|_| Spent::default()).collect(),
        }
    }

    /// All entries of a day, in their order.
    fn day(&mut self, days_ago: u32) -> Vec<Entry> {
        let date = self
            .past
            .today
            .checked_sub(jiff::Span::new().days(i64::from(days_ago)))
            .unwrap_or(self.past.today);
        let mut entries = Vec::new();
        for (subscriber, spent) in self.world.subscribers.iter().zip(&mut self.spent) {
            let Some(habit) = subscriber.habit(days_ago) else {
                continue;
            };
            let mut day = SubscriberDay {
                subscriber,
                habit,
                date,
                prices: self.prices,
                plans: &self.plans,
                chance: Chance::of(self.past.seed, subscriber.number, u64::from(days_ago)),
                now: self.past.now,
                refused: 0,
            };
            day.live(spent, &mut entries);
        }
        entries.sort_unstable_by_key(|entry| (entry.started_at, entry.id));
        entries
    }
}

/// One subscriber's day.
struct SubscriberDay<'a> {
    subscriber: &'a Subscriber,
    habit: &'a Habit,
    date: Date,
    prices: &'a PriceTable,
    plans: &'a HashMap<&'a PlanId, &'a Plan>,
    chance: Chance,
    now: Timestamp,
    refused: u64,
}

impl SubscriberDay<'_> {
    fn live(&mut self, spent: &mut Spent, entries: &mut Vec<Entry>) {
        let Some((since, plan)) = self.subscriber.plan_on(self.date) else {
            return;
        };
        let at_weekend = matches!(self.date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let share = if at_weekend { self.habit.weekend } else { 1.0 };
        // Nobody is the same every day; a machine nearly is.
        let mood = match self.habit.hours {
            Hours::Always | Hours::Night => self.chance.around(1.0, 0.08),
            _ => self.chance.around(0.85, 0.55),
        };
        let mean = self.habit.a_day * self.subscriber.eagerness * share * mood;
        let count = self.chance.count(mean);
        let mut moments: Vec<u64> = (0..count)
            .map(|_| {
                self.habit
                    .hours
                    .moment(self.subscriber.east, &mut self.chance)
            })
            .collect();
        moments.sort_unstable();
        let start_ms = midnight(self.date).as_millisecond();
        for moment in moments {
            let at_ms = start_ms.saturating_add_unsigned(moment);
            let Ok(at) = Timestamp::from_millisecond(at_ms) else {
                continue;
            };
            let Some(task) = self.chance.pick(self.habit.tasks) else {
                continue;
            };
            let mut entry = self.entry(task, at, plan);
            if let Some(limit) = self.refusal(spent, (*since, plan), &entry) {
                if self.refused == REFUSALS_A_DAY {
                    continue;
                }
                self.refused += 1;
                refuse(&mut entry, 429, &limit);
            }
            spent.budget += entry.cost_usd();
            // What has not happened yet counts all the same, so that a day is the same whenever it is looked at.
            if entry.ended_at <= self.now {
                entries.push(entry);
            }
        }
    }

    /// The limit that refuses a request, if one does.
    fn refusal(
        &self,
        spent: &mut Spent,
        (since, plan): (Date, &PlanId),
        entry: &Entry,
    ) -> Option<String> {
        let budget = self.subscriber.budget;
        if budget.is_some_and(|budget| spent.budget + entry.cost_usd() > budget) {
            return Some("cost/90d".to_owned());
        }
        if entry.outcome == Outcome::Rejected {
            return None;
        }
        let plan = self.plans.get(plan)?;
        spent.allowance.refuses(plan, since, entry)
    }

    fn entry(&mut self, task: &Task, at: Timestamp, plan: &crate::ids::PlanId) -> Entry {
        let usage = task.usage(self.habit.size, &mut self.chance);
        let first_token_ms = self.chance.around(520.0, 0.5).clamp(90.0, 30_000.0) as u32
            + usage.reasoning_output_tokens as u32 * 7;
        let streamed = self.chance.permille(task.streamed);
        let id = uuid::Builder::from_unix_timestamp_millis(
            u64::try_from(at.as_millisecond()).unwrap_or(0),
            &self.chance.bytes(),
        );
        let answer_ms = u32::try_from(usage.output_tokens).unwrap_or(u32::MAX) / 80 * 1000;
        let mut entry = Entry {
            id: RequestId(id.into_uuid()),
            started_at: at,
            ended_at: at,
            lineage: Arc::clone(&self.subscriber.lineage),
            key: self.subscriber.key.clone(),
            plan: plan.clone(),
            endpoint: task.api.endpoint().into(),
            model: Some(task.model.into()),
            served_model: Some(task.served.into()),
            upstream: Some(task.api.upstream().into()),
            service_tier: service_tier(task).map(Arc::from),
            status: 200,
            outcome: Outcome::Completed,
            reason: None,
            streamed,
            usage,
            usage_source: UsageSource::Reported,
            cost: Default::default(),
            undiscounted: Money::ZERO,
            priced_by: Vec::new(),
            first_token_ms: Some(first_token_ms),
            duration_ms: first_token_ms.saturating_add(answer_ms),
            retries: u8::from(self.chance.permille(RETRIED)),
            end_user: None,
            tags: Vec::new(),
            corrects: None,
        };
        if self.subscriber.people > 1 {
            let person = self.chance.below(self.subscriber.people);
            entry.end_user = Some(format!("customer-{:02}", person + 1).into());
        }
        if let Some(feature) = task.feature {
            entry.tags.push(("feature".into(), feature.into()));
        }
        self.go_wrong(&mut entry);
        self.price(&mut entry, task.served);
        let took = i64::from(entry.duration_ms);
        entry.ended_at = Timestamp::from_millisecond(at.as_millisecond() + took).unwrap_or(at);
        entry
    }

    /// What goes wrong now and then.
    fn go_wrong(&mut self, entry: &mut Entry) {
        if self.chance.permille(REFUSED_UPSTREAM) {
            entry.status = if self.chance.permille(600) { 429 } else { 500 };
            entry.outcome = Outcome::UpstreamFailed;
            entry.served_model = None;
            entry.service_tier = None;
            entry.first_token_ms = None;
            entry.duration_ms = 180 + self.chance.below(900) as u32;
            unused(entry);
        } else if entry.streamed && self.chance.permille(CLIENT_GONE) {
            entry.outcome = Outcome::ClientClosed;
            self.cut(entry);
        } else if entry.streamed && self.chance.permille(BROKE_OFF) {
            entry.outcome = Outcome::UpstreamFailed;
            self.cut(entry);
        } else if self.chance.permille(WRONG_MODEL) {
            entry.model = Some("gpt-4o-latest-please".into());
            refuse(entry, 404, "model_not_found");
        }
    }

    /// An answer of which only a part came: its tokens were counted, reasoning and cache unseen.
    fn cut(&mut self, entry: &mut Entry) {
        let part = 5 + self.chance.below(90);
        entry.usage = Usage {
            input_tokens: entry.usage.input_tokens,
            output_tokens: (entry.usage.output_tokens - entry.usage.reasoning_output_tokens) * part
                / 100,
            ..Usage::default()
        };
        entry.usage_source = UsageSource::Counted;
        entry.service_tier = None;
        entry.duration_ms = entry.duration_ms / 100 * part as u32;
    }

    /// The price that held on that day.
    fn price(&self, entry: &mut Entry, served: &str) {
        if entry.usage_source == UsageSource::None {
            return;
        }
        let part = Part {
            model: served,
            asked: None,
            usage: entry.usage,
        };
        let tier = entry.service_tier.as_deref();
        // Tokens below a million cannot leave the range of money.
        if let Ok(priced) = price_parts(self.prices, &[part], tier, entry.started_at) {
            entry.cost = priced.cost.by_class;
            entry.undiscounted = priced.cost.undiscounted;
            entry.priced_by = priced.priced_by;
        }
    }
}

/// The tier that the provider says it served.
fn service_tier(task: &Task) -> Option<&'static str> {
    match task.api {
        Api::Messages => Some("standard"),
        Api::Chat | Api::Responses => Some(task.tier.unwrap_or("default")),
        Api::Completions | Api::Embeddings => None,
    }
}

/// Turns an entry into that of a request which the gateway refused.
fn refuse(entry: &mut Entry, status: u16, reason: &str) {
    entry.status = status;
    entry.outcome = Outcome::Rejected;
    entry.reason = Some(reason.into());
    entry.served_model = None;
    entry.upstream = None;
    entry.service_tier = None;
    entry.first_token_ms = None;
    entry.duration_ms = 1;
    entry.ended_at = entry
        .started_at
        .checked_add(jiff::SignedDuration::from_millis(1))
        .unwrap_or(entry.started_at);
    entry.retries = 0;
    unused(entry);
}

fn unused(entry: &mut Entry) {
    entry.usage = Usage::default();
    entry.usage_source = UsageSource::None;
    entry.cost = Default::default();
    entry.undiscounted = Money::ZERO;
    entry.priced_by = Vec::new();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::demo::config::OWN_PLANS;
    use crate::ids::AccountId;
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
        let mut year = Year::new(&world, config, past);
        range.rev().flat_map(|ago| year.day(ago)).collect()
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
}
