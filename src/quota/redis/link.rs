//! The way to Redis: one server, a cluster, or a master that sentinels name. Every call has a time limit.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    Script, TlsCertificates, TlsMode,
};

use super::script::Arguments;
use crate::config::quota::{Redis, RedisTopology};

/// A way to Redis that connects when it is first used and again whenever it is lost.
pub(super) struct Link {
    way: Way,
    timeout: Duration,
    /// After a failure nobody asks until then: a request does not wait for what was just found to be away.
    rests_until: Mutex<Option<Instant>>,
}

enum Way {
    Single(ConnectionManager),
    Cluster {
        client: Box<ClusterClient>,
        connection: tokio::sync::Mutex<Option<ClusterConnection>>,
    },
    Sentinel {
        client: Box<tokio::sync::Mutex<SentinelClient>>,
        connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    },
}

/// Why Redis gave no answer. Never holds an address with its password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The configured address cannot be used.
    #[error("the address cannot be used: {0}")]
    Address(String),
    /// It did not answer in time.
    #[error("no answer within {0} ms")]
    Slow(u128),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl Link {
    const REST: Duration = Duration::from_millis(100);

    /// Must be called inside a Tokio runtime. Connects to nothing yet.
    pub(super) fn new(redis: &Redis, timeout: Duration) -> Result<Link, LinkError> {
        let address = |error: RedisError| LinkError::Address(error.category().to_owned());
        let certificates = match &redis.tls_ca {
            Some(path) => {
                let read = std::fs::read(path);
                let read = read.map_err(|error| LinkError::Address(error.to_string()))?;
                Some(TlsCertificates {
                    client_tls: None,
                    root_cert: Some(read),
                })
            }
            None => None,
        };
        let urls = || redis.urls.iter().map(|url| url.expose());
        let way = match &redis.topology {
            RedisTopology::Single => {
                let url = urls().next().unwrap_or_default();
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(timeout))
                    .set_response_timeout(Some(timeout))
                    .set_number_of_retries(1)
                    .set_min_delay(Duration::from_millis(10))
                    .set_max_delay(Duration::from_millis(200));
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(url, certificates),
                    None => Client::open(url),
                };
                let client = client.map_err(address)?;
                Way::Single(
                    ConnectionManager::new_lazy_with_config(client, config).map_err(address)?,
                )
            }
            RedisTopology::Cluster => {
                let mut builder = ClusterClient::builder(urls())
                    .connection_timeout(timeout)
                    .response_timeout(timeout)
                    .retries(2)
                    .min_retry_wait(1)
                    .max_retry_wait(10);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Way::Cluster {
                    client: Box::new(builder.build().map_err(address)?),
                    connection: tokio::sync::Mutex::default(),
                }
            }
            RedisTopology::Sentinel { master } => {
                let sentinels: Result<Vec<ConnectionInfo>, RedisError> = urls()
                    .map(IntoConnectionInfo::into_connection_info)
                    .collect();
                let client = sentinels
                    .and_then(|sentinels| sentinel_client(&sentinels, master, certificates))
                    .map_err(address)?;
                Way::Sentinel {
                    client: Box::new(tokio::sync::Mutex::new(client)),
                    connection: tokio::sync::Mutex::default(),
                }
            }
        };
        Ok(Link {
            way,
            timeout,
            rests_until: Mutex::default(),
        })
    }

    /// Runs a script for the tree of that root account. One round trip, but for the first call of a script that Redis
    /// does not have yet.
    pub(super) async fn call(
        &self,
        script: &Script,
        root: &str,
        arguments: &Arguments,
    ) -> Result<Vec<String>, LinkError> {
        let mut call = script.prepare_invoke();
        call.key(tree_key(root)).arg(arguments.packed());
        self.bounded(async {
            match &self.way {
                Way::Single(manager) => call.invoke_async(&mut manager.clone()).await,
                Way::Cluster { .. } => call.invoke_async(&mut self.cluster().await?).await,
                Way::Sentinel { .. } => call.invoke_async(&mut self.master().await?).await,
            }
        })
        .await
    }

    /// Runs one plain command.
    pub(super) async fn command<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
    ) -> Result<T, LinkError> {
        self.bounded(async {
            match &self.way {
                Way::Single(manager) => command.query_async(&mut manager.clone()).await,
                Way::Cluster { .. } => command.query_async(&mut self.cluster().await?).await,
                Way::Sentinel { .. } => command.query_async(&mut self.master().await?).await,
            }
        })
        .await
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster { .. })
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, LinkError> {
        if self.rests() {
            return Err(LinkError::Failed(
                "it did not answer a moment ago".to_owned(),
            ));
        }
        let answer = match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => LinkError::Failed(error.to_string()),
            Err(_) => LinkError::Slow(self.timeout.as_millis()),
        };
        self.forget().await;
        *self
            .rests_until
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now() + Self::REST);
        Err(answer)
    }

    fn rests(&self) -> bool {
        let until = *self
            .rests_until
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// After a failure the master may be another one. (A single server's manager and a cluster's connection find their
    /// way again themselves, the latter once it was made.)
    async fn forget(&self) {
        if let Way::Sentinel { connection, .. } = &self.way
            && let Ok(mut connection) = connection.try_lock()
        {
            *connection = None;
        }
    }

    async fn cluster(&self) -> Result<ClusterConnection, RedisError> {
        let Way::Cluster { client, connection } = &self.way else {
            return Err(not_this_way());
        };
        let mut connection = connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = ClusterConfig::new()
            .set_connection_timeout(self.timeout)
            .set_response_timeout(self.timeout);
        let made = client.get_async_connection_with_config(config).await?;
        *connection = Some(made.clone());
        Ok(made)
    }

    async fn master(&self) -> Result<MultiplexedConnection, RedisError> {
        let Way::Sentinel { client, connection } = &self.way else {
            return Err(not_this_way());
        };
        let mut connection = connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let mut client = client.lock().await;
        let made = client.get_async_connection_with_config(&config).await?;
        *connection = Some(made.clone());
        Ok(made)
    }
}

/// The sentinels' user and password are the master's too, and so is their TLS; the database is the first URL's.
fn sentinel_client(
    sentinels: &[ConnectionInfo],
    master: &str,
    certificates: Option<TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
    let Some(first) = sentinels.first() else {
        return builder.build();
    };
    if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
        builder = builder
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_sentinel_certificates(certificates.clone())
                .set_client_to_redis_certificates(certificates);
        }
    }
    let settings = first.redis_settings();
    if let Some(user) = settings.username() {
        builder = builder
            .set_client_to_sentinel_username(user)
            .set_client_to_redis_username(user);
    }
    if let Some(password) = settings.password() {
        builder = builder
            .set_client_to_sentinel_password(password)
            .set_client_to_redis_password(password);
    }
    builder.set_client_to_redis_db(settings.db()).build()
}

/// The braces are Redis Cluster's hash tag: all keys of a tree lie on one node.
pub(super) fn tree_key(root: &str) -> String {
    format!("weir:{{{root}}}:tree")
}

fn not_this_way() -> RedisError {
    RedisError::from((redis::ErrorKind::Client, "another topology"))
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
