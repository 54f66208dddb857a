//! `[[upstreams]]`: the APIs that requests are forwarded to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use crate::dialect::Dialect;
use crate::ids::UpstreamId;
use crate::secret::Secret;

/// An API that requests are forwarded to.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub id: UpstreamId,
    /// Where it is, version prefix included.
    pub base_url: BaseUrl,
    /// How it speaks. OpenAI's dialect.
    pub dialect: Dialect,
    /// The gateway's own key there; it can stand in a header.
    pub api_key: Option<Secret>,
    /// Headers added to each request, over the client's own; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How often a request that failed before its first byte is sent again. 0: a 429 or 5xx reaches the client unchanged.
    pub retries: u32,
    /// Its share among upstreams of equal priority. 1.
    pub weight: u32,
    /// Requests in flight at once; `None` is without bound.
    pub concurrent_max: Option<usize>,
    /// Idle connections kept open. 64.
    pub idle_connections_max: usize,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub tls_ca: Option<PathBuf>,
    /// Whether HTTP/2 is offered. Not.
    pub http2: bool,
    /// Whether it takes `stream_options.include_usage`. Yes in OpenAI's and Azure's dialects.
    pub include_usage: bool,
    /// Where the service tier that sets the price comes from. What the upstream says it served.
    pub service_tier: ServiceTier,
    /// Azure's `api-version` query parameter.
    pub api_version: Option<Arc<str>>,
}

/// A base URL in the pieces that forwarding needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Host and port, without user information.
    pub authority: Authority,
    /// The path with a leading and without a trailing slash (`/v1`), or empty.
    pub path: Arc<str>,
}

/// How an upstream is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// How long each step of an upstream call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, connection and TLS handshake. 5 s.
    pub connect: Duration,
    /// From the request's last byte to the answer's head. 120 s.
    pub first_byte: Duration,
    /// Between two pieces of the answer. 60 s.
    pub idle: Duration,
    /// The whole call. 15 min.
    pub total: Duration,
}

/// Where the service tier that sets the price comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceTier {
    /// What the upstream says it served.
    Served,
    /// What the client asked for, where the upstream does not say.
    Requested,
    /// Always this one.
    Fixed(Arc<str>),
}
