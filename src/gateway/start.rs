//! Starting and stopping: every room from the configuration, then the listeners; and all of it back in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::added::AddedLimits;
use super::pulse::Pulse;
use super::recovered::{self, Recovered};
use super::seeder::LedgerSeeder;
use super::warnings::Warnings;
use super::{Gateway, gauges, pulse, rebuild, reload, webhook};
use crate::admin;
use crate::admit::{Conversations, Habits};
use crate::config::{self, AlsoNamed, Config, QuotaBackend, Startup, StoreUrl};
use crate::exchange::Background;
use crate::identify::Peer;
use crate::ledger::journal::Fsync;
use crate::ledger::postgres::PostgresStore;
use crate::ledger::sqlite::SqliteStore;
use crate::ledger::store::{Store, StoreError};
use crate::ledger::{Entry, Ledger, LedgerError, OnRecovered, Settings};
use crate::listen::{self, Bounds, Certificates, CertificatesError, Connections, Listener};
use crate::meter::count::{self, Counter, CounterSettings};
use crate::metrics::{Also, Metrics};
use crate::quota::{LinkError, Quota, RedisSettings, Seeder};
use crate::request;
use crate::secret::Pepper;
use crate::snapshot::{Snapshot, SnapshotError};

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database does not answer or is damaged.
    #[error("{0}")]
    Store(StoreError),
    /// The database cannot be reached. A gateway that went on without it would take revoked keys and forget what was spent.
    #[error(
        "{0}\na gateway does not start without its store: only there it finds which keys were revoked and what limits have used; gateways that run already go on without it"
    )]
    StoreAway(StoreError),
    /// The journal cannot be used.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The shared counters' address cannot be used.
    #[error("quota: {0}")]
    Quota(#[from] LinkError),
    /// An upstream cannot be set up.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    /// The gateway's own certificates cannot be used.
    #[error("{0}")]
    Certificates(#[from] CertificatesError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The configuration's files cannot be watched.
    #[error("cannot watch the configuration: {0}")]
    Watch(std::io::Error),
    /// The thread that computes gauges cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A blocking task was lost: the runtime is stopping.
    #[error("interrupted while starting")]
    Interrupted,
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> StartError {
        match error {
            StoreError::Unavailable(_) => StartError::StoreAway(error),
            other => StartError::Store(other),
        }
    }
}

/// A gateway that serves.
pub struct Running {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The data path's addresses, with the ports that the system chose where the configuration says 0.
    pub addresses: Vec<SocketAddr>,
    /// The admin listener's addresses.
    pub admin_addresses: Vec<SocketAddr>,
    data: Connections,
    admin: Connections,
    delay: Duration,
    grace: Duration,
}

/// Opens the database that a configuration names. Blocks.
///
/// # Errors
/// When it does not answer or is damaged.
pub fn open_store(store: &config::Store) -> Result<Arc<dyn Store>, StoreError> {
    let store: Arc<dyn Store> = match &store.url {
        StoreUrl::Sqlite(path) => Arc::new(SqliteStore::open(path)?),
        StoreUrl::Postgres(url) => Arc::new(PostgresStore::new(url)?),
    };
    store.migrate()?;
    Ok(store)
}

/// Starts a gateway: opens the store, books what a crash left in the journal, rebuilds the counters of limits from the
/// ledger, and listens.
///
/// # Errors
/// See [`StartError`]; nothing is listened on then.
pub async fn start(config: Config, path: Option<PathBuf>) -> Result<Running, StartError> {
    let metrics = Arc::new(Metrics::new(also(&config)));
    metrics.set_gauges(admin::gauges::unknown());
    let recovered = Arc::new(Recovered::default());
    let settings = ledger_settings(&config, &metrics, &recovered);
    let store_settings = config.store.clone();
    let opened = tokio::task::spawn_blocking(move || -> Result<_, StartError> {
        let store = open_store(&store_settings)?;
        let pepper = match &store_settings.pepper {
            Some(secret) => Pepper::new(secret.expose().as_bytes()),
            None => Pepper::new(&store.pepper()?),
        };
        let (ledger, recovery) = Ledger::start(settings, Arc::clone(&store))?;
        let stored = store.stored()?;
        Ok((store, pepper, ledger, recovery, stored))
    });
    let (store, pepper, ledger, recovery, stored) =
        opened.await.map_err(|_| StartError::Interrupted)??;
    if recovery.interrupted > 0 || recovery.closed > 0 {
        tracing::info!(
            closed = recovery.closed,
            interrupted = recovery.interrupted,
            "the last run ended without stopping: its requests were found in the journal and booked"
        );
    }
    if recovery.damaged_bytes > 0 {
        metrics.event("journal_damaged", "start");
        tracing::error!(
            bytes = recovery.damaged_bytes,
            "a journal of the last run is damaged: what could not be read was passed over"
        );
    }
    if recovery.others > 0 && config.quota.backend == QuotaBackend::Memory {
        tracing::warn!(
            others = recovery.others,
            "another gateway writes to this ledger: until it stops, each counts limits for itself, since [quota] is in memory"
        );
    }
    let snapshot = Arc::new(Snapshot::build(config.clone(), stored, &pepper, None)?);
    let seeder = Arc::new(LedgerSeeder::default());
    let quota = quota(&config.quota, &seeder)?;
    let gateway = Arc::new(Gateway {
        snapshot: ArcSwap::new(Arc::clone(&snapshot)),
        pepper,
        quota,
        ledger,
        store,
        counter: Counter::new(CounterSettings::default()),
        habits: Habits::default(),
        conversations: Conversations::default(),
        background: Background::default(),
        places: Arc::default(),
        body_memory: Arc::new(Semaphore::new(request::memory_kib(&config.server))),
        metrics,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        cut: CancellationToken::new(),
        startup: Startup::of(&config),
        path: path.clone(),
        pulse: Pulse::default(),
        warnings: Warnings::default(),
        added: AddedLimits::default(),
        reloading: tokio::sync::Mutex::new(()),
    });
    seeder.attach(&gateway);
    if gateway.quota.is_shared() {
        let roots = rebuild::roots(snapshot.chains.rules());
        gateway.quota.start(roots.clone(), Timestamp::now()).await;
        // Limits that changed while no gateway ran, or in another one's file.
        gateway.adopt_all(&snapshot).await;
        if !gateway.quota.is_up() || gateway.quota.fails_open() {
            rebuild::remembered(&gateway, &snapshot, Timestamp::now()).await?;
        }
        tokio::spawn(keep_shared(Arc::downgrade(&gateway)));
        gateway
            .tasks
            .spawn(recovered::settle(Arc::clone(&gateway), recovered));
    } else {
        rebuild::all(&gateway, &snapshot, Timestamp::now()).await?;
    }
    reload::record_plans(&gateway, &snapshot, None).await?;

    let watch = config::watch::Watch::new(path.as_deref(), &config).map_err(StartError::Watch)?;
    let running = listen(gateway, &config).await?;
    let gateway = &running.gateway;
    gateway
        .tasks
        .spawn(reload::watch_files(Arc::clone(gateway), watch));
    gateway
        .tasks
        .spawn(reload::watch_store(Arc::clone(gateway)));
    gateway.tasks.spawn(pulse::beat(Arc::clone(gateway)));
    gauges::start(gateway).map_err(StartError::Thread)?;
    gateway.tasks.spawn(webhook::deliver(Arc::clone(gateway)));
    // Loading a vocabulary takes a tenth of a second: not in the first request that needs it.
    tokio::task::spawn_blocking(count::warm_up);
    Ok(running)
}

async fn listen(gateway: Arc<Gateway>, config: &Config) -> Result<Running, StartError> {
    let data = Connections {
        cut: gateway.cut.clone(),
        ..Connections::default()
    };
    let admin = Connections::default();
    let server = &config.server;
    let bounds = Bounds {
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
        header_bytes_max: server.header_bytes_max,
    };
    let connections_max = listen::connections_max(server.connections_max, listen::raise_limit());
    let places = Arc::new(Semaphore::new(connections_max));
    let counts_failures = |listener: &'static str| -> Arc<dyn Fn() + Send + Sync> {
        let metrics = Arc::clone(&gateway.metrics);
        Arc::new(move || metrics.event("accept_failed", listener))
    };
    let data_listeners = bind_all(
        &server.listen,
        server.tls.as_ref(),
        &bounds,
        &places,
        &counts_failures("server"),
    )?;
    let admin_places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    let admin_listeners = bind_all(
        &config.admin.listen,
        config.admin.tls.as_ref(),
        &bounds,
        &admin_places,
        &counts_failures("admin"),
    )?;

    let addresses = data_listeners.iter().map(|(_, address)| *address).collect();
    let admin_addresses = admin_listeners
        .iter()
        .map(|(_, address)| *address)
        .collect();
    for (listener, address) in data_listeners {
        tracing::info!(%address, "serving API requests");
        watch_certificates(&gateway, &listener);
        let handler = Arc::clone(&gateway);
        let welcome = move |address| {
            let gateway = Arc::clone(&handler);
            let peer = Arc::new(Peer::new(address));
            move |request| request::serve(Arc::clone(&gateway), request, Arc::clone(&peer))
        };
        data.tracker
            .spawn(listen::serve(listener, data.clone(), welcome));
    }
    let pages = admin::pages(&gateway);
    for (listener, address) in admin_listeners {
        tracing::info!(%address, "serving the admin API, metrics and the dashboard");
        watch_certificates(&gateway, &listener);
        let pages = pages.clone();
        let welcome = move |peer| {
            let pages = pages.clone();
            move |request| admin::serve(pages.clone(), request, peer)
        };
        admin
            .tracker
            .spawn(listen::serve(listener, admin.clone(), welcome));
    }
    Ok(Running {
        gateway,
        addresses,
        admin_addresses,
        data,
        admin,
        delay: server.stop_delay,
        grace: server.shutdown_grace,
    })
}

/// Connections to the admin listener: a browser or two, Prometheus, scripts.
const ADMIN_CONNECTIONS: usize = 512;
/// How long connections that are cut may take to go.
const CUT_TIME: Duration = Duration::from_secs(2);
/// What is left of a stop once the requests have ended or been cut.
const FLUSH_TIME: Duration = Duration::from_secs(10);

impl Running {
    /// Stops in order: readiness turns false, no more connections, requests in flight finish within the grace time or are
    /// cut, settlements, the ledger. Returns whether everything is booked.
    pub async fn stop(self) -> bool {
        let gateway = self.gateway;
        tracing::info!(
            "stopping: requests in flight may finish within {:?}",
            self.grace
        );
        gateway.stop.cancel();
        tokio::time::sleep(self.delay).await;
        self.data.stop.cancel();
        self.data.tracker.close();
        let drained = tokio::time::timeout(self.grace, self.data.tracker.wait())
            .await
            .is_ok();
        if !drained {
            tracing::warn!(
                connections = self.data.tracker.len(),
                "the grace time is over: open requests are cut, and booked as interrupted with what they had"
            );
            gateway.cut.cancel();
            let _ = tokio::time::timeout(CUT_TIME, self.data.tracker.wait()).await;
        }
        self.admin.stop.cancel();
        self.admin.tracker.close();
        gateway.tasks.close();
        let settled = tokio::time::timeout(FLUSH_TIME, gateway.tasks.wait())
            .await
            .is_ok();
        // What shared counters could not be told before.
        let told = gateway.quota.tick(Timestamp::now());
        let told = tokio::time::timeout(FLUSH_TIME, told).await.is_ok();
        let owed = gateway.quota.owed();
        if owed > 0 {
            tracing::error!(
                settlements = owed,
                "shared counters were not told of what these requests used: the next gateway on this journal has them built anew from the ledger, until then budgets can be passed by it"
            );
        }
        let settled = settled && told && owed == 0;
        let ledger = gateway.ledger.clone();
        let flushed = tokio::task::spawn_blocking(move || ledger.shutdown(FLUSH_TIME)).await;
        let flushed = match flushed {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the ledger did not finish in time");
                false
            }
            Err(_) => false,
        };
        settled && flushed
    }
}

fn bind_all(
    addresses: &[SocketAddr],
    tls: Option<&config::Tls>,
    bounds: &Bounds,
    places: &Arc<Semaphore>,
    on_failure: &Arc<dyn Fn() + Send + Sync>,
) -> Result<Vec<(Listener, SocketAddr)>, StartError> {
    let certificates = tls.map(Certificates::load).transpose()?.map(Arc::new);
    let listener = |address: &SocketAddr| {
        let failed = |error| StartError::Listen {
            address: *address,
            error,
        };
        let socket = listen::bind(*address).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let listener = Listener {
            socket,
            certificates: certificates.clone(),
            bounds: bounds.clone(),
            places: Arc::clone(places),
            on_failure: Arc::clone(on_failure),
        };
        Ok((listener, bound))
    };
    addresses.iter().map(listener).collect()
}

/// Reads certificates again now and then: renewals replace the files.
fn watch_certificates(gateway: &Arc<Gateway>, listener: &Listener) {
    let Some(certificates) = listener.certificates.clone() else {
        return;
    };
    let stop = gateway.stop.clone();
    gateway.tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CERTIFICATES_AGE) => {}
            }
            let again = Arc::clone(&certificates);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || again.reload()).await {
                tracing::warn!(%error, "the certificates cannot be read again: the old ones stay");
            }
        }
    });
}

/// How old certificates in use may be.
const CERTIFICATES_AGE: Duration = Duration::from_secs(30);

fn also(config: &Config) -> Vec<Also> {
    let named = |also: &AlsoNamed| match also {
        AlsoNamed::GenAi => Also::GenAi,
        AlsoNamed::LiteLlm => Also::LiteLlm,
    };
    config.metrics.also.iter().map(named).collect()
}

fn ledger_settings(
    config: &Config,
    metrics: &Arc<Metrics>,
    recovered: &Arc<Recovered>,
) -> Settings {
    let store = &config.store;
    let histogram = Arc::clone(&metrics.ledger_write);
    let is_shared = matches!(config.quota.backend, QuotaBackend::Redis(_));
    let recovered = Arc::clone(recovered);
    Settings {
        fsync: match store.fsync {
            config::Fsync::Always => Fsync::Always,
            config::Fsync::Interval(every) => {
                Fsync::Interval(u64::try_from(every.as_millis()).unwrap_or(u64::MAX))
            }
            config::Fsync::Never => Fsync::Never,
        },
        spool_bytes_max: store.spool_bytes_max,
        on_write: Some(Arc::new(move |time| histogram.observe(time))),
        // Counters in memory are rebuilt with these entries.
        on_recovered: is_shared
            .then(|| Arc::new(move |entries: &[Entry]| recovered.add(entries)) as OnRecovered),
        ..Settings::new(store.journal.clone())
    }
}

fn quota(settings: &config::Quota, seeder: &Arc<LedgerSeeder>) -> Result<Quota, StartError> {
    let QuotaBackend::Redis(redis) = &settings.backend else {
        return Ok(Quota::memory());
    };
    let settings = RedisSettings {
        redis: redis.clone(),
        timeout: settings.timeout,
        fail: settings.fail,
        gateways: settings.gateways,
    };
    let seeder = Arc::clone(seeder) as Arc<dyn Seeder>;
    Ok(Quota::redis(&settings, seeder)?)
}

/// Keeps shared counters going as long as the gateway is there: requests that are drained hold theirs too.
async fn keep_shared(gateway: Weak<Gateway>) {
    while let Some(gateway) = gateway.upgrade() {
        gateway.quota.tick(Timestamp::now()).await;
        drop(gateway);
        tokio::time::sleep(Quota::TICK).await;
    }
}
