//! Fills a store with subscribers of many habits and their traffic of the last weeks, for the browser tests:
//! `seed CONFIG`. The same figures each time, but for the days that they fall on.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what a seed builds on fails the seed"
)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, tz::Offset};
use weir::config::{self, Config};
use weir::gateway::open_store;
use weir::ids::RequestId;
use weir::ledger::store::{AccountChange, AccountEvent, AuditLine, PlanEvent, Store};
use weir::ledger::{Entry, Outcome};
use weir::money::Money;
use weir::plan::{Account, Plan};
use weir::price::{CostByClass, PricedBy};
use weir::tokens::{Usage, UsageSource};

const DAYS: i64 = 45;
/// Plan, subscribers, requests a day of an ordinary one, how many times as long as usual its requests are.
const PLANS: [(&str, u64, f64, f64); 3] = [
    ("pro", 60, 9.0, 90.0),
    ("plus", 140, 4.0, 3.0),
    ("research", 4, 30.0, 4.0),
];
const MODELS: [(&str, f64); 4] = [
    ("gpt-4o", 0.45),
    ("gpt-4o-mini", 0.75),
    ("o3", 0.9),
    ("claude-sonnet-4-5", 1.0),
];

fn main() {
    let path = std::env::args().nth(1).expect("the configuration's path");
    let config = config::load(Some(path.as_ref())).expect("a good configuration");
    let store = open_store(&config.store).expect("a store");
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let now = Timestamp::now();
    let past = Past::before(now);
    let mut entries = Vec::new();
    for (plan, subscribers, a_day, length) in PLANS {
        for number in 1..=subscribers {
            let account = subscriber(plan, number, now, &mut chance);
            store
                .put_account(&account, None, &audit(now))
                .expect("an account");
            // Habits have a heavy tail: a few use many times what most do.
            let appetite = 0.25 / (1.0 - chance.share() * 0.995).powf(0.9);
            write(
                &config,
                &account,
                a_day * appetite,
                length,
                now,
                &mut chance,
                &mut entries,
            );
        }
    }
    entries.iter_mut().for_each(|entry| past.correct(entry));
    entries.sort_by_key(|entry: &Entry| entry.started_at);
    for batch in entries.chunks(5_000) {
        store.append(batch).expect("entries");
    }
    past.record(&config, store.as_ref());
    store.make_durable().expect("a durable store");
    println!("{} entries", entries.len());
}

/// What happened last month, on days that `dashboard.test.cjs` knows: a subscriber changed its plan, another was paid back,
/// and a plan became dearer, all in the middle of billing periods.
struct Past {
    /// 1st, 00:00.
    month: Timestamp,
    now: Timestamp,
}

impl Past {
    const CHANGED: &str = "pro-001";
    const REFUNDED: &str = "pro-002";

    fn before(now: Timestamp) -> Past {
        let first = Offset::UTC.to_datetime(now).date().first_of_month();
        let month = first.saturating_sub(jiff::Span::new().months(1));
        Past {
            month: Offset::UTC
                .to_timestamp(month.at(0, 0, 0, 0))
                .expect("a month ago"),
            now,
        }
    }

    fn hours(&self, hours: i64) -> Timestamp {
        self.month + SignedDuration::from_hours(hours)
    }

    /// An entry of the time before its account changed its plan has the one before.
    fn correct(&self, entry: &mut Entry) {
        let account = entry.account().map(|account| account.as_str());
        if account == Some(Past::CHANGED) && entry.started_at < self.hours(300) {
            entry.plan = "plus".into();
        }
    }

    fn record(&self, config: &Config, store: &dyn Store) {
        let stored = store.stored().expect("accounts");
        let mut accounts = stored.accounts.iter();
        let changed = accounts.find(|account| account.id.as_str() == Past::CHANGED);
        let since = changed.expect("who changed its plan").since;
        let event = |account: &str, at, change| AccountEvent {
            account: account.into(),
            at,
            change,
        };
        let on = |plan: &str| AccountChange::Plan {
            plan: plan.into(),
            since,
        };
        let refund = Money::parse("50.00").expect("money");
        let events = [
            event(Past::CHANGED, self.month, on("plus")),
            event(Past::CHANGED, self.hours(300), on("pro")),
            event(
                Past::REFUNDED,
                self.hours(480),
                AccountChange::Refund(refund),
            ),
        ];
        store.add_account_events(&events).expect("events");
        let plus = config.plans.iter().find(|plan| plan.id.as_str() == "plus");
        let dearer = plus.expect("a plan").terms();
        let cheaper = Plan {
            price: Money::parse("15.00").expect("money"),
            ..dearer.clone()
        };
        let terms = [(self.hours(0), cheaper), (self.hours(246), dearer)];
        let terms = terms.map(|(at, terms)| PlanEvent { at, terms });
        store.add_plan_events(&terms).expect("terms");
        assert!(self.hours(480) < self.now, "last month is over");
    }
}

fn subscriber(plan: &str, number: u64, now: Timestamp, chance: &mut Chance) -> Account {
    const NAMES: [&str; 12] = [
        "Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel", "Ivy", "Juniper",
        "Larch", "Maple",
    ];
    let age_days = 60 + (chance.share() * 400.0) as i64;
    let since = now - SignedDuration::from_hours(age_days * 24);
    let name = NAMES[(number % 12) as usize];
    Account {
        id: format!("{plan}-{number:03}").as_str().into(),
        plan: plan.into(),
        parent: None,
        since: Offset::UTC.to_datetime(since).date(),
        until: None,
        name: Some(format!("{name} {number}").into()),
        currency: None,
        tags: Vec::new(),
        limits: Vec::new(),
    }
}

fn write(
    config: &Config,
    account: &Account,
    a_day: f64,
    length: f64,
    now: Timestamp,
    chance: &mut Chance,
    entries: &mut Vec<Entry>,
) {
    let count = (a_day * DAYS as f64).min(3_000.0) as u64;
    for _ in 0..count {
        let ago_s = (chance.share() * (DAYS * 86_400) as f64) as i64;
        let started_at = now - SignedDuration::from_secs(ago_s);
        let pick = chance.share();
        let model = MODELS.iter().find(|(_, share)| pick <= *share);
        let model = model.map_or("gpt-4o", |(model, _)| model);
        let input = ((500.0 + chance.share() * 6_000.0) * length) as u64;
        let output = ((100.0 + chance.share() * 900.0) * length) as u64;
        let reasoning = if model == "o3" { output } else { 0 };
        let usage = Usage {
            input_tokens: input,
            cache_read_input_tokens: (input as f64 * chance.share() * 0.5) as u64,
            output_tokens: output + reasoning,
            reasoning_output_tokens: reasoning,
            ..Usage::default()
        };
        entries.push(entry(config, account, model, usage, started_at, chance));
    }
}

fn entry(
    config: &Config,
    account: &Account,
    model: &str,
    usage: Usage,
    started_at: Timestamp,
    chance: &mut Chance,
) -> Entry {
    let priced = config.prices.model(model).expect("a priced model");
    let row = priced
        .row_on(Offset::UTC.to_datetime(started_at).date())
        .expect("a price");
    let luck = chance.share();
    let (outcome, status) = match luck {
        ..0.96 => (Outcome::Completed, 200),
        ..0.985 => (Outcome::ClientClosed, 200),
        _ => (Outcome::UpstreamFailed, 500),
    };
    let rejected = luck < 0.01;
    let usage = if rejected { Usage::default() } else { usage };
    let cost: CostByClass = row.cost(&usage, None).expect("a cost").by_class;
    let duration_ms = 400 + usage.output_tokens as u32 * 12;
    Entry {
        id: RequestId(uuid_at(started_at, chance)),
        started_at,
        ended_at: started_at + SignedDuration::from_millis(i64::from(duration_ms)),
        lineage: [account.id.clone()].into(),
        key: format!("{}-app", account.id).as_str().into(),
        plan: account.plan.clone(),
        endpoint: "chat.completions".into(),
        model: Some(model.into()),
        served_model: (!rejected).then(|| model.into()),
        upstream: (!rejected).then(|| "openai".into()),
        service_tier: None,
        status: if rejected { 429 } else { status },
        outcome: if rejected { Outcome::Rejected } else { outcome },
        reason: rejected.then(|| Arc::from("cost per period")),
        streamed: true,
        usage,
        usage_source: if rejected {
            UsageSource::None
        } else {
            UsageSource::Reported
        },
        undiscounted: cost.total(),
        cost,
        priced_by: if rejected {
            Vec::new()
        } else {
            vec![PricedBy {
                model: Arc::clone(&priced.model),
                from: row.from,
            }]
        },
        first_token_ms: Some(200 + (chance.share() * 900.0) as u32),
        duration_ms,
        retries: 0,
        end_user: None,
        tags: Vec::new(),
        corrects: None,
    }
}

/// An id whose moment is the entry's, as the gateway makes them.
fn uuid_at(at: Timestamp, chance: &mut Chance) -> uuid::Uuid {
    let ms = u64::try_from(at.as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(ms, &chance.bytes()).into_uuid()
}

fn audit(at: Timestamp) -> AuditLine {
    AuditLine {
        at,
        actor: "seed".to_owned(),
        action: "account.create".to_owned(),
        subject: "browser test".to_owned(),
        detail: "{}".to_owned(),
    }
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn bytes(&mut self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}
