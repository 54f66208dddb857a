//! What the ledger costs: `cargo bench --bench ledger`.
//!
//! First the price of the two journal records of a request and of a report's read; then, printed as they are, how long
//! batches take while entries come at a steady 20,000 a second, and whether that depends on how many there are already.
//! `WEIR_BENCH_ENTRIES` (default 300,000) says how many that is; the month of ten million requests takes some minutes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that goes wrong should stop at once"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use jiff::{SignedDuration, Timestamp};

use weir::ids::{AccountId, RequestId};
use weir::ledger::postgres::PostgresStore;
use weir::ledger::sqlite::SqliteStore;
use weir::ledger::store::{EntryFilter, Grain, Store, TimeRange};
use weir::ledger::{Entry, Fsync, Ledger, Outcome, Settings};
use weir::money::Money;
use weir::price::{CostByClass, PricedBy};
use weir::secret::Secret;
use weir::tokens::{Usage, UsageSource};

const ACCOUNTS: u64 = 10_000;
const DAYS: u64 = 30;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(30);
    journal(&mut criterion);
    store(&mut criterion);
    criterion.final_summary();
    // Under `cargo test` a bench only has to run.
    if !std::env::args().any(|argument| argument == "--test") {
        records();
        size_and_speed();
        postgres();
    }
}

/// Begin and close of one request, the writer thread beside them.
fn journal(criterion: &mut Criterion) {
    for (name, fsync) in [
        ("never", Fsync::Never),
        ("every 50 ms", Fsync::Interval(50)),
        ("always", Fsync::Always),
    ] {
        let home = tempfile::tempdir().expect("a directory");
        let (ledger, _) = Ledger::start(
            Settings {
                fsync,
                ..Settings::new(home.path().join("journal"))
            },
            Arc::new(sqlite(home.path())),
        )
        .expect("a ledger");
        let mut number = 0;
        criterion.bench_function(&format!("begin and close, fsync {name}"), |b| {
            b.iter_batched(
                || {
                    number += 1;
                    let entry = entry(number);
                    (entry.clone(), entry)
                },
                |(begun, closed)| {
                    ledger.begin(&begun).expect("begun");
                    ledger.close(closed).expect("closed");
                },
                BatchSize::SmallInput,
            );
        });
        ledger.shutdown(Duration::from_secs(60)).expect("an end");
    }
}

/// The same without a clock on each: what a request's thread spends on the processor, the writer being idle for once.
fn records() {
    let home = tempfile::tempdir().expect("a directory");
    let (ledger, _) = Ledger::start(
        Settings {
            batch_wait: Duration::from_secs(60),
            batch_entries_max: usize::MAX,
            ..Settings::new(home.path().join("journal"))
        },
        Arc::new(sqlite(home.path())),
    )
    .expect("a ledger");
    let entries = batch(0, 10_000);
    let (mut begun, mut closed) = (Spent::default(), Spent::default());
    begun.on(|| {
        for entry in &entries {
            ledger.begin(entry).expect("begun");
        }
    });
    closed.on(|| {
        for entry in entries {
            ledger.close(entry).expect("closed");
        }
    });
    println!("\nbegin: {}", begun.each(10_000));
    println!("close: {}", closed.each(10_000));
}

fn store(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a directory");
    let store = sqlite(home.path());
    let mut number = 0;
    for size in [1, 100, 1000] {
        criterion.bench_function(&format!("sqlite: a batch of {size}"), |b| {
            b.iter_batched(
                || {
                    number += 1;
                    batch(number * 1000, size)
                },
                |entries| store.append(&entries).expect("appended"),
                BatchSize::LargeInput,
            );
        });
    }
    criterion.bench_function("sqlite: a page of 100 entries", |b| {
        b.iter(|| {
            let mut left = 100;
            let filter = EntryFilter {
                descending: true,
                ..EntryFilter::default()
            };
            store
                .scan(&filter, &mut |entry| {
                    black_box(entry);
                    left -= 1;
                    left > 0
                })
                .expect("read");
        });
    });
}

/// Fills a store, and prints what it does at the beginning and when it is full.
fn size_and_speed() {
    let total: u64 = std::env::var("WEIR_BENCH_ENTRIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(300_000);
    let home = tempfile::tempdir().expect("a directory");
    let store = Arc::new(sqlite(home.path()));
    println!("\n20,000 entries a second for five seconds, {ACCOUNTS} accounts, SQLite:");
    steady(&store, home.path(), 20_000 * 1_000_000);
    let mut spent = Spent::default();
    for start in (0..total).step_by(1000) {
        let entries = batch(start, 1000);
        spent.on(|| {
            store.append(&entries).expect("appended");
            if start % 5000 == 0 {
                store.make_durable().expect("durable");
            }
        });
    }
    println!(
        "filled with {total} entries in batches of 1,000: {}",
        spent.each(total)
    );
    println!("the same again, on top of them:");
    steady(&store, home.path(), 20_000 * 2_000_000);
    let mut rows = 0_u64;
    let mut spent = Spent::default();
    let range = TimeRange {
        since: Timestamp::from_second(1_740_787_200).expect("a time"),
        until: Timestamp::from_second(1_740_787_200 + 86_400 * 40).expect("a time"),
    };
    spent.on(|| {
        store
            .rollup(Grain::Day, range, &mut |row| {
                rows += 1;
                black_box(row);
            })
            .expect("read");
    });
    println!("{rows} rollup rows by day: {}", spent.each(rows));
    drop(store);
    let began = Instant::now();
    let store = sqlite(home.path());
    let count = store.approximate_entries().expect("counted");
    println!("opened with {count} entries in {:?}", began.elapsed());
}

/// A gateway's five seconds at 20,000 requests a second.
fn steady(store: &Arc<SqliteStore>, home: &Path, first: u64) {
    let writes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&writes);
    let (ledger, _) = Ledger::start(
        Settings {
            on_write: Some(Arc::new(move |time| {
                seen.lock().expect("a lock").push(time);
            })),
            ..Settings::new(home.join("journal"))
        },
        store.clone(),
    )
    .expect("a ledger");
    let began = Instant::now();
    let mut longest_queue = 0;
    for tick in 0..500_u64 {
        for number in 0..200 {
            ledger
                .close(entry(first + tick * 200 + number))
                .expect("closed");
        }
        longest_queue = longest_queue.max(ledger.queue_len());
        let due = Duration::from_millis((tick + 1) * 10);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    let sent = began.elapsed();
    ledger.flush(Duration::from_secs(60)).expect("flushed");
    let rate = 100_000.0 / began.elapsed().as_secs_f64();
    ledger.shutdown(Duration::from_secs(60)).expect("an end");
    let mut times = writes.lock().expect("a lock").clone();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    println!(
        "  {rate:.0} entries/s stored ({sent:?} to send); {} commits, p50 {:?}, p99 {:?}, longest {:?}; queue at most {longest_queue}",
        times.len(),
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
}

/// How fast one gateway writes to the PostgreSQL that `WEIR_TEST_POSTGRES` names (an empty database).
fn postgres() {
    let Ok(url) = std::env::var("WEIR_TEST_POSTGRES") else {
        println!("PostgreSQL: skipped, WEIR_TEST_POSTGRES names no server");
        return;
    };
    let store = PostgresStore::new(&Secret::new(url)).expect("a store");
    store.migrate().expect("migrated");
    let base = fastrand::u64(..1 << 40);
    let batches: Vec<Vec<Entry>> = (0..50)
        .map(|number| batch(base + number * 1000, 1000))
        .collect();
    let mut spent = Spent::default();
    for batch in &batches {
        spent.on(|| store.append(batch).expect("appended"));
    }
    println!("PostgreSQL, batches of 1,000: {}", spent.each(50_000));
}

/// Time on the clock and on this thread's processor: the second says more when the machine does other work.
#[derive(Default)]
struct Spent {
    wall: Duration,
    processor: Duration,
}

impl Spent {
    fn on<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (began, before) = (Instant::now(), processor_time());
        let value = work();
        self.wall += began.elapsed();
        self.processor += processor_time().saturating_sub(before);
        value
    }

    fn each(&self, count: u64) -> String {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        format!(
            "{:.2?}, {:.2} µs each, of which {:.2} µs on the processor",
            self.wall,
            each(self.wall),
            each(self.processor)
        )
    }
}

fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn sqlite(home: &Path) -> SqliteStore {
    let store = SqliteStore::open(&home.join("weir.db")).expect("a store");
    store.migrate().expect("migrated");
    store
}

fn batch(first: u64, size: u64) -> Vec<Entry> {
    (first..first + size).map(entry).collect()
}

/// A request of one of ten thousand accounts, some time in a month. As in a gateway, ids and times grow together; the
/// times of a whole month pass in every 300,000 entries.
fn entry(number: u64) -> Entry {
    let account = number.wrapping_mul(7_919) % ACCOUNTS;
    let offset_ms = (number % 300_000) * DAYS * 86_400_000 / 300_000;
    let started_at =
        Timestamp::from_millisecond(1_740_787_200_000 + offset_ms as i64).expect("a time");
    let model = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "o3"][(number % 4) as usize];
    let input_tokens = 500 + number % 4_000;
    Entry {
        id: RequestId(uuid::Uuid::from_u128(
            0x0195_4f10_0000_7000_8000_0000_0000_0000 + u128::from(number),
        )),
        started_at,
        ended_at: started_at + SignedDuration::from_millis(1_800),
        lineage: [
            AccountId::from(format!("team-{}", account % 100).as_str()),
            AccountId::from(format!("account-{account}").as_str()),
        ]
        .into(),
        key: format!("key-{account}").as_str().into(),
        plan: ["free", "plus", "pro"][(account % 3) as usize].into(),
        endpoint: "chat.completions".into(),
        model: Some(model.into()),
        served_model: Some(model.into()),
        upstream: Some("openai".into()),
        service_tier: Some("default".into()),
        status: 200,
        outcome: Outcome::Completed,
        reason: None,
        streamed: true,
        usage: Usage {
            input_tokens,
            cache_read_input_tokens: 256,
            output_tokens: 150 + number % 500,
            reasoning_output_tokens: 64,
            ..Usage::default()
        },
        usage_source: UsageSource::Reported,
        cost: CostByClass {
            input: Money::from_picos(2_500_000 * i128::from(input_tokens - 256)),
            cache_read_input: Money::from_picos(1_250_000 * 256),
            output: Money::from_picos(10_000_000 * i128::from(86 + number % 500)),
            reasoning_output: Money::from_picos(640_000_000),
            ..CostByClass::default()
        },
        undiscounted: Money::from_picos(12_000_000_000),
        priced_by: vec![PricedBy {
            model: model.into(),
            from: jiff::civil::date(2024, 10, 2),
        }],
        first_token_ms: Some(310),
        duration_ms: 1_800,
        retries: 0,
        end_user: None,
        tags: vec![("feature".into(), "search".into())],
        corrects: None,
    }
}
