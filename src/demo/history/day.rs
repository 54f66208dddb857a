//! One subscriber's day: when it asks, and what its limits refuse.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};

use super::request::refuse;
use crate::demo::allowance::Allowance;
use crate::demo::chance::Chance;
use crate::demo::habits::{Habit, Hours};
use crate::demo::world::{Subscriber, midnight};
use crate::ids::PlanId;
use crate::ledger::{Entry, Outcome};
use crate::money::Money;
use crate::plan::Plan;
use crate::price::PriceTable;

/// Whoever is refused so often gives up for the day.
const REFUSALS_A_DAY: u64 = 150;

/// One subscriber's day.
pub(super) struct SubscriberDay<'a> {
    pub(super) subscriber: &'a Subscriber,
    pub(super) habit: &'a Habit,
    pub(super) date: Date,
    pub(super) prices: &'a PriceTable,
    pub(super) plans: &'a HashMap<&'a PlanId, &'a Plan>,
    pub(super) chance: Chance,
    pub(super) now: Timestamp,
    pub(super) refused: u64,
}

impl SubscriberDay<'_> {
    pub(super) fn live(&mut self, spent: &mut Spent, entries: &mut Vec<Entry>) {
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
}

/// What a subscriber has used up.
#[derive(Default)]
pub(super) struct Spent {
    /// Of its team's budget.
    budget: Money,
    /// Of its plans' limits.
    allowance: Allowance,
}
