//! One TOML file to domain types: every mistake at once, each with file, line, column and key.
//!
//! Downstream code never asks whether a setting is there or sensible: what reaches a [`Config`] is.

pub mod accounts;
pub mod admin;
pub mod metrics;
pub mod plans;
pub mod prices;
pub mod quota;
pub mod route;
pub mod server;
pub mod store;
pub mod upstream;
pub mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

pub use accounts::FileKey;
pub use admin::Admin;
pub use metrics::{AlsoNamed, Log, LogFormat, Metrics};
pub use plans::{Currency, ExchangeRate};
pub use prices::Unpriced;
pub use quota::{Quota, QuotaBackend, QuotaFailure, Redis, RedisTopology, ReservationMode};
pub use route::{Route, RouteTarget};
pub use server::{Server, Tls};
pub use store::{Fsync, Store, StoreUrl};
pub use upstream::{BaseUrl, Scheme, ServiceTier, Timeouts, Upstream};
pub use webhooks::{Webhook, WebhookEvent};

use crate::plan::{Account, Plan};
use crate::price::PriceTable;

/// Everything that an operator can set, checked and resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data path's listener and its bounds.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Where the ledger is kept.
    pub store: Store,
    /// Where quota counters are kept.
    pub quota: Quota,
    /// The APIs that requests are forwarded to.
    pub upstreams: Vec<Upstream>,
    /// Which models go where; the first match wins.
    pub routes: Vec<Route>,
    /// All price files together.
    pub prices: Arc<PriceTable>,
    /// What a model without a price gets.
    pub unpriced: Unpriced,
    /// The plans.
    pub plans: Vec<Plan>,
    /// The accounts of the file; others live in the store.
    pub accounts: Vec<Account>,
    /// The keys of the file's accounts; others live in the store.
    pub keys: Vec<FileKey>,
    /// What is exported beside Weir's own metric names.
    pub metrics: Metrics,
    /// How the gateway logs.
    pub log: Log,
    /// Who is told about warnings.
    pub webhooks: Vec<Webhook>,
    /// Exchange rates of the currencies that plans are priced in.
    pub currencies: Vec<Currency>,
    /// Every file that was read: the configuration itself, price tables, secrets, certificates. A change in one of them
    /// is a change of the configuration.
    pub files: Vec<PathBuf>,
}
