//! Accepting connections: sockets, TLS, bounds, and serving HTTP on them until told to stop.

mod activity;
mod descriptors;
mod socket;
mod streams;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use activity::{Activity, TimedIo};
pub use descriptors::{connections as connections_max, raise_limit};
pub use socket::bind;
use streams::Streams;
pub use tls::{Certificates, CertificatesError};

/// The bounds of one listener.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// How long a client may take to send a request's head, or to finish a TLS handshake.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request; also how long a client may refuse to take what it asked for.
    pub idle_timeout: Duration,
    /// The largest request head, in bytes.
    pub header_bytes_max: usize,
}

/// One listening address and what serves it.
pub struct Listener {
    /// The bound socket.
    pub socket: TcpListener,
    /// Serve TLS with these.
    pub certificates: Option<Arc<Certificates>>,
    /// The bounds.
    pub bounds: Bounds,
    /// Places for connections, shared by all listeners of one kind.
    pub places: Arc<Semaphore>,
    /// Told when a connection could not be accepted.
    pub on_failure: Arc<dyn Fn() + Send + Sync>,
}

/// How the connections of a listener end: `stop` asks them to finish what they are doing, `tracker` knows those that have not.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Cancelled when the listener should accept no more and connections should close after their current requests.
    pub stop: CancellationToken,
    /// Cancelled when those that are still open then should end at once.
    pub cut: CancellationToken,
    /// Every connection that is still open.
    pub tracker: TaskTracker,
}

/// How a connection is told to end: after its present requests, and at once.
#[derive(Clone)]
struct Ending {
    stop: CancellationToken,
    cut: CancellationToken,
}

/// How long a listener that stops accepts connections that were on their way: a slow handshake takes about so long.
const LAST_CALL: Duration = Duration::from_millis(250);
/// How long a stopping gateway waits for the first request of a connection that has sent none.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, and how often that is logged.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(10);
/// The bound on streams of one HTTP/2 connection; more of them wait for their turn.
const H2_STREAMS: u32 = 256;
/// How much hyper reads at once, and so how much of a stream it forwards in one write. Twice as much costs each large body
/// 4 MB more: the allocator goes through all of such blocks' page before it gives the first one out again.
const BUFFER_BYTES: usize = 64 * 1024;

/// Accepts connections until told to stop. `welcome` gets each peer's address and gives what handles its requests.
pub async fn serve<W, H, F, B>(listener: Listener, connections: Connections, welcome: W)
where
    W: Fn(SocketAddr) -> H,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Listener {
        socket,
        certificates,
        bounds,
        places,
        on_failure,
    } = listener;
    let mut closes_at: Option<tokio::time::Instant> = None;
    let mut logged_at: Option<tokio::time::Instant> = None;
    loop {
        // A full house does not accept: the kernel's backlog holds newcomers until a place is free.
        let newcomer = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, socket.accept().await))
        };
        let newcomer = tokio::select! {
            newcomer = newcomer => newcomer,
            () = connections.stop.cancelled(), if closes_at.is_none() => {
                if let Err(error) = socket::turn_newcomers_away(&socket) {
                    tracing::debug!(%error, "connections made in this moment may be refused");
                }
                closes_at = Some(tokio::time::Instant::now() + LAST_CALL);
                continue;
            }
            () = sleep_until(closes_at) => return,
        };
        let Some((place, accepted)) = newcomer else {
            return;
        };
        match accepted {
            Ok((stream, peer)) => {
                let certificates = certificates.clone();
                let connection = connect(
                    stream,
                    peer,
                    certificates,
                    bounds.clone(),
                    Ending {
                        stop: connections.stop.clone(),
                        cut: connections.cut.clone(),
                    },
                    welcome(peer),
                    place,
                );
                connections.tracker.spawn(connection);
            }
            Err(error) => {
                // Out of file descriptors, most likely: give the connections that exist time to end.
                on_failure();
                if logged_at.is_none_or(|at| at.elapsed() >= ACCEPT_LOG_EVERY) {
                    tracing::error!(%error, "cannot accept connections: they wait");
                    logged_at = Some(tokio::time::Instant::now());
                }
                drop(place);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One connection: TLS if configured, then the protocol that it speaks.
async fn connect<H, F, B>(
    stream: TcpStream,
    peer: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    bounds: Bounds,
    ending: Ending,
    handle: H,
    place: OwnedSemaphorePermit,
) where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let _ = stream.set_nodelay(true);
    let protocol = match certificates {
        Some(certificates) => {
            let handshake = tokio::time::timeout(
                bounds.header_timeout,
                certificates.acceptor().accept(stream),
            );
            let handshake = tokio::select! {
                handshake = handshake => handshake,
                () = never_mind(&ending.stop) => return,
            };
            let Ok(Ok(stream)) = handshake else {
                return;
            };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Box::pin(serve_protocol(stream, h2, &bounds, ending, handle)).await
        }
        None => {
            let speaks = tokio::select! {
                speaks = speaks_h2(&stream, bounds.header_timeout) => speaks,
                () = never_mind(&ending.stop) => return,
            };
            let Some(h2) = speaks else {
                return;
            };
            // Boxed, so that a connection that says nothing does not take the memory of one that is served.
            Box::pin(serve_protocol(stream, h2, &bounds, ending, handle)).await
        }
    };
    if let Err(error) = protocol {
        tracing::debug!(%peer, %error, "a client connection ended early");
    }
    drop(place);
}

/// When a stopping gateway no longer waits for the first bytes of a connection.
async fn never_mind(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FIRST_REQUEST).await;
}

/// Whether a plain connection starts with HTTP/2's preface; `None` when it sends nothing in time or closes.
async fn speaks_h2(stream: &TcpStream, timeout: Duration) -> Option<bool> {
    const PREFACE: &[u8; 3] = b"PRI";
    let sniff = async {
        let mut start = [0_u8; PREFACE.len()];
        let mut pause = Duration::from_millis(5);
        loop {
            let seen = stream.peek(&mut start).await.ok()?;
            let seen = start.get(..seen)?;
            if seen.is_empty() {
                return None;
            }
            if seen != PREFACE.get(..seen.len())? {
                return Some(false);
            }
            if seen.len() == PREFACE.len() {
                return Some(true);
            }
            // A part of the preface only: the socket stays readable, so there is nothing to wait for but time. The pauses
            // grow, or thousands of clients that send one byte could keep the cores busy.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    };
    tokio::time::timeout(timeout, sniff).await.ok()?
}

async fn serve_protocol<S, H, F, B>(
    stream: S,
    h2: bool,
    bounds: &Bounds,
    Ending { stop, cut }: Ending,
    handle: H,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(TimedIo::new(stream, Arc::clone(&activity), bounds, h2));
    let serving = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let request_active = Activity::begin(&serving);
        // hyper moves a request's future about before it polls it: a pointer moves faster than all of its states.
        let response = Box::pin(handle(request));
        async move {
            let response = response.await;
            Ok::<_, Infallible>(response.map(|body| activity::Tracked::new(body, request_active)))
        }
    });
    // A connection that was just accepted has a request on its way: told to stop now, it would be closed before that is read.
    let leave = async {
        stop.cancelled().await;
        activity.first_request(FIRST_REQUEST).await;
    };
    if h2 {
        let streams = Streams {
            idle_timeout: bounds.idle_timeout,
        };
        let mut builder = http2::Builder::new(streams);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        let connection = builder.serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = leave => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = cut.cancelled() => Ok(()),
                }
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        // Activity's clock replaces hyper's header timeout, which also ends idle connections.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(bounds.header_bytes_max)
            .max_buf_size(BUFFER_BYTES.max(bounds.header_bytes_max));
        let connection = builder.serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = leave => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = cut.cancelled() => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_had_connected_before_the_stop_is_served() {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..20 {
            // Its handshake is the kernel's: nobody has accepted it yet.
            let mut client = TcpStream::connect(address).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n";
            client.write_all(request).await.unwrap();
            clients.push(client);
        }
        let connections = Connections::default();
        connections.stop.cancel();
        let listener = Listener {
            socket,
            certificates: None,
            bounds: Bounds {
                header_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(5),
                header_bytes_max: 64 * 1024,
            },
            places: Arc::new(Semaphore::new(100)),
            on_failure: Arc::new(|| {}),
        };
        let welcome = |_| |_| async { Response::new(Full::<Bytes>::from("served")) };
        let serving = tokio::spawn(serve(listener, connections, welcome));
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("served"), "{answer}");
        }
        serving.await.unwrap();
    }
}
