//! `[quota]`: where quota counters are kept, and what happens when they cannot be reached.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Table;
use super::value::Value;
use crate::secret::Secret;

/// Where quota counters are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// The counters' place. In memory.
    pub backend: QuotaBackend,
    /// What a request gets while the counters cannot be reached. Closed.
    pub fail: QuotaFailure,
    /// What is reserved for a request that states no maximum. Adaptive.
    pub mode: ReservationMode,
    /// The longest that one call of a shared backend may take. 40 ms.
    pub timeout: Duration,
    /// Gateways that share the counters: while they cannot be reached, each lets through one part in so many of a limit. 1.
    pub gateways: u32,
}

/// Where counters are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum QuotaBackend {
    /// In this process; rebuilt from the ledger at start.
    Memory,
    /// In Redis or Valkey, shared by several gateways.
    Redis(Redis),
}

/// A Redis or Valkey service.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `redis://` or `rediss://` URLs, at least one, all of one scheme: secret, for they may hold passwords.
    pub urls: Vec<Secret>,
    /// What the URLs are.
    pub topology: RedisTopology,
    /// Certificates (PEM) that a server's own must lead to, in place of the system's.
    pub tls_ca: Option<PathBuf>,
}

/// What a list of Redis URLs means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    Single,
    /// Nodes of a cluster (`urls` without `sentinel_master`).
    Cluster,
    /// Sentinels that watch this master (`sentinel_master`).
    Sentinel {
        /// The master's name.
        master: String,
    },
}

/// What a request gets while a shared backend cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaFailure {
    /// It is refused with a 503: no limit is ever passed.
    Closed,
    /// This gateway's share of each limit holds locally.
    Open,
}

/// What is reserved for a request that states no maximum of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationMode {
    /// The most that the model can give: a limit is never passed, and little else fits meanwhile.
    Strict,
    /// What this account's requests to the model have needed at a high quantile; an answer that needs more ends early.
    Adaptive,
}

impl Quota {
    pub(super) fn read(table: &Table<'_>) -> Quota {
        Quota {
            backend: QuotaBackend::read(table).unwrap_or(QuotaBackend::Memory),
            fail: table.or("fail", QuotaFailure::Closed, |value| {
                value.word(&[
                    ("closed", QuotaFailure::Closed),
                    ("open", QuotaFailure::Open),
                ])
            }),
            mode: table.or("mode", ReservationMode::Adaptive, |value| {
                value.word(&[
                    ("adaptive", ReservationMode::Adaptive),
                    ("strict", ReservationMode::Strict),
                ])
            }),
            timeout: table.or("timeout", Duration::from_millis(40), |value| {
                value.duration(Duration::from_millis(1)..=Duration::from_secs(10))
            }),
            gateways: table.or("gateways", 1, |value| value.small_count(1..=10_000)),
        }
    }
}

impl QuotaBackend {
    fn read(table: &Table<'_>) -> Option<QuotaBackend> {
        let (one, several) = (table.get("url"), table.get("urls"));
        let master = table.optional("sentinel_master", |value| {
            match value.text("the name of a master")? {
                "" => value.wrong("", "the name of a master"),
                name => Some(name.to_owned()),
            }
        });
        let (urls, topology) = match (one, several) {
            (Some(_), Some(several)) => {
                several.refuse("is given beside \"url\", expected one of the two");
                return None;
            }
            (None, None) => (Vec::new(), RedisTopology::Single),
            (Some(one), None) => match one.as_text() {
                Some("memory:") => (Vec::new(), RedisTopology::Single),
                _ => (
                    vec![redis_url(&one, "\"memory:\", ")?],
                    RedisTopology::Single,
                ),
            },
            (None, Some(several)) => {
                let items = several.items("an array of Redis URLs")?;
                if items.is_empty() {
                    several.refuse("is empty, expected at least one Redis URL");
                }
                let count = items.len();
                let urls: Vec<Secret> = items
                    .iter()
                    .filter_map(|item| redis_url(item, ""))
                    .collect();
                if urls.len() < count || urls.is_empty() {
                    return None;
                }
                let tls = |url: &Secret| url.expose().starts_with("rediss:");
                if urls.iter().any(tls) && !urls.iter().all(tls) {
                    several.refuse("mixes redis:// and rediss://, expected one of the two");
                    return None;
                }
                (urls, RedisTopology::Cluster)
            }
        };
        let tls_ca = table.optional("tls_ca", |value| value.pem_file("CERTIFICATE"));
        let topology = match master {
            Some(_) if urls.is_empty() => {
                table.refuse("has a sentinel_master without a Redis URL, expected \"urls\"");
                return None;
            }
            Some(master) => RedisTopology::Sentinel { master },
            None => topology,
        };
        if urls.is_empty() {
            return Some(QuotaBackend::Memory);
        }
        Some(QuotaBackend::Redis(Redis {
            urls,
            topology,
            tls_ca,
        }))
    }
}

/// The URL is a secret as a whole: its mistakes are shown without it.
fn redis_url(value: &Value<'_>, or: &str) -> Option<Secret> {
    let url = value.secret()?;
    let scheme = ["redis://", "rediss://"]
        .iter()
        .any(|scheme| url.expose().starts_with(scheme));
    if scheme && redis::IntoConnectionInfo::into_connection_info(url.expose()).is_ok() {
        return Some(url);
    }
    value.refuse(format!(
        "is no Redis URL that can be used, expected {or}\"redis://HOST:PORT\" or \"rediss://HOST:PORT\""
    ));
    None
}
