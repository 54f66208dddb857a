//! HTTP/1.1 to one upstream: each connection is read and written by the task of the request that uses it.
//!
//! There is no task between the upstream's socket and the client's: bytes reach the client without a hop, and whatever came
//! in one read can leave in one write. A connection that waits holds no buffers. One at rest is polled by nobody: that its
//! peer has closed it is found out when it is taken, before anything is sent.

mod connection;
pub mod head;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::Instant;
use tower_service::Service;

use self::connection::Connection;
use self::head::{Head, HeadError};
use super::{CallError, Cause, OutgoingBody};
use crate::http1::framing::{Framing, FramingError};
use crate::http1::{Pieces, joined};

/// How many answers that are none yet (100, 103) may come before the answer.
const INFORMATIONAL_MAX: usize = 16;

/// The connections to one upstream that are at rest, and how to make more.
#[derive(Debug)]
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    /// Where connections go.
    address: http::Uri,
    rest: Mutex<Rest>,
    idle_max: usize,
    idle_timeout: Duration,
}

#[derive(Debug, Default)]
struct Rest {
    /// The one used last is at the end, and is used next.
    idle: Vec<Idle>,
    /// Whether a task looks for those that rest too long.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

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
            rest: Mutex::default(),
            idle_max,
            idle_timeout,
        }
    }

    /// Sends a request on a connection at rest, or on a new one.
    pub(super) fn call(
        self: &Arc<Self>,
        method: Method,
        path: &PathAndQuery,
        headers: &HeaderMap,
        body: OutgoingBody,
    ) -> Call {
        let head = head::write(&method, path, headers, body.len());
        Call {
            pool: Arc::clone(self),
            stage: Stage::Unsent(body.behind(head)),
            method,
        }
    }

    /// Happy eyeballs, the time to connect and the TLS handshake are the connector's.
    fn connect(&self) -> Connecting {
        let connecting = self.connector.clone().call(self.address.clone());
        Box::pin(async { Ok(Connection::new(connecting.await?)) })
    }

    /// A connection at rest whose peer keeps it open.
    fn take(&self, cx: &mut Context<'_>) -> Option<Connection> {
        loop {
            let mut rest = self.rest();
            let last = rest.idle.pop()?;
            if last.since.elapsed() >= self.idle_timeout {
                // The one that was used last is too old, and so are the others: closed once others may take and put again.
                let old = std::mem::take(&mut rest.idle);
                drop(rest);
                drop((last, old));
                return None;
            }
            drop(rest);
            let mut connection = last.connection;
            if connection.is_open(cx) {
                return Some(connection);
            }
        }
    }

    /// A connection comes to rest.
    fn put(self: &Arc<Self>, connection: Connection) {
        let mut rest = self.rest();
        if rest.idle.len() >= self.idle_max {
            return;
        }
        rest.idle.push(Idle {
            connection,
            since: Instant::now(),
        });
        if !rest.swept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            rest.swept = true;
            runtime.spawn(sweep(Arc::downgrade(self), self.idle_timeout));
        }
    }

    /// Closes what has rested too long; whether any are left to look for.
    fn close_rested(&self) -> bool {
        let mut rest = self.rest();
        let old = rest
            .idle
            .partition_point(|idle| idle.since.elapsed() >= self.idle_timeout);
        let closed: Vec<Idle> = rest.idle.drain(..old).collect();
        rest.swept = !rest.idle.is_empty();
        let any = rest.swept;
        drop(rest);
        drop(closed);
        any
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
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

type Connecting = Pin<Box<dyn Future<Output = Result<Connection, Cause>> + Send>>;

/// A request on its way, until the head of its answer has come.
pub(super) struct Call {
    pool: Arc<Pool>,
    method: Method,
    stage: Stage,
}

enum Stage {
    Unsent(Pieces),
    Connecting(Connecting, Pieces),
    Sent(Sent),
    /// Its answer was given.
    Over,
}

/// A request and the start of its answer on one connection.
struct Sent {
    connection: Connection,
    /// Whether the connection was made for this request.
    fresh: bool,
    /// What has come of the answer.
    input: Bytes,
    informational: usize,
}

impl Call {
    /// Whether the request may have reached the upstream: not while its connection is still being made.
    pub(super) fn may_have_been_sent(&self) -> bool {
        matches!(self.stage, Stage::Sent(_))
    }

    fn send(connection: Connection, fresh: bool, message: Pieces) -> Stage {
        let mut sent = Sent {
            connection,
            fresh,
            input: Bytes::new(),
            informational: 0,
        };
        sent.connection.begin(message);
        Stage::Sent(sent)
    }
}

impl Future for Call {
    type Output = Result<Response<Http1Body>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match std::mem::replace(&mut this.stage, Stage::Over) {
                Stage::Unsent(message) => {
                    this.stage = match this.pool.take(cx) {
                        Some(connection) => Call::send(connection, false, message),
                        None => Stage::Connecting(this.pool.connect(), message),
                    };
                }
                Stage::Connecting(mut connecting, message) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(connection)) => {
                        this.stage = Call::send(connection, true, message);
                    }
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(CallError::Connect(error)));
                    }
                    Poll::Pending => {
                        this.stage = Stage::Connecting(connecting, message);
                        return Poll::Pending;
                    }
                },
                Stage::Sent(mut sent) => match sent.poll(cx, &this.method) {
                    Poll::Pending => {
                        this.stage = Stage::Sent(sent);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(head)) => {
                        let Sent {
                            connection, input, ..
                        } = sent;
                        let pool = Arc::clone(&this.pool);
                        return Poll::Ready(Ok(Http1Body::answer(head, connection, input, pool)));
                    }
                    Poll::Ready(Err(Failure::Unsent(message, error))) => {
                        if sent.fresh {
                            return Poll::Ready(Err(CallError::Connect(error.into())));
                        }
                        this.stage = Stage::Unsent(message);
                    }
                    Poll::Ready(Err(Failure::Broken(error))) => {
                        return Poll::Ready(Err(CallError::Broken(error.into())));
                    }
                },
                // A future that is polled after its end may do as it likes, but not panic.
                Stage::Over => return Poll::Pending,
            }
        }
    }
}

/// Why no head came.
enum Failure {
    /// The connection took nothing of the request: it may go out on another.
    Unsent(Pieces, io::Error),
    Broken(ReadError),
}

impl Sent {
    /// Sends what can be sent, and reads until the head of the answer is there.
    fn poll(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<Head, Failure>> {
        if let Poll::Ready(Err(error)) = self.connection.poll_send(cx) {
            let begun = self.connection.has_begun();
            match self.connection.stop_sending() {
                Some(message) if !begun => {
                    return Poll::Ready(Err(Failure::Unsent(message, error)));
                }
                // Who does not want the rest of a request may have said why.
                _ => {}
            }
        }
        loop {
            let came = match self.connection.poll_read(cx) {
                Poll::Ready(Ok(came)) => came,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Broken(error.into()))),
                Poll::Pending => return Poll::Pending,
            };
            if came.is_empty() {
                return Poll::Ready(Err(Failure::Broken(ReadError::Closed)));
            }
            // Looked at again only when a line has ended: a head that comes byte by byte costs no more than others.
            let looks = memchr::memchr(b'\n', &came).is_some()
                || self.input.len() + came.len() > head::HEAD_BYTES_MAX;
            self.input = joined(std::mem::take(&mut self.input), came);
            if !looks {
                continue;
            }
            match self.head(method) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(Failure::Broken(error.into()))),
            }
        }
    }

    /// The head of the answer, if it is all there.
    fn head(&mut self, method: &Method) -> Result<Option<Head>, HeadError> {
        while let Some(head) = head::read(&self.input, method)? {
            let _ = self.input.split_to(head.length);
            let status = head.response.status();
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.informational += 1;
            if self.informational > INFORMATIONAL_MAX {
                return Err(HeadError::Length);
            }
        }
        Ok(None)
    }
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection ended before the answer did.
    #[error("the connection was closed before the end of the answer")]
    Closed,
    /// Its head cannot be read.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Its body cannot be read.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

/// An answer's body together with the connection that brings it. At its end the connection comes to rest.
#[derive(Debug)]
pub struct Http1Body {
    framing: Framing,
    /// What has come and is not handed on.
    input: Bytes,
    /// `None` when nothing more is to be read.
    connection: Option<Connection>,
    reusable: bool,
    pool: Arc<Pool>,
}

impl Http1Body {
    fn answer(
        head: Head,
        connection: Connection,
        input: Bytes,
        pool: Arc<Pool>,
    ) -> Response<Http1Body> {
        let mut body = Http1Body {
            framing: head.framing,
            input,
            connection: Some(connection),
            reusable: head.reusable,
            pool,
        };
        if body.framing.is_end() {
            body.rest();
        }
        head.response.map(|()| body)
    }

    /// The next bytes, then the trailers.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        loop {
            if self.framing.is_end() {
                return Poll::Ready(self.framing.trailers().map(Frame::trailers).map(Ok));
            }
            if !self.input.is_empty() {
                let data = match self.framing.decode(&mut self.input) {
                    Ok(data) => data,
                    Err(error) => return self.broken(error.into()),
                };
                if self.framing.is_end() {
                    self.rest();
                }
                if !data.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                continue;
            }
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            if let Poll::Ready(Err(_)) = connection.poll_send(cx) {
                // Who has answered need not take the rest of the request.
                connection.stop_sending();
            }
            match std::task::ready!(connection.poll_read(cx)) {
                Ok(came) if !came.is_empty() => self.input = came,
                Ok(_) if matches!(self.framing, Framing::UntilClose) => self.connection = None,
                Ok(_) => return self.broken(ReadError::Closed),
                Err(error) => return self.broken(error.into()),
            }
        }
    }

    fn broken(&mut self, error: ReadError) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        self.connection = None;
        self.input = Bytes::new();
        Poll::Ready(Some(Err(error)))
    }

    /// Puts the connection back when it can take another request; otherwise it is closed.
    fn rest(&mut self) {
        // Bytes behind the end of an answer belong to nobody's request.
        let input = std::mem::take(&mut self.input);
        if let Some(connection) = self.connection.take()
            && self.reusable
            && input.is_empty()
            && connection.is_whole()
        {
            self.pool.put(connection);
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.framing.is_end() && !self.framing.has_trailers()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.framing.left() {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
