//! Who is there: plans, some hundred subscribers with their habits, and what happened to their accounts.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::chance::Chance;
use super::habits::{self, Habit};
use crate::ids::{AccountId, KeyId, PlanId};
use crate::ledger::store::{AccountChange, AccountEvent};
use crate::money::Money;
use crate::plan::Account;
use crate::secret::{NoRandomness, Secret};

/// Everybody, as they stand today and as they came there.
pub(super) struct World {
    /// The accounts, parents first.
    pub(super) accounts: Vec<Account>,
    /// Whoever sends requests.
    pub(super) subscribers: Vec<Subscriber>,
    /// Plan changes and refunds.
    pub(super) events: Vec<AccountEvent>,
}

/// An account that sends requests.
pub(super) struct Subscriber {
    /// Its number: what its chance hangs on.
    pub(super) number: u64,
    /// Its account's place among [`World::accounts`].
    pub(super) account: AccountId,
    /// The accounts above it and itself.
    pub(super) lineage: Arc<[AccountId]>,
    /// Its key.
    pub(super) key: KeyId,
    /// The key's secret.
    pub(super) secret: Secret,
    /// The plan that it has from a day on; the last one is today's.
    pub(super) plans: Vec<(Date, PlanId)>,
    /// The day on which it is gone.
    pub(super) until: Option<Date>,
    /// What it does from so many days ago on; the last one is what it does today.
    pub(super) phases: Vec<(u32, Habit)>,
    /// How much it asks against the habit's own measure.
    pub(super) eagerness: f64,
    /// Hours east of Greenwich.
    pub(super) east: u64,
    /// People behind it, where it is more than one.
    pub(super) people: u64,
    /// What it may spend in ninety days before it is refused.
    pub(super) budget: Option<Money>,
}

impl Subscriber {
    /// The plan on a day and the first day of it; `None` before its first and after its last.
    pub(super) fn plan_on(&self, day: Date) -> Option<&(Date, PlanId)> {
        if self.until.is_some_and(|until| day >= until) {
            return None;
        }
        self.plans.iter().rev().find(|(from, _)| *from <= day)
    }

    /// What it does, so many days ago.
    pub(super) fn habit(&self, days_ago: u32) -> Option<&Habit> {
        let phase = self.phases.iter().rev().find(|(from, _)| *from >= days_ago);
        phase.map(|(_, habit)| habit)
    }
}

/// How many subscribers each plan has.
const FREE: u64 = 120;
const PLUS: u64 = 160;
const PRO: u64 = 60;
const COPILOT: u64 = 80;

/// Days since the three that cause Pro's loss began to.
pub(super) const HEAVY_SINCE: u32 = 45;
/// Days since the search team's job ran.
pub(super) const BATCH_JOB_ON: u32 = 16;
/// Days since the support team changed its model.
pub(super) const SWAP_SINCE: u32 = 21;

impl World {
    /// Everybody as of `today`, with a history of so many days. The same for a seed and a day, but for the keys' secrets.
    ///
    /// # Errors
    /// When the operating system gives no randomness for the secrets.
    pub(super) fn new(seed: u64, today: Date, days: u32) -> Result<World, NoRandomness> {
        let mut cast = Cast {
            seed,
            today,
            days: days.max(1),
            world: World {
                accounts: Vec::new(),
                subscribers: Vec::new(),
                events: Vec::new(),
            },
        };
        cast.teams()?;
        cast.heavy()?;
        for number in 0..PRO - 3 {
            cast.person("pro", habits::WORKS, number, PRO)?;
        }
        for number in 0..PLUS {
            cast.person("plus", habits::CHATS, number, PLUS)?;
        }
        for number in 0..COPILOT {
            cast.person("copilot", habits::CODES, number, COPILOT)?;
        }
        for number in 0..FREE {
            cast.person("free", habits::TRIES, number, FREE)?;
        }
        cast.refunds();
        cast.world.events.sort_by_key(|event| event.at);
        Ok(cast.world)
    }

    /// The subscriber whose key is shown: a person on Pro who just works.
    pub(super) fn shown(&self) -> Option<&Subscriber> {
        self.subscribers.iter().find(|one| {
            one.phases.len() == 1
                && one.plans.len() == 1
                && one.until.is_none()
                && one.plans.iter().any(|(_, plan)| plan.as_str() == "pro")
        })
    }
}

/// Gives everybody a name, a plan and a past.
struct Cast {
    seed: u64,
    today: Date,
    days: u32,
    world: World,
}

impl Cast {
    /// A day in the past. Spans that the demo's story needs shrink with a short history.
    fn ago(&self, days: u32) -> Date {
        self.today
            .checked_sub(jiff::Span::new().days(i64::from(days)))
            .unwrap_or(self.today)
    }

    /// The first day of somebody who came so many days ago. In a history of less than a month nobody was there before it:
    /// the running month would show what they paid and not what they cost.
    fn came(&self, days_ago: u32) -> Date {
        if self.days < 31 {
            return self.ago(days_ago.min(self.days - 1));
        }
        self.ago(days_ago)
    }

    fn within(&self, days_ago: u32, share_of_history: u32) -> u32 {
        days_ago.min(self.days * share_of_history / 100).max(1)
    }

    /// The company's own teams: budgets, no revenue.
    fn teams(&mut self) -> Result<(), NoRandomness> {
        let since = self.ago(400);
        self.world.accounts.push(Account {
            id: "company".into(),
            plan: "internal".into(),
            parent: None,
            since,
            until: None,
            name: Some("The company itself".into()),
            currency: None,
            tags: Vec::new(),
            limits: Vec::new(),
        });
        let job = self.within(BATCH_JOB_ON, 50);
        let swap = self.within(SWAP_SINCE, 60);
        let teams = [
            (
                "team-search",
                "team-large",
                "6000",
                vec![
                    (u32::MAX, habits::SEARCHES),
                    (job, habits::BATCH_JOB),
                    (job - 1, habits::SEARCHES_ON),
                ],
            ),
            (
                "team-support",
                "team-small",
                "1500",
                vec![
                    (u32::MAX, habits::SUPPORTS),
                    (swap, habits::SUPPORTS_DEARLY),
                ],
            ),
            (
                "team-platform",
                "team-large",
                "6000",
                vec![(u32::MAX, habits::BUILDS)],
            ),
            (
                "team-data",
                "team-small",
                "1500",
                vec![(u32::MAX, habits::CLASSIFIES)],
            ),
        ];
        for (id, plan, budget, phases) in teams {
            let account = Account {
                id: id.into(),
                plan: plan.into(),
                parent: Some("company".into()),
                since,
                until: None,
                name: None,
                currency: None,
                tags: tags(&phases),
                limits: Vec::new(),
            };
            let plans = vec![(since, PlanId::from(plan))];
            self.enter(account, plans, phases)?;
            if let Some(team) = self.world.subscribers.last_mut() {
                team.budget = Money::parse(budget).ok();
                team.eagerness = 1.0;
                team.east = 1;
            }
        }
        Ok(())
    }

    /// The five in a hundred on Pro that cause most of what Pro costs.
    fn heavy(&mut self) -> Result<(), NoRandomness> {
        let since = self.within(HEAVY_SINCE, 100);
        for (position, habit) in [habits::AGENT, habits::RESELLS, habits::READS_LIBRARIES]
            .into_iter()
            .enumerate()
        {
            let began = self.came(120 + 31 * position as u32);
            let account = self.account("pro", began, &[(0, habit)]);
            let phases = vec![(u32::MAX, habits::WORKS), (since, habit)];
            self.enter(account, vec![(began, "pro".into())], phases)?;
            if let Some(one) = self.world.subscribers.last_mut() {
                one.eagerness = 1.0;
                one.people = if habit.name == "resells" { 40 } else { 1 };
            }
        }
        Ok(())
    }

    /// One of the many.
    fn person(
        &mut self,
        plan: &'static str,
        habit: Habit,
        number: u64,
        of: u64,
    ) -> Result<(), NoRandomness> {
        let mut chance = Chance::of(self.seed, self.world.subscribers.len() as u64, u64::MAX);
        // One in six came within the last three months, the others before.
        let days = if chance.permille(160) {
            1 + chance.below(90)
        } else {
            90 + chance.below(600)
        };
        let began = self.came(days as u32);
        let changed = 5 + chance.below(80);
        let changed_on = self.ago(changed.min(days.saturating_sub(1)) as u32);
        // The first few of each plan had another one before, the last few are gone.
        let before = match plan {
            "pro" if number < 4 => Some("plus"),
            "plus" if number < 6 => Some("free"),
            "plus" if number == 6 => Some("pro"),
            _ => None,
        };
        let mut plans = vec![(began, PlanId::from(plan))];
        if let Some(before) = before.filter(|_| changed_on > began) {
            plans = vec![(began, before.into()), (changed_on, plan.into())];
        }
        let mut account = self.account(plan, began, &[(0, habit)]);
        if let Some((since, _)) = plans.last() {
            account.since = *since;
        }
        if number + 2 >= of && plan != "pro" && changed_on > began {
            account.until = Some(changed_on);
        }
        self.enter(account, plans, vec![(u32::MAX, habit)])
    }

    fn account(&self, plan: &str, since: Date, phases: &[(u32, Habit)]) -> Account {
        let number = self.world.subscribers.len();
        let (id, name) = person_name(number);
        Account {
            id: id.as_str().into(),
            plan: plan.into(),
            parent: None,
            since,
            until: None,
            name: Some(name.into()),
            currency: None,
            tags: tags(phases),
            limits: Vec::new(),
        }
    }

    fn enter(
        &mut self,
        account: Account,
        plans: Vec<(Date, PlanId)>,
        phases: Vec<(u32, Habit)>,
    ) -> Result<(), NoRandomness> {
        let number = self.world.subscribers.len() as u64;
        let mut chance = Chance::of(self.seed, number, u64::MAX - 1);
        if plans.len() > 1 {
            for (since, plan) in &plans {
                self.world.events.push(AccountEvent {
                    account: account.id.clone(),
                    at: midnight(*since),
                    change: AccountChange::Plan {
                        plan: plan.clone(),
                        since: *since,
                    },
                });
            }
        }
        let lineage: Vec<AccountId> = account
            .parent
            .iter()
            .chain([&account.id])
            .cloned()
            .collect();
        self.world.subscribers.push(Subscriber {
            number,
            account: account.id.clone(),
            lineage: lineage.into(),
            key: format!("{}-key", account.id).as_str().into(),
            secret: Secret::generate()?,
            plans,
            until: account.until,
            phases,
            // The heavy tail within a plan: most ask little, a few ten times as much.
            eagerness: chance.around(0.7, 0.85).clamp(0.02, 9.0),
            east: chance.below(24),
            people: 1,
            budget: None,
        });
        self.world.accounts.push(account);
        Ok(())
    }

    /// Two customers got their money back.
    fn refunds(&mut self) {
        let days_ago = self.within(9, 50);
        for (plan, amount) in [("pro", 200), ("plus", 20)] {
            let refunded = self.world.subscribers.iter().rev().find(|one| {
                let only = one.plans.first().filter(|_| one.plans.len() == 1);
                one.until.is_none()
                    && only.is_some_and(|(since, held)| {
                        held.as_str() == plan && *since < self.ago(days_ago + 30)
                    })
            });
            let Some(refunded) = refunded else { continue };
            self.world.events.push(AccountEvent {
                account: refunded.account.clone(),
                at: midnight(self.ago(days_ago)),
                change: AccountChange::Refund(Money::from_usd(amount)),
            });
        }
    }
}

/// The first moment of a day.
pub(super) fn midnight(day: Date) -> Timestamp {
    Offset::UTC
        .to_timestamp(day.at(0, 0, 0, 0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn tags(phases: &[(u32, Habit)]) -> Vec<(Arc<str>, Arc<str>)> {
    phases
        .last()
        .map(|(_, habit)| ("habit".into(), habit.name.into()))
        .into_iter()
        .collect()
}

/// An id and a name of a person who does not exist; another one for each number below 625.
fn person_name(number: usize) -> (String, String) {
    let of = |names: &'static str, at: usize| {
        let names: Vec<&str> = names.split_whitespace().collect();
        names.get(at % names.len().max(1)).copied().unwrap_or("Kim")
    };
    let first = of(FIRST_NAMES, number);
    let last = of(LAST_NAMES, number + number / 25);
    let id = format!("{first}.{last}").to_lowercase();
    (id, format!("{first} {last}"))
}

/// Twenty-five each: 25 steps through both together, then one step of the second beside the first, never meet again.
const FIRST_NAMES: &str = "Ada Bela Chidi Dora Emre Fatou Goran Hana Ines Jonas Kaito Lena Mara Nils Olga Pavel Quinn \
    Rosa Sami Tara Uma Viktor Wanda Yusuf Zoe";
const LAST_NAMES: &str = "Abel Berg Castro Diaz Eriksen Faber Gruber Haddad Ito Jansen Kovac Lind Moreau Novak Okafor \
    Petrov Quist Rossi Silva Tanaka Urban Vargas Weber Yilmaz Zeller";

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use std::collections::HashSet;

    const TODAY: Date = date(2026, 11, 24);

    #[test]
    fn everybody_has_a_name_of_their_own() {
        let world = World::new(1, TODAY, 92).unwrap();
        let ids: HashSet<&str> = world.accounts.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids.len(), world.accounts.len());
        assert_eq!(world.subscribers.len() + 1, world.accounts.len());
        for account in &world.accounts {
            AccountId::parse(account.id.as_str()).unwrap();
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_people_and_past() {
        let people = |seed| {
            let world = World::new(seed, TODAY, 92).unwrap();
            (world.accounts, world.events)
        };
        assert_eq!(people(5), people(5));
        assert_ne!(people(5), people(6));
    }

    #[test]
    fn an_account_that_changed_its_plan_stands_where_its_last_event_says() {
        let world = World::new(1, TODAY, 92).unwrap();
        let mut changes = 0;
        for account in &world.accounts {
            let last = world
                .events
                .iter()
                .rev()
                .find_map(|event| match &event.change {
                    AccountChange::Plan { plan, since } if event.account == account.id => {
                        Some((plan.clone(), *since))
                    }
                    _ => None,
                });
            if let Some(last) = last {
                changes += 1;
                assert_eq!(last, (account.plan.clone(), account.since));
            }
        }
        assert!(changes >= 8, "{changes}");
    }

    #[test]
    fn five_in_a_hundred_on_pro_are_heavy_in_any_history() {
        for days in [1, 20, 92] {
            let world = World::new(1, TODAY, days).unwrap();
            let pro: Vec<_> = world
                .subscribers
                .iter()
                .filter(|one| {
                    one.plan_on(TODAY)
                        .is_some_and(|(_, plan)| plan.as_str() == "pro")
                })
                .collect();
            assert_eq!(pro.len(), 60);
            let heavy = pro.iter().filter(|one| one.habit(0).unwrap().a_day > 100.0);
            assert_eq!(heavy.count(), 3);
            let first = TODAY
                .checked_sub(jiff::Span::new().days(i64::from(days)))
                .unwrap();
            let came_before = pro
                .iter()
                .any(|one| one.plans.iter().any(|(from, _)| *from < first));
            assert_eq!(came_before, days > 30);
            assert!(world.shown().is_some());
        }
    }
}
