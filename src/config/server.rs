//! `[server]`: the data path's listener and the bounds of what it accepts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Table;
use super::value::Value;

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
    /// The longest pause between two pieces of a request's body, and the time that a whole body has beside one second for
    /// each KiB. 60 s.
    pub body_timeout: Duration,
    /// The memory that the bodies of all requests in flight may take together; further ones are refused as `overloaded`.
    /// 1 GiB.
    pub body_memory_max: u64,
    /// How long a connection may stay open without a request. 75 s.
    pub idle_timeout: Duration,
    /// How long the gateway reads on after a client went away, to get the provider's own usage figure. 2 s.
    pub drain_after_close: Duration,
    /// How long the gateway goes on accepting connections after it was told to stop: its readiness is false by then, and
    /// load balancers have this time to notice. None.
    pub stop_delay: Duration,
    /// How long requests in flight may take to finish once the gateway is told to stop. 30 s.
    pub shutdown_grace: Duration,
    /// Connections open at once. 16,384.
    pub connections_max: usize,
    /// Requests in flight at once, and at most half of them of one key; further ones are refused as `overloaded`. 16,384.
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

impl Server {
    pub(super) fn read(table: &Table<'_>) -> Server {
        let second = Duration::from_secs(1);
        let wait = second / 1000..=3600 * second;
        let many = 1..=1_000_000;
        Server {
            listen: addresses(table, SocketAddr::from(([127, 0, 0, 1], 8080))),
            tls: table.optional("tls", tls),
            request_bytes_max: table.or("max_request_bytes", 32 << 20, |value| {
                value.bytes(1024..=4 << 30)
            }),
            header_bytes_max: table.or("max_header_bytes", 64 << 10, |value| {
                usize::try_from(value.bytes(8 << 10..=1 << 20)?).ok()
            }),
            header_timeout: table.or("header_timeout", 10 * second, |value| {
                value.duration(wait.clone())
            }),
            body_timeout: table.or("body_timeout", 60 * second, |value| {
                value.duration(wait.clone())
            }),
            body_memory_max: table.or("max_body_memory", 1 << 30, |value| {
                value.bytes(1 << 20..=1 << 40)
            }),
            idle_timeout: table.or("idle_timeout", 75 * second, |value| {
                value.duration(wait.clone())
            }),
            drain_after_close: table.or("drain_after_close", 2 * second, |value| {
                value.duration(Duration::ZERO..=600 * second)
            }),
            stop_delay: table.or("stop_delay", Duration::ZERO, |value| {
                value.duration(Duration::ZERO..=600 * second)
            }),
            shutdown_grace: table.or("shutdown_grace", 30 * second, |value| {
                value.duration(Duration::ZERO..=3600 * second)
            }),
            connections_max: table.or("max_connections", 16_384, |value| {
                value.size_count(many.clone())
            }),
            requests_max: table.or("max_requests", 16_384, |value| {
                value.size_count(many.clone())
            }),
        }
    }
}

/// `listen`: one address or several, none of them twice.
pub(super) fn addresses(table: &Table<'_>, default: SocketAddr) -> Vec<SocketAddr> {
    let Some(value) = table.get("listen") else {
        return vec![default];
    };
    let listed = if value.is_array() {
        let items = value.items("addresses").unwrap_or_default();
        if items.is_empty() {
            value.refuse("is empty, expected at least one address such as \"127.0.0.1:8080\"");
        }
        items
    } else {
        vec![value]
    };
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(listed.len());
    for value in listed {
        let Some(address) = address(&value) else {
            continue;
        };
        match addresses.iter().find(|other| overlap(**other, address)) {
            Some(other) => value.refuse(format!(
                "{address} overlaps with {other}, expected addresses of their own"
            )),
            None => addresses.push(address),
        }
    }
    addresses
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    const EXPECTED: &str = "an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
    let text = value.text(EXPECTED)?;
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    match numeric.parse() {
        Ok(address) => Some(address),
        Err(_) => value.wrong(text, EXPECTED),
    }
}

/// Whether two listeners would take each other's connections. Port 0 is any free port.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let both = |address: SocketAddr| address.ip().is_unspecified() && address.is_ipv6();
    let same_family = a.is_ipv4() == b.is_ipv4();
    let covers = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || (covers && (same_family || both(a) || both(b))))
}

/// `{ cert = "…pem", key = "…pem" }`, both readable.
pub(super) fn tls(value: &Value<'_>) -> Option<Tls> {
    let table = value.table("a table such as { cert = \"cert.pem\", key = \"key.pem\" }")?;
    let cert = table.need("cert", "the path of a PEM file");
    let key = table.need("key", "the path of a PEM file");
    let cert = cert.and_then(|cert| cert.pem_file("CERTIFICATE"));
    let key = key.and_then(|key| key.pem_file("PRIVATE KEY"));
    Some(Tls {
        cert: cert?,
        key: key?,
    })
}
