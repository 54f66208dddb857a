//! The past: three months of requests as the gateway would have booked them, written to the store day by day.

mod day;
mod request;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use jiff::Timestamp;
use jiff::civil::Date;

use self::day::{Spent, SubscriberDay};
use super::chance::Chance;
use super::world::World;
use crate::config::Config;
use crate::ids::PlanId;
use crate::ledger::Entry;
use crate::ledger::store::{Store, StoreError};
use crate::plan::Plan;
use crate::price::PriceTable;

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
    let mut days = Days::new(world, config, past);
    for days_ago in (0..past.days).rev() {
        // The writer has gone: it met an error, which it reports itself.
        if stop.load(Ordering::Relaxed) || made.send(days.day(days_ago)).is_err() {
            return;
        }
    }
}

/// Makes one day after the other; what was spent stays spent.
struct Days<'a> {
    world: &'a World,
    prices: &'a PriceTable,
    plans: HashMap<&'a PlanId, &'a Plan>,
    past: Past,
    spent: Vec<Spent>,
}

impl<'a> Days<'a> {
    fn new(world: &'a World, config: &'a Config, past: Past) -> Days<'a> {
        Days {
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
