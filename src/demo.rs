//! `weir demo`: the whole system with no account anywhere. A simulated provider, plans and subscribers with a heavy tail of
//! habits, three months of their history in a real ledger, and their live traffic through the real gateway.
//!
//! ```text
//! world ──▶ history ──▶ store ◀── gateway ◀── traffic ◀── world
//!  who        what they     ▲        │           what they do now
//!             did           │        ▼
//!                        welcome   upstream (simulated)
//! ```
//!
//! The history is the same for a seed and a day; live traffic is not.

mod allowance;
mod chance;
mod config;
mod directory;
mod habits;
mod history;
mod tasks;
mod traffic;
mod upstream;
mod welcome;
mod world;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::Offset;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigErrors};
use crate::gateway::{self, Running, StartError};
use crate::ids::PlanId;
use crate::ledger::store::{AuditLine, Store, StoreError, StoredKey};
use crate::listen::Connections;
use crate::margin::MarginError;
use crate::secret::{NoRandomness, Pepper, Secret, SecretSha256};
use directory::Directory;
use history::Past;
use traffic::Flow;
use welcome::Welcome;
use world::World;

/// How the demo should be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data path.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Whether the next free port would do as well, for each of them.
    pub wished_ports: (bool, bool),
    /// Where its files go, and stay; a temporary directory, removed at the end, without.
    pub directory: Option<PathBuf>,
    /// What chance hangs on: the same seed gives the same history on the same day.
    pub seed: u64,
    /// Days of history, today included.
    pub history_days: u32,
    /// Live requests a second, on average.
    pub rate: f64,
    /// Ends by itself after so long.
    pub ends_after: Option<Duration>,
    /// A configuration whose plans stand in for the demo's own.
    pub plans: Option<PathBuf>,
}

/// Why the demo does not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Its directory cannot be used.
    #[error("{path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error} (give another one, or leave the option out)")]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The simulated provider has no port.
    #[error("the simulated provider cannot listen: {0}")]
    Upstream(std::io::Error),
    /// No randomness for keys.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The file whose plans were to stand in cannot be used.
    #[error("{path}: {reason}")]
    Plans {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The demo's own configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The ledger cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The figures cannot be shown.
    #[error(transparent)]
    Margin(#[from] MarginError),
    /// A blocking task was lost: the runtime is stopping.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo until `stop` is cancelled or its time is over; `say` gets what stands on standard output.
///
/// # Errors
/// See [`DemoError`].
pub async fn run(
    settings: Settings,
    stop: CancellationToken,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(), DemoError> {
    let began = Instant::now();
    let directory = Directory::make(settings.directory.as_deref())?;
    let provider = Connections::default();
    let upstream = upstream::start(&provider).map_err(DemoError::Upstream)?;
    let token = Secret::generate()?;
    let config = configure(&settings, &directory, upstream, &token)?;
    let now = Timestamp::now();
    let today = Offset::UTC.to_datetime(now).date();
    let world = Arc::new(World::new(settings.seed, today, settings.history_days)?);
    check_plans(&settings, &config, &world)?;
    say(&format!(
        "weir demo: {} accounts and {} days of their requests are being made up (seed {}) …",
        world.accounts.len(),
        settings.history_days,
        settings.seed
    ));
    let past = Past {
        seed: settings.seed,
        today,
        days: settings.history_days,
        now,
    };
    let requests = remember(&config, &world, past, &stop).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    let running = gateway::start(config, Some(directory.configuration())).await?;
    let welcome = Welcome {
        addresses: (running.addresses.clone(), running.admin_addresses.clone()),
        token,
        directory: directory.path().to_owned(),
        is_kept: directory.is_kept(),
        requests,
        history_days: settings.history_days,
        took: began.elapsed(),
    };
    let text = welcome_text(&running, &world, welcome).await?;
    say(&text);

    let stop_traffic = stop.child_token();
    let flow = Flow {
        gateway: running
            .addresses
            .first()
            .copied()
            .unwrap_or(settings.listen),
        rate: settings.rate,
        seed: settings.seed,
    };
    let traffic = tokio::spawn(traffic::run(world, flow, stop_traffic.clone()));
    let end = settings.ends_after.unwrap_or(Duration::MAX);
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(end) => {}
    }
    say("\nstopping …");
    stop_traffic.cancel();
    // A traffic task that was lost has sent its last request too.
    let _ = traffic.await;
    running.stop().await;
    provider.stop.cancel();
    drop(directory);
    Ok(())
}

/// Finds free ports and writes the configuration, then reads it as any other.
fn configure(
    settings: &Settings,
    directory: &Directory,
    upstream: SocketAddr,
    token: &Secret,
) -> Result<Config, DemoError> {
    let listen = free(settings.listen, settings.wished_ports.0, None)?;
    let admin = free(settings.admin, settings.wished_ports.1, Some(listen))?;
    let places = config::Places {
        directory: directory.path(),
        listen,
        admin,
        token,
        upstream,
    };
    let text = match &settings.plans {
        Some(path) => config::text(&places, &plans_of(path)?),
        None => config::text(&places, config::OWN_PLANS),
    };
    directory.write_configuration(&text)?;
    Ok(crate::config::load(Some(&directory.configuration()))?)
}

/// The plans of another file: all that the subscribers have must be there.
fn plans_of(path: &Path) -> Result<String, DemoError> {
    let unusable = |reason| DemoError::Plans {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    config::plans_of(&text).map_err(unusable)
}

/// Every subscriber's plan is there, now and in the past.
fn check_plans(settings: &Settings, config: &Config, world: &World) -> Result<(), DemoError> {
    let known: HashSet<&PlanId> = config.plans.iter().map(|plan| &plan.id).collect();
    let of_past = world.subscribers.iter().flat_map(|one| &one.plans);
    let held = of_past.map(|(_, plan)| plan);
    let mut held = held.chain(world.accounts.iter().map(|account| &account.plan));
    match held.find(|plan| !known.contains(plan)) {
        None => Ok(()),
        Some(plan) => Err(DemoError::Plans {
            path: settings.plans.clone().unwrap_or_default(),
            reason: format!("there is no plan {plan}, which the demo's subscribers have"),
        }),
    }
}

/// The address itself if it is free, else the next one that is, where that will do.
fn free(wanted: SocketAddr, any: bool, other: Option<SocketAddr>) -> Result<SocketAddr, DemoError> {
    let last = if any { PORTS_TRIED } else { 1 };
    let mut address = wanted;
    let mut taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..last {
        // Port 0 is chosen when it is listened on.
        if address.port() == 0 {
            return Ok(address);
        }
        if other != Some(address) {
            match std::net::TcpListener::bind(address) {
                Ok(_) => return Ok(address),
                Err(error) => taken = error,
            }
        }
        address.set_port(address.port().checked_add(1).unwrap_or(1024));
    }
    Err(DemoError::Taken {
        address: wanted,
        error: taken,
    })
}

const PORTS_TRIED: u32 = 100;

/// Puts accounts, keys and history into the store; how many requests the history has.
async fn remember(
    config: &Config,
    world: &Arc<World>,
    past: Past,
    stop: &CancellationToken,
) -> Result<u64, DemoError> {
    let ended = Arc::new(AtomicBool::new(false));
    let (config, world, flag) = (config.clone(), Arc::clone(world), Arc::clone(&ended));
    let mut writing = tokio::task::spawn_blocking(move || {
        let store = gateway::open_store(&config.store)?;
        enrol(store.as_ref(), &world, past.now)?;
        history::write(&world, &config, store.as_ref(), past, &flag)
    });
    let written = tokio::select! {
        written = &mut writing => written,
        () = stop.cancelled() => {
            ended.store(true, Ordering::Relaxed);
            writing.await
        }
    };
    Ok(written.map_err(|_| DemoError::Interrupted)??)
}

/// Makes the accounts and keys as a shop's own system would through the admin API.
fn enrol(store: &dyn Store, world: &World, now: Timestamp) -> Result<(), StoreError> {
    let pepper = Pepper::new(&store.pepper()?);
    let audit = |action: &str, subject: &str| AuditLine {
        at: now,
        actor: "demo".to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: "{}".to_owned(),
    };
    for account in &world.accounts {
        store.put_account(account, None, &audit("account.create", account.id.as_str()))?;
    }
    for subscriber in &world.subscribers {
        let key = crate::account::Key {
            id: subscriber.key.clone(),
            account: subscriber.account.clone(),
            digest: pepper.digest(&SecretSha256::of(subscriber.secret.expose().as_bytes())),
            models: Vec::new(),
            networks: Vec::new(),
            expires_at: None,
            revoked_at: None,
            limits: Vec::new(),
        };
        let created_at = subscriber.plans.first();
        let stored = StoredKey {
            key,
            created_at: created_at.map_or(now, |(since, _)| world::midnight(*since)),
        };
        store.put_key(&stored, None, &audit("key.create", subscriber.key.as_str()))?;
    }
    store.add_account_events(&world.events)
}

async fn welcome_text(
    running: &Running,
    world: &Arc<World>,
    welcome: Welcome,
) -> Result<String, DemoError> {
    let (gateway, world) = (Arc::clone(&running.gateway), Arc::clone(world));
    let text = tokio::task::spawn_blocking(move || {
        let config = &gateway.snapshot().config;
        welcome.text(config, gateway.store.as_ref(), &world, Timestamp::now())
    });
    Ok(text.await.map_err(|_| DemoError::Interrupted)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_an_error_where_it_was_asked_for_and_else_the_next_one_does() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let error = free(address, false, None).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        let other = free(address, true, None).unwrap();
        assert!(other.port() != address.port());
        let third = free(other, true, Some(other)).unwrap();
        assert_ne!(third, other);
    }
}
