//! `[admin]`: the admin API, dashboard, metrics and health, on a port of their own.

use std::net::SocketAddr;

use super::reader::Table;
use super::server::{Tls, addresses, overlap, tls};
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
    /// The bearer token of the role *operator*: may manage accounts and keys and reload, not change plans or pay back.
    pub operator_token: Option<Secret>,
    /// The bearer token of the role *viewer*: may read.
    pub viewer_token: Option<Secret>,
    /// Whether plain HTTP on an address that is not loopback is wanted.
    pub allow_public: bool,
}

impl Admin {
    /// Reads `[admin]`; its addresses must differ from the data path's.
    pub(super) fn read(table: &Table<'_>, taken: &[SocketAddr]) -> Admin {
        let tls_wanted = table.get("tls");
        let admin = Admin {
            listen: addresses(table, SocketAddr::from(([127, 0, 0, 1], 8081))),
            tls: tls_wanted.as_ref().and_then(tls),
            token: table.optional("token", |value| value.header_secret()),
            operator_token: table.optional("operator_token", |value| value.header_secret()),
            viewer_token: table.optional("viewer_token", |value| value.header_secret()),
            allow_public: table.or("allow_public", false, |value| value.flag()),
        };
        let token_wanted = table.get("token").is_some();
        for address in &admin.listen {
            if let Some(other) = taken.iter().find(|other| overlap(**other, *address)) {
                refuse_address(
                    table,
                    format!(
                        "{address} overlaps with {other} of [server], expected an address of its own"
                    ),
                );
            }
            if address.ip().is_loopback() {
                continue;
            }
            if tls_wanted.is_none() && !admin.allow_public {
                refuse_address(
                    table,
                    format!(
                        "{address} can be reached from other machines, expected a loopback address, tls, or allow_public = true"
                    ),
                );
            }
            if !token_wanted {
                table.refuse_absent(
                    "token",
                    format!("is missing, expected a secret: {address} can be reached from other machines"),
                );
            }
        }
        let tokens = [&admin.token, &admin.operator_token, &admin.viewer_token];
        let mut given: Vec<&str> = tokens
            .iter()
            .filter_map(|token| Some(token.as_ref()?.expose()))
            .collect();
        given.sort_unstable();
        if given.windows(2).any(|pair| pair.first() == pair.last()) {
            table.refuse("has the same token for two roles, expected a token for each");
        }
        admin
    }
}

fn refuse_address(table: &Table<'_>, message: String) {
    match table.get("listen") {
        Some(value) => value.refuse(message),
        None => table.refuse(message),
    }
}
