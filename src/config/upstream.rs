//! `[[upstreams]]`: the APIs that requests are forwarded to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::names::Names;
use super::reader::Table;
use super::value::Value;
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
    /// Its rank in every route that names it; lower is tried first.
    pub priority: Option<u32>,
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

impl Upstream {
    pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<Upstream> {
        let second = Duration::from_secs(1);
        let id = table.need("id", "an id").and_then(|value| {
            let id = value.id(UpstreamId::parse)?;
            names.declare(&value, id.as_str()).then_some(id)
        });
        let base_url = table
            .need("base_url", BASE_URL)
            .and_then(|value| BaseUrl::read(&value));
        let dialect = table.or("dialect", Dialect::OpenAi, |value| {
            value.word(&[
                ("openai", Dialect::OpenAi),
                ("azure", Dialect::Azure),
                ("anthropic", Dialect::Anthropic),
            ])
        });
        let api_key = table.optional("api_key", |value| value.header_secret());
        let headers = table.optional("headers", |value| {
            headers(value, table.get("api_key").is_some())
        });
        let timeouts = table.optional("timeouts", Timeouts::read);
        let retries = table.or("retries", 0, |value| value.small_count(0..=10));
        let weight = table.or("weight", 1, |value| value.small_count(1..=1_000_000));
        let priority = table.optional("priority", |value| value.small_count(0..=1_000_000));
        let concurrent_max =
            table.optional("max_concurrent", |value| value.size_count(1..=1_000_000));
        let idle_connections_max = table.or("max_idle_connections", 64, |value| {
            value.size_count(0..=1_000_000)
        });
        let tls_ca = table.optional("tls_ca", |value| value.pem_file("CERTIFICATE"));
        let http2 = table.or("http2", false, |value| value.flag());
        let include_usage = table.or("include_usage", dialect != Dialect::Anthropic, |value| {
            let wanted = value.flag()?;
            if wanted && dialect == Dialect::Anthropic {
                value.refuse(
                    "is true, expected no such key: Anthropic's dialect always reports usage",
                );
            }
            Some(wanted)
        });
        let service_tier = table.or("service_tier", ServiceTier::Served, ServiceTier::read);
        let api_version = table.optional("api_version", |value| {
            if dialect != Dialect::Azure {
                value.refuse("has a meaning only with dialect = \"azure\", expected no such key");
            }
            let text = value.text("a version such as \"2025-04-01-preview\"")?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            if text.is_empty() || !text.bytes().all(plain) {
                return value.wrong(text, "a version such as \"2025-04-01-preview\"");
            }
            Some(Arc::from(text))
        });
        Some(Upstream {
            id: id?,
            base_url: base_url?,
            dialect,
            api_key,
            headers: headers.unwrap_or_default(),
            timeouts: timeouts.unwrap_or(Timeouts {
                connect: 5 * second,
                first_byte: 120 * second,
                idle: 60 * second,
                total: 900 * second,
            }),
            retries,
            weight,
            priority,
            concurrent_max,
            idle_connections_max,
            tls_ca,
            http2,
            include_usage,
            service_tier,
            api_version,
        })
    }
}

impl BaseUrl {
    /// `host:port`, for messages: what stands before an @ never does.
    pub fn place(&self) -> String {
        let port = match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let port = self.authority.port_u16().unwrap_or(port);
        format!("{}:{port}", self.authority.host())
    }

    fn read(value: &Value<'_>) -> Option<BaseUrl> {
        let text = value.text(BASE_URL)?;
        if text.contains('@') {
            // Not shown: what stands before an @ is a password.
            value.refuse("has user information, expected a URL without; credentials go to api_key or headers");
            return None;
        }
        let Ok(uri) = text.parse::<http::Uri>() else {
            return value.wrong(text, BASE_URL);
        };
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return value.wrong(text, BASE_URL),
        };
        let port_fits = uri.port().is_none() || uri.port_u16().is_some_and(|port| port > 0);
        let authority = match uri.authority() {
            Some(authority) if !authority.host().is_empty() && port_fits => authority.clone(),
            _ => return value.wrong(text, BASE_URL),
        };
        if uri.query().is_some() || text.contains('#') {
            return value.wrong(text, "a URL without query and fragment");
        }
        Some(BaseUrl {
            scheme,
            authority,
            path: uri.path().trim_end_matches('/').into(),
        })
    }
}

impl Timeouts {
    fn read(value: &Value<'_>) -> Option<Timeouts> {
        let table = value.table("a table such as { connect = \"5s\", total = \"15m\" }")?;
        let second = Duration::from_secs(1);
        let timeout = |key, default: u32| {
            table.or(key, default * second, |value| {
                value.duration(second / 1000..=86_400 * second)
            })
        };
        Some(Timeouts {
            connect: timeout("connect", 5),
            first_byte: timeout("first_byte", 120),
            idle: timeout("idle", 60),
            total: timeout("total", 900),
        })
    }
}

impl ServiceTier {
    fn read(value: &Value<'_>) -> Option<ServiceTier> {
        const EXPECTED: &str = "\"served\", \"requested\" or { fixed = \"TIER\" }";
        if value.is_table() {
            let tier = value.table(EXPECTED)?.need("fixed", "a tier's name")?;
            return match tier.text("a tier's name")? {
                "" => tier.wrong("", "a tier's name"),
                name => Some(ServiceTier::Fixed(name.into())),
            };
        }
        match value.text(EXPECTED)? {
            "served" => Some(ServiceTier::Served),
            "requested" => Some(ServiceTier::Requested),
            text => value.wrong(text, EXPECTED),
        }
    }
}

fn headers(value: &Value<'_>, has_api_key: bool) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let table = value.table("a table such as { x-team = \"search\" }")?;
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (key, name, value) in table.entries() {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            key.refuse("is not a header's name, expected letters, digits and -");
            continue;
        };
        if headers.iter().any(|(other, _)| *other == header) {
            key.refuse("is given twice, expected once: case does not matter in header names");
            continue;
        }
        if GATEWAYS_OWN.contains(&header.as_str()) {
            key.refuse("is a header that the gateway sets itself, expected another");
            continue;
        }
        if has_api_key && CREDENTIALS.contains(&header.as_str()) {
            key.refuse("is a credential beside \"api_key\", expected one of the two");
            continue;
        }
        let Some(secret) = value.secret() else {
            continue;
        };
        match HeaderValue::from_str(secret.expose()) {
            Ok(mut sent) => {
                sent.set_sensitive(true);
                headers.push((header, sent));
            }
            Err(_) => value.refuse("cannot be sent in a header, expected visible ASCII characters"),
        }
    }
    Some(headers)
}

const BASE_URL: &str = "a URL such as \"https://api.openai.com/v1\"";

/// Connection management and framing belong to the gateway.
const GATEWAYS_OWN: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const CREDENTIALS: [&str; 3] = ["authorization", "x-api-key", "api-key"];
