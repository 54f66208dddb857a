//! `[server]`: the data path's listener and the bounds of what it accepts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The data path's listener. Every bound is there so that no client can hold what others need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses to accept on, at least one. `127.0.0.1:8080`.
    pub listen: Vec<SocketAddr>,
    /// Serve TLS; plain HTTP without.
    pub tls: Option<Tls>,
    /// The largest request body, in bytes. 32 MiB.
    pub request_bytes_max: u64,
    /// The largest request head, in bytes. 64 KiB.
    pub header_bytes_max: usize,
    /// How long a client may take to send a request's head. 10 s.
    pub header_timeout: Duration,
    /// The longest pause between two pieces of a request's body. 60 s.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request. 75 s.
    pub idle_timeout: Duration,
    /// How long the gateway reads on after a client went away, to get the provider's own usage figure. 2 s.
    pub drain_after_close: Duration,
    /// How long requests in flight may take to finish once the gateway is told to stop. 30 s.
    pub shutdown_grace: Duration,
    /// Connections open at once. 16,384.
    pub connections_max: usize,
    /// Requests in flight at once; further ones are refused as `overloaded`. 16,384.
    pub requests_max: usize,
}

/// A certificate chain and its key, both PEM files. They are loaded again when the files change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}
