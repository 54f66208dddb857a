//! What the demo prints when it is up: where to look, what loses money, what mends it, and commands that work as printed.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::world::{self, Subscriber, World};
use crate::config::Config;
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{EntryFilter, Store, StoreError, TimeRange};
use crate::margin::advise::{Advice, Question, advise};
use crate::margin::{self, Books, MarginError, Report, Row, dollars, grouped, percent};
use crate::money::Money;
use crate::plan::Amount;
use crate::secret::Secret;

/// What is known when everything runs.
pub(super) struct Welcome {
    /// The data path's and the admin listener's addresses.
    pub(super) addresses: (Vec<SocketAddr>, Vec<SocketAddr>),
    /// The admin token.
    pub(super) token: Secret,
    /// Where the files are.
    pub(super) directory: PathBuf,
    /// Whether they stay there.
    pub(super) is_kept: bool,
    /// Requests in the history.
    pub(super) requests: u64,
    /// Days of it.
    pub(super) history_days: u32,
    /// How long it all took.
    pub(super) took: Duration,
}

/// The margin that the advice reaches, in parts per million of revenue.
const TARGET_PPM: i32 = 300_000;
/// A month younger than so many days says little: the last 30 days are shown instead.
const DAYS_OF_MONTH_MIN: i64 = 3;
const ADVICE_DAYS: i64 = 30;

/// The time that the figures are about.
struct Shown {
    range: TimeRange,
    /// What `weir margin` needs to show the same; nothing for the running month.
    option: String,
}

impl Shown {
    fn at(now: Timestamp) -> Result<Shown, MarginError> {
        let month = margin::range(None, None, now)?;
        let days = now.duration_since(month.since).as_hours() / 24;
        if days >= DAYS_OF_MONTH_MIN {
            return Ok(Shown {
                range: month,
                option: String::new(),
            });
        }
        let since = world::midnight(day(back(now, ADVICE_DAYS)));
        Ok(Shown {
            range: margin::range(Some(since), None, now)?,
            option: format!(" --since {}", day(since)),
        })
    }
}

impl Welcome {
    /// The whole text. Blocks: it reads the ledger.
    ///
    /// # Errors
    /// See [`MarginError`].
    pub(super) fn text(
        &self,
        config: &Config,
        store: &dyn Store,
        world: &World,
        now: Timestamp,
    ) -> Result<String, MarginError> {
        let shown = Shown::at(now)?;
        let books = Books::read(config, store)?;
        let (plans, accounts) = margin::plans_and_accounts(store, &books, shown.range, now)?;
        let mut text = self.places(world);
        let losing = plans
            .rows
            .iter()
            .filter(|row| row.revenue_usd > Money::ZERO && row.margin_usd.is_negative());
        for row in losing {
            let question = Question {
                plan: PlanId::from(row.id.as_str()),
                target_ppm: TARGET_PPM,
                range: margin::range(Some(back(now, ADVICE_DAYS)), None, now)?,
            };
            let advice = advise(store, &books, &config.prices, &question, now, &|_, _| {})?;
            text += &loss(row, &plans, &accounts, config, world);
            text += &self.mend(&advice);
        }
        text += &teams(store, &plans, world, now)?;
        text += &self.commands(&shown.option, world);
        Ok(text)
    }

    fn api(&self) -> String {
        address(&self.addresses.0)
    }

    fn configuration(&self) -> String {
        let path = self.directory.join("weir.toml");
        let text = path.display().to_string();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
        if text.bytes().all(plain) {
            text
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    }

    fn places(&self, world: &World) -> String {
        let mut text = format!(
            "\n{} requests of {} accounts in {} days are in the ledger ({:.1} s). Nothing leaves this machine.\n\n",
            grouped(self.requests),
            world.accounts.len(),
            self.history_days,
            self.took.as_secs_f64(),
        );
        let _ = writeln!(
            text,
            "  dashboard    http://{}/",
            address(&self.addresses.1)
        );
        let _ = writeln!(text, "  admin token  {}", self.token.expose());
        let _ = writeln!(
            text,
            "  base URL     http://{0}/v1 for OpenAI's SDKs, http://{0} for Anthropic's",
            self.api()
        );
        if let Some(shown) = world.shown() {
            let _ = writeln!(
                text,
                "  an API key   {}   ({}, on Pro)",
                shown.secret.expose(),
                shown.account
            );
        }
        text
    }

    fn mend(&self, advice: &Advice) -> String {
        let mut text = format!(
            "\nWhat mends it, tried on the requests of the last {ADVICE_DAYS} days (a margin of {} %):\n",
            TARGET_PPM / 10_000
        );
        if let Some(price) = &advice.price {
            let _ = writeln!(
                text,
                "  a price of ${} instead: a margin of ${}; all {} accounts pay it",
                dollars(price.price_usd),
                dollars(price.whatif.margin_usd),
                price.touched_accounts,
            );
        }
        for limit in &advice.limits {
            let _ = writeln!(
                text,
                "  or a limit {}: a margin of ${}; touches {} of {} accounts",
                limit.limit,
                dollars(limit.whatif.margin_usd),
                limit.touched_accounts,
                advice.actual.accounts,
            );
        }
        let _ = writeln!(
            text,
            "  Put the price, or the limit as below, under the plan in {0}: the gateway takes it up while it runs, and it\n  \
             holds from then on. `weir demo -c {0}` shows the same past as it would have been with it{1}.",
            self.configuration(),
            if self.is_kept {
                ""
            } else {
                " (start with --dir to keep that file)"
            },
        );
        let cost = advice.limits.iter().find_map(|one| match one.limit.max {
            Amount::Money(max) => Some(max),
            Amount::Count(_) => None,
        });
        if let Some(max) = cost {
            let _ = writeln!(
                text,
                "    [[plans.limits]]\n    on = \"cost\"\n    max = \"{max}\"\n    per = \"period\""
            );
        }
        text
    }

    fn commands(&self, range: &str, world: &World) -> String {
        let configuration = self.configuration();
        let mut text = "\nTry:\n".to_owned();
        if let Some(shown) = world.shown() {
            let _ = writeln!(
                text,
                "  curl -s http://{}/v1/chat/completions -H 'authorization: Bearer {}' -H 'content-type: application/json' \
                 -d '{{\"model\":\"gpt-4o\",\"messages\":[{{\"role\":\"user\",\"content\":\"Who pays for this?\"}}]}}'",
                self.api(),
                shown.secret.expose(),
            );
        }
        for command in [
            format!("margin -c {configuration}{range}"),
            format!("margin -c {configuration}{range} --by account"),
            format!(
                "advise -c {configuration} --plan pro --target-margin {}",
                TARGET_PPM / 10_000
            ),
            format!("whatif -c {configuration} --map gpt-4o=gpt-4.5-preview"),
        ] {
            let _ = writeln!(text, "  weir {command}");
        }
        text.push_str(
            "  The header `x-simulate: 429 | 500 | break | slow` makes the simulated provider fail.\n\n",
        );
        let files = self.directory.display();
        let _ = if self.is_kept {
            write!(text, "Ctrl-C stops it; its files stay in {files}.")
        } else {
            write!(
                text,
                "Ctrl-C stops it and removes {files}; --dir keeps the files."
            )
        };
        text
    }
}

/// A plan in loss and who causes it.
fn loss(row: &Row, plans: &Report, accounts: &Report, config: &Config, world: &World) -> String {
    let plan = config.plans.iter().find(|plan| plan.id.as_str() == row.id);
    let price = plan.map_or(Money::ZERO, |plan| plan.price);
    let mut text = format!(
        "\nLosing money since {}:\n  {} at ${} a month: {} accounts, revenue ${}, cost ${}, margin -${}{}\n",
        day(plans.since),
        row.id,
        dollars(price),
        row.accounts,
        dollars(row.revenue_usd),
        dollars(row.cost_usd),
        dollars(-row.margin_usd),
        row.margin_ratio
            .as_deref()
            .map_or_else(String::new, |ratio| format!(" ({})", percent(ratio))),
    );
    let mut own: Vec<&Row> = accounts
        .rows
        .iter()
        .filter(|account| account.plan.as_deref() == Some(&row.id))
        .collect();
    own.sort_by_key(|account| std::cmp::Reverse(account.cost_usd));
    let heaviest = (own.len() * 5).div_ceil(100);
    let share = row
        .concentration
        .as_ref()
        .and_then(|shares| shares.top_5_percent.as_deref());
    let _ = writeln!(
        text,
        "  5 % of its subscribers, {heaviest} of {}, cause {} of that cost:",
        own.len(),
        share.map_or_else(|| "most".to_owned(), percent),
    );
    for account in own.iter().take(heaviest) {
        let _ = writeln!(
            text,
            "    {:<16} paid ${:>9}   cost ${:>9}   {}",
            account.id,
            dollars(account.revenue_usd),
            dollars(account.cost_usd),
            story(world, &account.id),
        );
    }
    text
}

/// What an account of the heavy ones does, in words.
fn story(world: &World, id: &str) -> &'static str {
    let found = world
        .subscribers
        .iter()
        .find(|one| one.account.as_str() == id);
    match found.and_then(|one| one.habit(0)).map(|habit| habit.name) {
        Some("agent") => "an agent runs round the clock",
        Some("resells") => "forty people share one key",
        Some("reads-libraries") => "has whole libraries read",
        _ => "",
    }
}

/// What the company's own teams did with their budgets.
fn teams(
    store: &dyn Store,
    plans: &Report,
    world: &World,
    now: Timestamp,
) -> Result<String, StoreError> {
    let mut text = "\nThe company's own teams:\n".to_owned();
    let quarter = TimeRange {
        since: back(now, 90),
        until: now,
    };
    let team = |name: &str| {
        world
            .subscribers
            .iter()
            .find(|one| one.account.as_str() == name)
    };
    if let Some(search) = team("team-search")
        && let Some(ran) = began(search, 1)
    {
        let night = TimeRange {
            since: back(now, ran),
            until: back(now, ran - 1),
        };
        let night = TimeRange {
            since: world::midnight(day(night.since)),
            until: world::midnight(day(night.until)),
        };
        let _ = writeln!(
            text,
            "  team-search   spent ${} of its ${} for a quarter: a job in the night of {} cost ${}; it is refused since",
            dollars(spent(store, search, quarter)?),
            dollars(search.budget.unwrap_or_default()),
            day(night.since),
            dollars(spent(store, search, night)?),
        );
    }
    if let Some(support) = team("team-support")
        && let Some(days) = began(support, 1)
    {
        let changed = world::midnight(day(back(now, days)));
        let before = TimeRange {
            since: back(changed, 7),
            until: changed,
        };
        let after = TimeRange {
            since: changed,
            until: world::midnight(day(now)),
        };
        let a_day = |range: TimeRange| {
            let days = range.until.duration_since(range.since).as_hours() / 24;
            let sum = spent(store, support, range)?;
            Ok::<_, StoreError>(sum.mul_ratio(1, i128::from(days.max(1))).unwrap_or(sum))
        };
        let _ = writeln!(
            text,
            "  team-support  changed gpt-4o for gpt-4.5-preview on {}: ${} a day became ${}",
            day(changed),
            dollars(a_day(before)?),
            dollars(a_day(after)?),
        );
    }
    if plans.total.unpriced_requests > 0 {
        let _ = writeln!(
            text,
            "  team-data     made {} requests to a model without a price (house-llama): their cost is in no figure",
            grouped(plans.total.unpriced_requests)
        );
    }
    Ok(text)
}

/// How many days ago a phase of a subscriber began.
fn began(subscriber: &Subscriber, phase: usize) -> Option<i64> {
    subscriber
        .phases
        .get(phase)
        .map(|(days, _)| i64::from(*days))
}

fn spent(store: &dyn Store, who: &Subscriber, range: TimeRange) -> Result<Money, StoreError> {
    let filter = EntryFilter {
        since: Some(range.since),
        until: Some(range.until),
        account: Some(AccountId::clone(&who.account)),
        ..EntryFilter::default()
    };
    let mut sum = Money::ZERO;
    store.scan(&filter, &mut |entry| {
        sum += entry.cost_usd();
        true
    })?;
    Ok(sum)
}

fn address(addresses: &[SocketAddr]) -> String {
    addresses
        .first()
        .map_or_else(String::new, SocketAddr::to_string)
}

fn back(from: Timestamp, days: i64) -> Timestamp {
    from.checked_sub(SignedDuration::from_hours(24 * days))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn day(at: Timestamp) -> jiff::civil::Date {
    jiff::tz::Offset::UTC.to_datetime(at).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_that_has_just_begun_is_shown_as_the_last_thirty_days() {
        let shown = |now: &str| Shown::at(now.parse().unwrap()).unwrap();
        let young = shown("2026-12-01T00:10:00Z");
        assert_eq!(young.option, " --since 2026-11-01");
        assert_eq!(young.range.since, "2026-11-01T00:00:00Z".parse().unwrap());
        let older = shown("2026-12-04T00:10:00Z");
        assert_eq!(older.option, "");
        assert_eq!(older.range.since, "2026-12-01T00:00:00Z".parse().unwrap());
    }
}
