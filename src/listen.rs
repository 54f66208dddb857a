//! Accepting connections: sockets, TLS, bounds, and serving HTTP on them until told to stop.

mod body;
mod descriptors;
pub mod http1;
mod http2;
mod socket;
mod stream;
mod tls;
mod turn;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Bytes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use body::{ClientBody, ClientBodyError};
pub use descriptors::{connections as connections_max, raise_limit};
pub use socket::bind;
use stream::ClientStream;
pub use tls::{Certificates, CertificatesError};
use turn::Turn;

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

/// What the connections of a listener have in common.
#[derive(Clone)]
struct Terms {
    certificates: Option<Arc<Certificates>>,
    bounds: Bounds,
    turn: Turn,
    /// Tells a connection to end after its present requests.
    stop: CancellationToken,
    /// Tells it to end at once.
    cut: CancellationToken,
}

/// How long a listener that stops accepts connections that were on their way: a slow handshake takes about so long.
const LAST_CALL: Duration = Duration::from_millis(250);
/// How long a stopping gateway waits for the first request of a connection that has sent none.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, and how often that is logged.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(10);

/// Accepts connections until told to stop. `welcome` gets each peer's address and gives what handles its requests.
pub async fn serve<W, H, F, B>(listener: Listener, connections: Connections, welcome: W)
where
    W: Fn(SocketAddr) -> H,
    H: Fn(Request<ClientBody>) -> F + Send + Sync + 'static,
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
    let terms = Terms {
        certificates,
        bounds,
        turn: Turn::default(),
        stop: connections.stop.clone(),
        cut: connections.cut.clone(),
    };
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
                let connection = connect(stream, peer, terms.clone(), welcome(peer), place);
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
    terms: Terms,
    handle: H,
    place: OwnedSemaphorePermit,
) where
    H: Fn(Request<ClientBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let opened = tokio::select! {
        opened = open(stream, terms.certificates, terms.bounds.header_timeout) => opened,
        () = never_mind(&terms.stop) => return,
    };
    let Some(Opened {
        stream,
        came,
        protocol,
    }) = opened
    else {
        return;
    };
    tokio::select! {
        biased;
        () = terms.cut.cancelled() => return,
        () = terms.turn.come() => {}
    }
    // Boxed, so that a connection that says nothing does not take the memory of one that is served.
    let serving: Serving = match protocol {
        Protocol::Http1 => Box::pin(async {
            http1::serve(stream, came, &terms.bounds, &terms.stop, handle)
                .await
                .map_err(Into::into)
        }),
        Protocol::Http2 => Box::pin(async {
            http2::serve(stream, came, &terms.bounds, &terms.stop, handle)
                .await
                .map_err(Into::into)
        }),
    };
    let ended = tokio::select! {
        biased;
        () = terms.cut.cancelled() => Ok(()),
        ended = serving => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a client connection ended early");
    }
    drop(place);
}

type Serving<'a> =
    Pin<Box<dyn Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>>;

/// A connection that can be served.
struct Opened {
    stream: ClientStream,
    /// What has been read of it.
    came: Bytes,
    protocol: Protocol,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

/// Makes a connection ready to be served; `None` when the client does not do its part in time.
async fn open(
    mut stream: TcpStream,
    certificates: Option<Arc<Certificates>>,
    timeout: Duration,
) -> Option<Opened> {
    let Some(certificates) = certificates else {
        let spoken = tokio::time::timeout(timeout, listen_for_protocol(&mut stream));
        let (came, protocol) = spoken.await.ok()??;
        return Some(Opened {
            stream: ClientStream::Plain(stream),
            came,
            protocol,
        });
    };
    // In a box: a handshake is large, and a connection without TLS would have room for one all the same.
    let handshake = Box::pin(certificates.acceptor().accept(stream));
    let stream = tokio::time::timeout(timeout, handshake).await.ok()?.ok()?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Some(Opened {
        stream: ClientStream::Tls(Box::new(stream)),
        came: Bytes::new(),
        protocol,
    })
}

/// Reads until it is clear whether a connection begins with HTTP/2's preface; `None` when it ends before.
async fn listen_for_protocol(stream: &mut TcpStream) -> Option<(Bytes, Protocol)> {
    const PREFACE: &[u8; 3] = b"PRI";
    let mut came = Bytes::new();
    loop {
        let more = poll_fn(|cx| crate::http1::poll_read(stream, cx))
            .await
            .ok()?;
        if more.is_empty() {
            return None;
        }
        came = crate::http1::joined(came, more);
        if came.starts_with(PREFACE) {
            return Some((came, Protocol::Http2));
        }
        if !PREFACE.starts_with(&came) {
            return Some((came, Protocol::Http1));
        }
    }
}

/// When a stopping gateway no longer waits for the first bytes of a connection.
async fn never_mind(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FIRST_REQUEST).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_accepted_connection_sends_small_pieces_at_once() {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = TcpStream::connect(socket.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = socket.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
    }

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
