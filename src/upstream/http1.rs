//! HTTP/1.1 connections to one upstream, each driven by the task of the request that uses it.
//!
//! hyper gives a connection as two halves: a sender of requests, and a future that reads and writes the socket, which is
//! usually a task of its own. Here the request's task polls that future itself. Bytes then reach the client without a hop
//! between tasks, and whatever came in one read can leave in one write. A connection at rest is polled by nobody: that its
//! peer has closed it is found out when it is taken, before anything is sent.

use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

use super::bell::Bell;
use super::{CallError, OutgoingBody};

/// How much of an answer is read at once.
const READ_BYTES_MAX: usize = 128 * 1024;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connections to one upstream that are at rest, and how to make more.
#[derive(Debug)]
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    /// Where connections go.
    address: http::Uri,
    /// The one used last is at the end, and is used next.
    idle: Mutex<Vec<Idle>>,
    idle_max: usize,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// One connection: both halves.
#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<OutgoingBody>,
    driver: Driver,
    bell: Arc<Bell>,
}

/// What reads and writes the socket: large, so that it stays where it is. `None` when the connection has ended.
type Driver = Option<Box<http1::Connection<Stream, OutgoingBody>>>;

impl Pool {
    pub(super) fn new(
        connector: HttpsConnector<HttpConnector>,
        address: http::Uri,
        idle_max: usize,
        idle_timeout: Duration,
    ) -> Pool {
        Pool {
            connector,
            address,
            idle: Mutex::default(),
            idle_max,
            idle_timeout,
        }
    }

    /// Sends a request on a connection at rest, or on a new one. Where the connection at rest turns out to be closed, the
    /// request was certainly not sent, and goes out on another. `sent` tells meanwhile whether it may have been.
    pub(super) async fn call(
        self: Arc<Self>,
        mut request: Request<OutgoingBody>,
        sent: Arc<AtomicBool>,
    ) -> Result<Response<Http1Body>, CallError> {
        loop {
            let rested = self.take();
            let fresh = rested.is_none();
            let mut connection = match rested {
                Some(connection) => connection,
                // In a box: the handshake's states would make every call's future ten times as large.
                None => Box::pin(self.connect()).await.map_err(CallError::Connect)?,
            };
            sent.store(true, Ordering::Relaxed);
            match connection.send(request).await {
                Ok(answer) => return Ok(answer.map(|body| Http1Body::new(body, connection, self))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => {
                        sent.store(false, Ordering::Relaxed);
                        request = unsent;
                    }
                    Some(_) => return Err(CallError::Connect(error.into_error().into())),
                    None => return Err(CallError::Broken(error.into_error().into())),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        // Happy eyeballs, the time to connect and the TLS handshake are the connector's.
        let stream = self.connector.clone().call(self.address.clone()).await?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            .handshake(stream)
            .await?;
        Ok(Connection::new(sender, driver))
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let last = idle.pop()?;
        if last.since.elapsed() < self.idle_timeout {
            return Some(last.connection);
        }
        // The one that was used last is too old, and so are the others.
        idle.clear();
        None
    }

    /// A connection comes to rest.
    fn put(self: &Arc<Self>, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() >= self.idle_max {
            return;
        }
        idle.push(Idle {
            connection,
            since: Instant::now(),
        });
        let first = idle.len() == 1;
        drop(idle);
        if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(sweep(Arc::downgrade(self), self.idle_timeout));
        }
    }

    /// Closes what has rested too long; whether any are left.
    fn close_rested(&self) -> bool {
        let mut idle = self.idle();
        let old = idle.partition_point(|idle| idle.since.elapsed() >= self.idle_timeout);
        let closed: Vec<Idle> = idle.drain(..old).collect();
        let any = !idle.is_empty();
        drop(idle);
        drop(closed);
        any
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that rested too long, for as long as there are any.
async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_rested()) {
            return;
        }
    }
}

impl Connection {
    fn new(
        sender: http1::SendRequest<OutgoingBody>,
        driver: http1::Connection<Stream, OutgoingBody>,
    ) -> Connection {
        Connection {
            sender,
            driver: Some(Box::new(driver)),
            bell: Arc::default(),
        }
    }

    /// Sends a request and waits for the head of its answer. The error holds the request when nothing of it was sent.
    async fn send(
        &mut self,
        request: Request<OutgoingBody>,
    ) -> Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<OutgoingBody>>> {
        let Connection {
            sender,
            driver,
            bell,
        } = self;
        let mut answer = pin!(sender.try_send_request(request));
        // The request came to the connection without anybody ringing.
        bell.ring();
        std::future::poll_fn(|cx| {
            bell.answer(cx, |cx, quiet| {
                drive(driver, cx);
                answer.as_mut().poll(quiet)
            })
        })
        .await
    }

    /// The next frame of the answer under way.
    fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Connection { driver, bell, .. } = self;
        bell.answer(cx, |cx, quiet| {
            let frame = Pin::new(&mut *body).poll_frame(quiet);
            if frame.is_ready() {
                return frame;
            }
            drive(driver, cx);
            Pin::new(&mut *body).poll_frame(quiet)
        })
    }
}

/// Reads and writes what can be. A driver that has ended is dropped, which resolves what still waits for it.
fn drive(driver: &mut Driver, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// An answer's body together with the connection that brings it. At its end the connection comes to rest.
#[derive(Debug)]
pub struct Http1Body {
    body: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl Http1Body {
    fn new(body: Incoming, connection: Connection, pool: Arc<Pool>) -> Http1Body {
        let mut answer = Http1Body {
            body,
            connection: Some(connection),
            pool,
        };
        if answer.body.is_end_stream() {
            answer.rest();
        }
        answer
    }

    /// Puts the connection back when it can take another request; otherwise it is closed.
    fn rest(&mut self) {
        if let Some(connection) = self.connection.take()
            && connection.sender.is_ready()
        {
            self.pool.put(connection);
        }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.connection {
            Some(connection) => connection.poll_frame(&mut this.body, cx),
            None => Pin::new(&mut this.body).poll_frame(cx),
        };
        if matches!(frame, Poll::Ready(None)) || this.body.is_end_stream() {
            this.rest();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
