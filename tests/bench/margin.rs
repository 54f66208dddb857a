//! Reports over a month of traffic: `cargo bench --bench margin`.
//!
//! `WEIR_BENCH_REQUESTS` (200,000 unless set; the figures in the README are of 10,000,000) and `WEIR_BENCH_ACCOUNTS`
//! (10,000) set the size. `WEIR_BENCH_LEDGER` keeps the ledger at a path, so that a second run need not make it again.
//! Accounts have a heavy tail of habits, and four models; requests come in the order of time, as at a gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use weir::ids::{AccountId, ModelName, RequestId};
use weir::ledger::sqlite::SqliteStore;
use weir::ledger::store::{Store as _, TimeRange};
use weir::ledger::{Entry, Outcome};
use weir::margin::advise::{Question, advise};
use weir::margin::whatif::{Changes, what_if};
use weir::margin::{Books, By};
use weir::money::Money;
use weir::plan::{Account, PaymentFee, Period, Plan};
use weir::price::{PriceRow, PriceTable, PricedBy, PricedModel, Rates};
use weir::tokens::{Usage, UsageSource};

type Failure = Box<dyn std::error::Error>;

const MODELS: [(&str, &str, &str); 5] = [
    ("gpt-4o", "2.50", "10"),
    ("gpt-4o-mini", "0.15", "0.60"),
    ("o3-mini", "1.10", "4.40"),
    ("claude-sonnet-4", "3", "15"),
    ("gpt-4.5-preview", "75", "150"),
];
const PLANS: [(&str, i64); 4] = [("free", 0), ("copilot", 10), ("plus", 20), ("pro", 200)];
const BATCH: usize = 5_000;
const DAYS: u64 = 31;

fn main() -> Result<(), Failure> {
    let size = |name: &str, usual: u64| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.replace('_', "").parse().ok())
            .unwrap_or(usual)
    };
    let requests = size("WEIR_BENCH_REQUESTS", 200_000);
    let accounts = size("WEIR_BENCH_ACCOUNTS", 10_000).max(1);
    let directory = tempfile::tempdir()?;
    let path = std::env::var("WEIR_BENCH_LEDGER")
        .map_or_else(|_| directory.path().join("bench.db"), PathBuf::from);
    let prices = prices()?;
    let store = ledger(&path, requests, accounts, &prices)?;
    let books = books(accounts)?;
    let range = TimeRange {
        since: "2025-03-01T00:00:00Z".parse()?,
        until: "2025-04-01T00:00:00Z".parse()?,
    };
    let now: Timestamp = "2025-04-02T00:00:00Z".parse()?;
    let quiet = |_: u64, _: u64| {};

    for by in [By::Plan, By::Account, By::Model, By::Day, By::Key] {
        timed(&format!("margin by {by:?}"), || {
            weir::margin::report(&store, &books, by, range, now, &quiet)
        })?;
    }
    let changes = |map: Option<&str>, limit: Option<&str>| -> Result<Changes, Failure> {
        Ok(Changes {
            maps: map.map(str::parse).transpose()?.into_iter().collect(),
            limits: limit.map(str::parse).transpose()?.into_iter().collect(),
            ..Changes::default()
        })
    };
    for (name, changes) in [
        (
            "a model map",
            changes(Some("gpt-4o=gpt-4.5-preview"), None)?,
        ),
        (
            "a limit per period",
            changes(None, Some("pro:cost=150/period"))?,
        ),
        ("a limit per hour", changes(None, Some("pro:cost=1/hour"))?),
    ] {
        timed(&format!("what-if with {name}"), || {
            what_if(
                &store,
                &books,
                &prices,
                &changes,
                By::Plan,
                range,
                now,
                &quiet,
            )
        })?;
    }
    let question = Question {
        plan: "pro".into(),
        target_ppm: 300_000,
        range,
    };
    timed("advice", || {
        advise(&store, &books, &prices, &question, now, &quiet)
    })?;
    Ok(())
}

/// Runs it three times and prints the best; and the CPU time of the process, since a machine may be busy otherwise.
fn timed<T, E: std::error::Error + 'static>(
    name: &str,
    run: impl Fn() -> Result<T, E>,
) -> Result<(), Failure> {
    let (mut best, mut best_cpu) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let (started, cpu) = (Instant::now(), cpu_time());
        std::hint::black_box(run()?);
        best = best.min(started.elapsed());
        best_cpu = best_cpu.min(cpu_time().saturating_sub(cpu));
    }
    let (best, best_cpu) = (best.as_secs_f64(), best_cpu.as_secs_f64());
    println!("{name}: {best:.3} s, {best_cpu:.2} s of CPU");
    Ok(())
}

/// What the kernel has counted for this process, in hundredths of a second; nothing where there is no `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets: state and ten numbers, then user and system time.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn prices() -> Result<PriceTable, Failure> {
    let mut models = Vec::new();
    for (name, input, output) in MODELS {
        let rates = Rates {
            input: Some(Money::parse_per_million(input)?),
            output: Some(Money::parse_per_million(output)?),
            ..Rates::default()
        };
        models.push(PricedModel {
            model: name.into(),
            aliases: Vec::new(),
            tokenizer: None,
            max_output_tokens: None,
            rows: vec![PriceRow {
                from: "2025-01-01".parse()?,
                rates,
                above: Vec::new(),
                tiers: Default::default(),
                source: "a benchmark".into(),
            }],
        });
    }
    Ok(PriceTable::new(models))
}

fn books(accounts: u64) -> Result<Books, Failure> {
    let plans = PLANS.map(|(id, price)| Plan {
        id: id.into(),
        price: Money::from_usd(price),
        currency: "USD".into(),
        period: Period::Month,
        limits: Vec::new(),
        fixed_cost: Money::ZERO,
        payment_fee: PaymentFee::default(),
        overage: None,
        trial_days: 0,
    });
    let first: jiff::civil::Date = "2025-01-01".parse()?;
    let mut all = Vec::new();
    for number in 0..accounts {
        let days = i64::try_from(number % 28)?;
        all.push(Account {
            id: account(number),
            plan: plan(number).into(),
            parent: None,
            since: first.checked_add(jiff::Span::new().days(days))?,
            until: None,
            name: None,
            currency: None,
            tags: Vec::new(),
            limits: Vec::new(),
        });
    }
    Ok(Books::new(plans, all, &[], &[])?)
}

fn account(number: u64) -> AccountId {
    AccountId::from(format!("subscriber-{number:06}").as_str())
}

fn plan(number: u64) -> &'static str {
    match number % 20 {
        0..=9 => "free",
        10..=13 => "copilot",
        14..=18 => "plus",
        _ => "pro",
    }
}

fn ledger(
    path: &Path,
    requests: u64,
    accounts: u64,
    prices: &PriceTable,
) -> Result<SqliteStore, Failure> {
    let store = SqliteStore::open(path)?;
    store.migrate()?;
    if store.approximate_entries()? >= requests {
        return Ok(store);
    }
    let started = Instant::now();
    let mut random = fastrand::Rng::with_seed(20_250_301);
    let first: Timestamp = "2025-03-01T00:00:00Z".parse()?;
    let month_ms = DAYS * 86_400_000;
    let lineages: Vec<Arc<[AccountId]>> = (0..accounts)
        .map(|number| Arc::from([account(number)]))
        .collect();
    let mut batch = Vec::with_capacity(BATCH);
    for number in 0..requests {
        let at = first + SignedDuration::from_millis(i64::try_from(number * month_ms / requests)?);
        batch.push(entry(&mut random, &lineages, prices, at)?);
        if batch.len() == BATCH || number + 1 == requests {
            store.append(&batch)?;
            batch.clear();
            // As a gateway's writer does about twice a second: the log is copied into the database and stays small.
            store.make_durable()?;
        }
    }
    println!(
        "made a ledger of {requests} requests from {accounts} accounts in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(store)
}

fn entry(
    random: &mut fastrand::Rng,
    lineages: &[Arc<[AccountId]>],
    prices: &PriceTable,
    at: Timestamp,
) -> Result<Entry, Failure> {
    // The square of a uniform number: a tenth of the accounts make a third of the requests.
    let share = random.f64() * random.f64();
    let number = ((share * lineages.len() as f64) as usize).min(lineages.len() - 1);
    let lineage = lineages.get(number).ok_or("no account")?;
    let (model, _, _) = *MODELS.get(random.usize(0..4)).ok_or("no model")?;
    let usage = Usage {
        input_tokens: random.u64(50..20_000),
        output_tokens: random.u64(10..2_000),
        ..Usage::default()
    };
    let (priced, row) = prices.price(model, at).ok_or("no price")?;
    let cost = row.cost(&usage, None)?;
    Ok(Entry {
        id: RequestId::new(),
        started_at: at,
        ended_at: at,
        lineage: Arc::clone(lineage),
        key: format!("key-{number}").as_str().into(),
        plan: plan(number as u64).into(),
        endpoint: "chat.completions".into(),
        model: Some(ModelName::from(model)),
        served_model: Some(ModelName::from(model)),
        upstream: Some("openai".into()),
        service_tier: None,
        status: 200,
        outcome: Outcome::Completed,
        reason: None,
        streamed: true,
        usage,
        usage_source: UsageSource::Reported,
        cost: cost.by_class,
        undiscounted: cost.undiscounted,
        priced_by: vec![PricedBy {
            model: Arc::clone(&priced.model),
            from: row.from,
        }],
        first_token_ms: None,
        duration_ms: 1_000,
        retries: 0,
        end_user: None,
        tags: Vec::new(),
        corrects: None,
    })
}
