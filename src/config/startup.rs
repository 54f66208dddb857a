//! What holds from a start to the next one, whatever a reload says.

use super::{Admin, Config, Quota, ReservationMode, Server, Store};

/// The settings that a running gateway does not change.
#[derive(Clone, Debug)]
pub struct Startup {
    server: Server,
    admin: Admin,
    store: Store,
    quota: Quota,
}

impl Startup {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Startup {
        Startup {
            server: config.server.clone(),
            admin: config.admin.clone(),
            store: config.store.clone(),
            quota: config.quota.clone(),
        }
    }

    /// The settings that `newer` has otherwise, as they are written in the file: they wait for the next start.
    pub fn waiting(&self, newer: &Config) -> Vec<&'static str> {
        let (server, admin) = (&newer.server, &newer.admin);
        // The mode is looked at by each request.
        let mode = ReservationMode::Adaptive;
        let quota = |quota: &Quota| Quota {
            mode,
            ..quota.clone()
        };
        [
            ("server.listen", self.server.listen != server.listen),
            ("server.tls", self.server.tls != server.tls),
            (
                "server.header_timeout",
                self.server.header_timeout != server.header_timeout,
            ),
            (
                "server.idle_timeout",
                self.server.idle_timeout != server.idle_timeout,
            ),
            (
                "server.max_header_bytes",
                self.server.header_bytes_max != server.header_bytes_max,
            ),
            (
                "server.max_connections",
                self.server.connections_max != server.connections_max,
            ),
            (
                "server.max_body_memory",
                self.server.body_memory_max != server.body_memory_max,
            ),
            (
                "server.stop_delay",
                self.server.stop_delay != server.stop_delay,
            ),
            (
                "server.shutdown_grace",
                self.server.shutdown_grace != server.shutdown_grace,
            ),
            ("admin.listen", self.admin.listen != admin.listen),
            ("admin.tls", self.admin.tls != admin.tls),
            ("store", self.store != newer.store),
            ("quota", quota(&self.quota) != quota(&newer.quota)),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}
