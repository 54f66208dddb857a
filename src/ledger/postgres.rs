//! The shared store: PostgreSQL, for several gateways with one ledger.
//!
//! Batches are written with one insert of whole columns (`unnest`), duplicates left out, and the rollups of what was
//! really new are added in the same transaction. Rows are given in one order by all gateways, so that two of them never
//! wait for each other in a circle.
//!
//! Everything has a timeout: connecting, waiting for a connection, each statement (the server's), each call as a whole
//! (ours, for a server that has gone silent). A call that timed out may have been done; ids make its repetition harmless.

mod entries;
mod partitions;
mod rollups;
mod schema;
mod stored;
mod values;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
    Runtime as PoolRuntime, Timeouts,
};
use jiff::Timestamp;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;

use super::entry::Entry;
use super::store::{
    AccountEvent, AuditLine, EntryFilter, Grain, PlanEvent, RollupRow, Store, StoreError, Stored,
    StoredKey, TimeRange,
};
use crate::ids::{AccountId, KeyId};
use crate::plan::{Account, Plan};
use crate::secret::{KeyDigest, Secret};

/// Connections of one gateway: the writer's, the keeper's, and a few for reading.
const CONNECTIONS_MAX: usize = 6;
/// To reach the server, and to get a connection from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a call that writes or reads little.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// For each piece of a long read.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// For a migration.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);
/// What the server holds itself to, on each connection.
const SESSION: &str = "SET statement_timeout = '60s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '120s'; SET synchronous_commit = on";

/// A ledger in a PostgreSQL database.
pub struct PostgresStore {
    /// Drives the connections; taken when the store goes.
    runtime: Option<Runtime>,
    pool: Pool,
    /// Where the servers are, for errors.
    place: String,
    partitions: partitions::Known,
}

impl PostgresStore {
    /// A store behind a `postgres://…` URL. No connection is made yet.
    ///
    /// With `sslmode=require` the server's certificate is checked against the operating system's roots (`SSL_CERT_FILE`
    /// names others); `prefer`, PostgreSQL's default, uses TLS where the server has it, checked as well.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the URL or the system's TLS roots cannot be used.
    pub fn new(url: &Secret) -> Result<PostgresStore, StoreError> {
        let unusable = |error: &dyn std::fmt::Display| StoreError::Refused(error.to_string());
        // The URL may hold a password: its parser's error does not quote it.
        let mut config: tokio_postgres::Config =
            url.expose().parse().map_err(|error| unusable(&error))?;
        config.connect_timeout(CONNECT_TIMEOUT);
        config.tcp_user_timeout(CALL_TIMEOUT);
        config.keepalives_idle(Duration::from_secs(30));
        if config.get_application_name().is_none() {
            config.application_name("weir");
        }
        let place = place(&config);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(|error| unusable(&error))?
            .with_no_client_auth();
        let manager = Manager::from_config(
            config,
            tokio_postgres_rustls::MakeRustlsConnect::new(tls),
            ManagerConfig {
                recycling_method: RecyclingMethod::Verified,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .runtime(PoolRuntime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(CONNECT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CONNECT_TIMEOUT),
            })
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    let set = client.batch_execute(SESSION).await;
                    set.map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| unusable(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("weir-postgres")
            .enable_all()
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(PostgresStore {
            runtime: Some(runtime),
            pool,
            place,
            partitions: partitions::Known::default(),
        })
    }

    /// Runs a call to its end on the calling thread, for as long as it may take.
    fn run<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Unavailable("the store is closed".into()));
        };
        let bounded = async {
            tokio::time::timeout(timeout, call)
                .await
                .map_err(|_| StoreError::Unavailable("PostgreSQL did not answer in time".into()))?
        };
        let named = |text: String| format!("{}: {text}", self.place);
        runtime.block_on(bounded).map_err(|error| match error {
            StoreError::Unavailable(text) => StoreError::Unavailable(named(text)),
            StoreError::Damaged(text) => StoreError::Damaged(named(text)),
            refused => refused,
        })
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => failed(error),
            PoolError::PostCreateHook(HookError::Backend(error)) => failed(error),
            other => StoreError::Unavailable(format!("PostgreSQL: {other}")),
        })
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore(…)")
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // An ordinary drop waits, which an asynchronous context forbids.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for PostgresStore {
    fn migrate(&self) -> Result<(), StoreError> {
        self.run(MIGRATE_TIMEOUT, async {
            let mut connection = self.connection().await?;
            schema::migrate(&mut connection).await?;
            self.partitions
                .ahead(&mut connection, Timestamp::now())
                .await
        })
    }

    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        if entries.is_empty() {
            return Ok(0);
        }
        self.run(CALL_TIMEOUT, async {
            let mut connection = self.connection().await?;
            self.partitions
                .for_entries(&mut connection, entries)
                .await?;
            entries::insert(&mut connection, entries).await
        })
    }

    /// Commits wait for the server's disk (`synchronous_commit`), so that nothing is left to do but upkeep.
    fn make_durable(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        if !self.partitions.is_due(now) {
            return Ok(());
        }
        self.run(CALL_TIMEOUT, async {
            let mut connection = self.connection().await?;
            self.partitions.ahead(&mut connection, now).await
        })
    }

    fn scan(
        &self,
        filter: &EntryFilter,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), StoreError> {
        self.run(Duration::MAX, async {
            let mut connection = self.connection().await?;
            entries::scan(&mut connection, filter, each).await
        })
    }

    fn rollup(
        &self,
        grain: Grain,
        range: TimeRange,
        each: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError> {
        self.run(Duration::MAX, async {
            let mut connection = self.connection().await?;
            rollups::read(&mut connection, grain, range, each).await
        })
    }

    fn approximate_entries(&self) -> Result<u64, StoreError> {
        self.run(CALL_TIMEOUT, async {
            let connection = self.connection().await?;
            entries::approximate(&connection).await
        })
    }

    fn pepper(&self) -> Result<Vec<u8>, StoreError> {
        self.run(CALL_TIMEOUT, async {
            let connection = self.connection().await?;
            stored::pepper(&connection).await
        })
    }

    fn stored_version(&self) -> Result<u64, StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::version(&**self.connection().await?).await
        })
    }

    fn stored(&self) -> Result<Stored, StoreError> {
        self.run(READ_TIMEOUT, async {
            stored::read(&mut self.connection().await?).await
        })
    }

    fn put_plan(
        &self,
        plan: &Plan,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::put_plan(&mut self.connection().await?, plan, based_on, audit).await
        })
    }

    fn put_account(
        &self,
        account: &Account,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::put_account(&mut self.connection().await?, account, based_on, audit).await
        })
    }

    fn put_key(
        &self,
        key: &StoredKey,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::put_key(&mut self.connection().await?, key, based_on, audit).await
        })
    }

    fn revoke_key(
        &self,
        key: &KeyId,
        digest: &KeyDigest,
        at: Timestamp,
        audit: &AuditLine,
    ) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::revoke_key(&mut self.connection().await?, key, digest, at, audit).await
        })
    }

    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError> {
        self.run(READ_TIMEOUT, async {
            let connection = self.connection().await?;
            stored::account_events(&connection, None).await
        })
    }

    fn account_events_of(&self, account: &AccountId) -> Result<Vec<AccountEvent>, StoreError> {
        self.run(CALL_TIMEOUT, async {
            let connection = self.connection().await?;
            stored::account_events(&connection, Some(account)).await
        })
    }

    fn add_account_events(&self, events: &[AccountEvent]) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::add_account_events(&mut self.connection().await?, events).await
        })
    }

    fn plan_events(&self, each: &mut dyn FnMut(PlanEvent)) -> Result<(), StoreError> {
        self.run(READ_TIMEOUT, async {
            let connection = self.connection().await?;
            stored::plan_events(&connection, each).await
        })
    }

    fn add_plan_events(&self, events: &[PlanEvent]) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::add_plan_events(&mut self.connection().await?, events).await
        })
    }

    fn audit(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.run(READ_TIMEOUT, async {
            let connection = self.connection().await?;
            stored::audit(&connection, limit).await
        })
    }

    fn add_audit(&self, line: &AuditLine) -> Result<(), StoreError> {
        self.run(CALL_TIMEOUT, async {
            stored::add_audit(&**self.connection().await?, line).await
        })
    }
}

/// Where the database is, as errors name it: `host:port` of each server, never a user or a password.
fn place(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate();
    let servers = hosts.map(|(at, host)| {
        // One port may stand for all hosts.
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    servers.collect::<Vec<_>>().join(",")
}

/// One piece of a long read, which as a whole may take as long as its reader likes.
async fn piece<T>(
    read: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(read) => read.map_err(failed),
        Err(_) => Err(StoreError::Unavailable(
            "PostgreSQL did not answer in time".into(),
        )),
    }
}

/// PostgreSQL's errors by what can be done about them. Their texts hold no password.
fn failed(error: tokio_postgres::Error) -> StoreError {
    let Some(server) = error.as_db_error() else {
        let mut text = format!("PostgreSQL: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        return StoreError::Unavailable(text);
    };
    let text = format!(
        "PostgreSQL: {} ({})",
        server.message(),
        server.code().code()
    );
    match server.code().code().get(..2) {
        // A value that a column will not take, or a constraint.
        Some("22" | "23") => StoreError::Refused(text),
        // Another schema than ours, or damaged files.
        Some("42" | "XX") if *server.code() != SqlState::INSUFFICIENT_PRIVILEGE => {
            StoreError::Damaged(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::sample;
    use crate::ledger::store_tests::suite;

    /// A store in a database of its own, which goes with it.
    struct Temporary {
        store: PostgresStore,
        url: Secret,
        server: PostgresStore,
        database: String,
    }

    impl std::ops::Deref for Temporary {
        type Target = PostgresStore;
        fn deref(&self) -> &PostgresStore {
            &self.store
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
            let _ = execute(&self.server, &drop);
        }
    }

    fn execute(store: &PostgresStore, sql: &str) -> Result<(), StoreError> {
        store.run(READ_TIMEOUT, async {
            let connection = store.connection().await?;
            connection.batch_execute(sql).await.map_err(failed)
        })
    }

    /// `tests/with-services` starts a server and names it.
    fn temporary() -> Option<Temporary> {
        let Ok(server) = std::env::var("WEIR_TEST_POSTGRES") else {
            println!(
                "skipped: WEIR_TEST_POSTGRES names no server (run it under tests/with-services)"
            );
            return None;
        };
        let database = format!("weir_{}", uuid::Uuid::now_v7().simple());
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = Secret::new(format!("{base}/{database}"));
        let server = PostgresStore::new(&Secret::new(server)).unwrap();
        execute(&server, &format!("CREATE DATABASE {database}")).unwrap();
        Some(Temporary {
            store: PostgresStore::new(&url).unwrap(),
            url,
            server,
            database,
        })
    }

    suite!(temporary());

    #[test]
    fn several_gateways_migrate_and_write_at_once_without_waiting_in_a_circle() {
        let Some(home) = temporary() else { return };
        let url = &home.url;
        std::thread::scope(|scope| {
            for gateway in 0..4_u64 {
                scope.spawn(move || {
                    let store = PostgresStore::new(url).unwrap();
                    store.migrate().unwrap();
                    for round in 0..10 {
                        // Rows of the same rollups in another order each time; half of the entries are everyone's.
                        let mut batch: Vec<Entry> = (0..20)
                            .map(|number| sample(round * 100 + number))
                            .chain((0..20).map(|number| {
                                sample(10_000 * (gateway + 1) + round * 100 + number)
                            }))
                            .collect();
                        batch.rotate_left(usize::try_from(gateway * 7).unwrap());
                        store.append(&batch).unwrap();
                    }
                });
            }
        });
        assert_eq!(home.approximate_entries().unwrap(), 10 * 20 + 4 * 10 * 20);
    }

    #[test]
    fn entries_lie_in_the_partition_of_their_month() {
        let Some(home) = temporary() else { return };
        home.migrate().unwrap();
        let mut recent = sample(1);
        recent.id = crate::ids::RequestId::new();
        let mut strange = sample(2);
        strange.id = crate::ids::RequestId(uuid::Uuid::from_u128(7));
        home.append(&[sample(3), recent, strange]).unwrap();
        let counts: Vec<i64> = home
            .run(READ_TIMEOUT, async {
                let connection = home.connection().await?;
                let sql = "SELECT (SELECT count(*) FROM entries_other), (SELECT count(*) FROM entries_2025_03)";
                let row = connection.query_one(sql, &[]).await.map_err(failed)?;
                Ok(vec![row.get(0), row.get(1)])
            })
            .unwrap();
        assert_eq!(counts, [1, 1]);
        assert!(!home.partitions.is_due(Timestamp::now()), "made ahead");
    }

    #[test]
    fn a_server_that_is_not_there_is_unavailable_soon_and_its_password_is_not_told() {
        let url = Secret::new("postgres://weir:hunter2@127.0.0.1:1/weir".into());
        let store = PostgresStore::new(&url).unwrap();
        let began = std::time::Instant::now();
        let error = store.append(&[sample(1)]).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("127.0.0.1:1: PostgreSQL"), "{said}");
        assert!(
            !said.contains("hunter2") && !said.contains("weir@"),
            "{said}"
        );
        assert!(began.elapsed() < CALL_TIMEOUT);
        let error = PostgresStore::new(&Secret::new("postgres://u:hunter2@/?x=y".into()));
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_server_that_goes_silent_does_not_hold_a_call_for_ever() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = Secret::new(format!("postgres://weir@127.0.0.1:{port}/weir"));
        let store = PostgresStore::new(&url).unwrap();
        let began = std::time::Instant::now();
        assert!(matches!(
            store.stored_version(),
            Err(StoreError::Unavailable(_))
        ));
        assert!(began.elapsed() < CALL_TIMEOUT + CONNECT_TIMEOUT);
    }

    #[test]
    fn zero_bytes_in_texts_are_dropped() {
        let Some(home) = temporary() else { return };
        home.migrate().unwrap();
        let mut entry = sample(1);
        entry.end_user = Some("a\0b".into());
        entry.tags = vec![("feature".into(), "x\0y".into())];
        home.append(std::slice::from_ref(&entry)).unwrap();
        let mut found = None;
        home.scan(&EntryFilter::default(), &mut |entry| {
            found = Some(entry);
            true
        })
        .unwrap();
        assert_eq!(found.unwrap().end_user.as_deref(), Some("ab"));
    }
}
