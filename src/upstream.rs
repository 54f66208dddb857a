//! Connections to one API: pool, TLS, bounds and health.

mod answer_body;
mod body;
mod health;
pub mod http1;
mod tls;
pub(crate) use tls::client_config as tls_config;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use answer_body::{BodyError, UpstreamBody};
pub use body::OutgoingBody;
pub use health::AccessChange;
use health::{Access, Health};

use crate::config;
use crate::dialect::Dialect;

/// An idle upstream connection is given up well before any known provider closes it (60 s and more), so that a
/// request seldom meets a connection that is closing.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(25);

/// One API that requests are forwarded to: its settings and its connections.
#[derive(Debug)]
pub struct Upstream {
    /// As configured.
    pub settings: config::Upstream,
    connections: Connections,
    /// `scheme://authority`.
    origin: Uri,
    /// The authority, as HTTP/1.1 sends it.
    host: HeaderValue,
    authorization: Option<(HeaderName, HeaderValue)>,
    slots: Option<Arc<Semaphore>>,
    health: Health,
    access: Access,
}

/// How an upstream is spoken to.
#[derive(Debug)]
enum Connections {
    Http1(Arc<http1::Pool>),
    /// Whichever of both the TLS handshake agrees on, or HTTP/2 alone: connections are shared, so they are tasks of their own.
    Http2(Box<legacy::Client<HttpsConnector<HttpConnector>, OutgoingBody>>),
}

/// Why an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of certificate authorities cannot be read.
    #[error("{path}: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The address makes no URL.
    #[error("base_url: {0}")]
    Address(String),
    /// The TLS library refuses its own defaults.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A call that is under way. It may be kept and polled after the client has gone.
pub struct Call(Way);

enum Way {
    Http1(http1::Call),
    Http2(legacy::ResponseFuture),
}

impl Call {
    /// Whether the request may have reached the upstream: not while its connection is still being made. Of HTTP/2, whose
    /// connections are made elsewhere, that is not known, and so it may have.
    pub fn may_have_been_sent(&self) -> bool {
        match &self.0 {
            Way::Http1(call) => call.may_have_been_sent(),
            Way::Http2(_) => true,
        }
    }
}

impl Future for Call {
    type Output = Result<Answer, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Way::Http1(call) => Pin::new(call)
                .poll(cx)
                .map_ok(|answer| answer.map(UpstreamBody::Http1)),
            Way::Http2(call) => Pin::new(call).poll(cx).map(|answered| match answered {
                Ok(answer) => Ok(answer.map(UpstreamBody::Http2)),
                Err(error) if error.is_connect() => Err(CallError::Connect(error.into())),
                Err(error) => Err(CallError::Broken(error.into())),
            }),
        }
    }
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection could be made: the request was not sent.
    #[error("cannot connect: {}", told(.0))]
    Connect(Cause),
    /// The connection broke before the answer's head came: the request may have been processed.
    #[error("the connection broke before an answer came: {}", told(.0))]
    Broken(Cause),
    /// It answered with another protocol (101) in place of an answer.
    #[error("it answered {0}, which was not asked for")]
    Switched(StatusCode),
    /// No answer within the time for the first byte.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// As many requests as are allowed are in flight, and none ended in time.
    #[error("all {0} places are taken")]
    Full(usize),
}

/// What a connection says of its failure.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failure and what lies at its bottom: the outermost error says only what was tried, the innermost why it failed.
fn told(cause: &Cause) -> String {
    let mut told = cause.to_string();
    let mut last: &dyn std::error::Error = &**cause;
    while let Some(source) = last.source() {
        last = source;
    }
    let last = last.to_string();
    if !told.contains(&last) {
        told.push_str(": ");
        told.push_str(&last);
    }
    told
}

impl CallError {
    /// The name in `weir_upstream_errors_total`.
    pub fn kind(&self) -> &'static str {
        match self {
            CallError::Connect(_) => "connect",
            CallError::Broken(_) | CallError::Switched(_) => "broken",
            CallError::Silent(_) => "timeout",
            CallError::Full(_) => "full",
        }
    }

    /// Whether the upstream certainly did not process the request, so that it may be sent again.
    pub fn certainly_not_processed(&self) -> bool {
        matches!(self, CallError::Connect(_) | CallError::Full(_))
    }
}

/// The name in `weir_upstream_errors_total` of an answer that is a failure of the upstream, or of the gateway towards it.
pub fn failure_kind(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some("status_429"),
        _ if status.is_server_error() => Some("status_5xx"),
        _ if health::is_refused_access(status) => Some("unauthorized"),
        _ => None,
    }
}

/// A place among the requests in flight at an upstream; freed when dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its Drop")] Option<OwnedSemaphorePermit>);

impl Upstream {
    /// Makes the client; no connection is opened yet.
    ///
    /// # Errors
    /// When the certificates cannot be read.
    pub fn new(settings: config::Upstream) -> Result<Upstream, SetupError> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.timeouts.connect));
        connector.set_keepalive(Some(Duration::from_secs(60)));
        let tls = tls::client_config(settings.tls_ca.as_deref(), settings.base_url.scheme)?;
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let (https, http2_only) = match (settings.http2, settings.base_url.scheme) {
            (false, _) => (https.enable_http1().wrap_connector(connector), false),
            (true, config::Scheme::Https) => {
                (https.enable_all_versions().wrap_connector(connector), false)
            }
            // Without TLS there is no negotiation: HTTP/2 is then spoken with prior knowledge.
            (true, config::Scheme::Http) => (https.enable_http2().wrap_connector(connector), true),
        };
        let base = &settings.base_url;
        let origin = Uri::builder()
            .scheme(match base.scheme {
                config::Scheme::Http => "http",
                config::Scheme::Https => "https",
            })
            .authority(base.authority.clone())
            .path_and_query("/")
            .build()
            .map_err(|error| SetupError::Address(error.to_string()))?;
        let host = HeaderValue::from_str(base.authority.as_str())
            .map_err(|error| SetupError::Address(error.to_string()))?;
        let connections = if settings.http2 {
            Connections::Http2(Box::new(
                legacy::Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                    .pool_max_idle_per_host(settings.idle_connections_max)
                    .timer(TokioTimer::new())
                    .http2_only(http2_only)
                    .http2_keep_alive_interval(Some(Duration::from_secs(20)))
                    .build(https),
            ))
        } else {
            Connections::Http1(Arc::new(http1::Pool::new(
                https,
                origin.clone(),
                settings.idle_connections_max,
                POOL_IDLE_TIMEOUT,
            )))
        };
        let slots = settings
            .concurrent_max
            .map(|places| Arc::new(Semaphore::new(places)));
        let authorization = authorization(&settings);
        Ok(Upstream {
            settings,
            connections,
            origin,
            host,
            authorization,
            slots,
            health: Health::default(),
            access: Access::default(),
        })
    }

    /// A place among the requests in flight, waiting at most as long as a connection may take.
    ///
    /// # Errors
    /// [`CallError::Full`].
    pub async fn slot(&self) -> Result<Slot, CallError> {
        let Some(slots) = &self.slots else {
            return Ok(Slot(None));
        };
        let waiting = tokio::time::timeout(
            self.settings.timeouts.connect,
            Arc::clone(slots).acquire_owned(),
        );
        match waiting.await {
            Ok(Ok(permit)) => Ok(Slot(Some(permit))),
            _ => Err(CallError::Full(
                self.settings.concurrent_max.unwrap_or_default(),
            )),
        }
    }

    /// Starts a call.
    ///
    /// # Errors
    /// When the path is none.
    pub fn call(
        &self,
        method: Method,
        path_and_query: &str,
        mut headers: HeaderMap,
        body: OutgoingBody,
    ) -> Result<Call, http::Error> {
        if let Some((name, value)) = &self.authorization {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.settings.headers {
            headers.insert(name.clone(), value.clone());
        }
        let path = self.path(path_and_query)?;
        match &self.connections {
            Connections::Http1(pool) => {
                headers.insert(HOST, self.host.clone());
                let call = pool.call(method, &path, &headers, body);
                Ok(Call(Way::Http1(call)))
            }
            Connections::Http2(client) => {
                let mut parts = self.origin.clone().into_parts();
                parts.path_and_query = Some(path);
                let mut request = Request::new(body);
                *request.method_mut() = method;
                *request.uri_mut() = Uri::from_parts(parts)?;
                *request.headers_mut() = headers;
                Ok(Call(Way::Http2(client.request(request))))
            }
        }
    }

    /// Notes what a finished call says of the upstream's health.
    pub fn note<T>(&self, result: &Result<T, CallError>) {
        match result {
            Ok(_) => self.health.succeeded(),
            Err(_) => self.health.failed(),
        }
    }

    /// Notes whether an answer refuses the gateway's own key; what that changed, if anything.
    pub fn note_access(&self, status: StatusCode) -> Option<AccessChange> {
        self.access.answered(status)
    }

    /// Counts a silent upstream against its health.
    pub fn note_silent(&self) -> CallError {
        self.health.failed();
        CallError::Silent(self.settings.timeouts.first_byte)
    }

    /// Whether the last calls all failed, so that another upstream should be tried first.
    pub fn is_failing(&self) -> bool {
        self.health.is_failing()
    }

    /// The path of `base_url` with what followed `/v1` in the client's request.
    fn path(&self, path_and_query: &str) -> Result<PathAndQuery, http::Error> {
        let base = &self.settings.base_url;
        let mut path = String::with_capacity(base.path.len() + path_and_query.len() + 32);
        path.push_str(&base.path);
        path.push_str(path_and_query);
        if let Some(version) = self
            .settings
            .api_version
            .as_deref()
            .filter(|_| !path_and_query.contains("api-version="))
        {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("api-version=");
            path.push_str(version);
        }
        Ok(PathAndQuery::from_maybe_shared(Bytes::from(path))?)
    }
}

fn authorization(settings: &config::Upstream) -> Option<(HeaderName, HeaderValue)> {
    let key = settings.api_key.as_ref()?.expose();
    let (name, text) = match settings.dialect {
        Dialect::OpenAi => (AUTHORIZATION, format!("Bearer {key}")),
        Dialect::Azure => (HeaderName::from_static("api-key"), key.to_owned()),
        Dialect::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// An answer's head with the body still to come.
pub type Answer = Response<UpstreamBody>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, FixedEnvironment};

    #[test]
    fn a_place_has_a_port_whether_or_not_the_address_names_it() {
        for (base_url, place) in [
            ("https://api.openai.com/v1", "api.openai.com:443"),
            ("http://models/v1", "models:80"),
            ("http://[::1]:8000/v1", "[::1]:8000"),
        ] {
            let text = format!("[[upstreams]]\nid = \"u\"\nbase_url = \"{base_url}\"\n");
            let config =
                config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap();
            assert_eq!(config.upstreams[0].base_url.place(), place);
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_says_so() {
        // Nobody listens on the port of a listener that is gone.
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = gone.local_addr().unwrap();
        drop(gone);
        for http2 in [false, true] {
            let text = format!(
                "[[upstreams]]\nid = \"u\"\nbase_url = \"http://{address}/v1\"\nhttp2 = {http2}\n"
            );
            let config =
                config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap();
            let upstream = Upstream::new(config.upstreams[0].clone()).unwrap();
            let body = OutgoingBody::new(Vec::new());
            let call = upstream.call(Method::GET, "/models", HeaderMap::new(), body);
            let error = call.unwrap().await.unwrap_err().to_string();
            assert!(error.starts_with("cannot connect: "), "{error}");
            assert_eq!(error.matches("Connection refused").count(), 1, "{error}");
        }
    }

    #[test]
    fn an_upstream_shows_none_of_its_secrets() {
        for dialect in ["openai", "azure", "anthropic"] {
            let text = format!(
                "[[upstreams]]\nid = \"u\"\nbase_url = \"http://127.0.0.1:9/v1\"\ndialect = \"{dialect}\"\n\
                 api_key = \"sk-hidden\"\nheaders = {{ x-team = \"sk-hidden-too\" }}\n"
            );
            let config =
                config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap();
            let [settings] = &config.upstreams[..] else {
                panic!("one upstream");
            };
            let upstream = Upstream::new(settings.clone()).unwrap();
            let (_, value) = upstream.authorization.as_ref().unwrap();
            assert!(value.to_str().unwrap().ends_with("sk-hidden"));
            let shown = format!("{upstream:?}");
            assert!(!shown.contains("hidden"), "{shown}");
        }
    }
}
