//! Connections to the servers of one URL: how they are made, how long a call may take, and what its failure means.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
    Runtime as PoolRuntime, Timeouts,
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;

use super::{CALL_TIMEOUT, READ_TIMEOUT};
use crate::ledger::store::StoreError;
use crate::secret::Secret;

/// Connections of one gateway: the writer's, the keeper's, and a few for reading.
const CONNECTIONS_MAX: usize = 6;
/// To reach the server, and to get a connection from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the server holds itself to, on each connection.
const SESSION: &str = "SET statement_timeout = '60s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '120s'; SET synchronous_commit = on";

/// A pool of connections, and the thread that drives them.
pub(super) struct Connections {
    /// Drives the connections; taken when the store goes.
    runtime: Option<Runtime>,
    pool: Pool,
    /// Where the servers are, for errors.
    place: String,
}

impl Connections {
    /// None is made yet.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the URL or the system's TLS roots cannot be used.
    pub(super) fn new(url: &Secret) -> Result<Connections, StoreError> {
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
        Ok(Connections {
            runtime: Some(runtime),
            pool,
            place,
        })
    }

    /// Runs a call on one connection to its end on the calling thread. Getting the connection counts to its time.
    pub(super) fn call<T>(
        &self,
        timeout: Duration,
        call: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Unavailable("the store is closed".into()));
        };
        let call = async { call(&mut self.connection().await?).await };
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

impl Drop for Connections {
    fn drop(&mut self) {
        // An ordinary drop waits, which an asynchronous context forbids.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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
pub(super) async fn piece<T>(
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
pub(super) fn failed(error: tokio_postgres::Error) -> StoreError {
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
    use crate::ledger::postgres::PostgresStore;
    use crate::ledger::samples::sample;
    use crate::ledger::store::Store as _;

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
}
