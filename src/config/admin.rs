//! `[admin]`: the admin API, dashboard, metrics and health, on a port of their own.

use std::net::SocketAddr;

use super::server::Tls;
use crate::secret::Secret;

/// The admin listener.
///
/// A listener that other machines can reach is a configuration error unless it serves TLS or `allow_public` says that
/// something in front of it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Addresses to accept on, at least one. `127.0.0.1:8081`.
    pub listen: Vec<SocketAddr>,
    /// Serve TLS; plain HTTP without.
    pub tls: Option<Tls>,
    /// The bearer token of the role *admin*: may change everything.
    pub token: Option<Secret>,
    /// The bearer token of the role *operator*: may create and revoke keys and reload, not change plans.
    pub operator_token: Option<Secret>,
    /// The bearer token of the role *viewer*: may read.
    pub viewer_token: Option<Secret>,
    /// Whether plain HTTP on an address that is not loopback is wanted.
    pub allow_public: bool,
}
