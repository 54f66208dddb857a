//! When a connection has been silent for too long.
//!
//! hyper has no notion of a client that takes nothing, nor of one that sends nothing. Here a connection is in one of three
//! states: waiting for its first request (bounded by the header timeout), waiting for another (by the idle timeout), or serving
//! (by the requests' own timeouts; only a client that refuses to take its answers is cut). One timer serves all of them; it
//! is moved when it fires, or for a nearer deadline.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::streams::Taking;
use crate::listen::Bounds;
use crate::listen::stream::ClientStream;

/// How many requests a connection is serving.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicUsize,
    began: AtomicBool,
    first: tokio::sync::Notify,
}

impl Activity {
    /// A request began; it ends when the guard is dropped.
    pub(super) fn begin(this: &Arc<Activity>) -> Active {
        this.requests.fetch_add(1, Ordering::Relaxed);
        if !this.began.load(Ordering::Relaxed) && !this.began.swap(true, Ordering::Relaxed) {
            this.first.notify_one();
        }
        Active(Arc::clone(this))
    }

    /// Waits for the connection's first request, for a while: who has just connected is about to send one.
    pub(super) async fn first_request(&self, patience: Duration) {
        if !self.began.load(Ordering::Relaxed) {
            let _ = tokio::time::timeout(patience, self.first.notified()).await;
        }
    }

    fn is_serving(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body that keeps its request active until it is dropped.
#[derive(Debug)]
pub(super) struct Tracked<B> {
    body: B,
    taking: Option<Arc<Taking>>,
    _active: Active,
}

impl<B: Body + Unpin> Tracked<B> {
    pub(super) fn new(body: B, active: Active) -> Tracked<B> {
        let taking = Taking::current();
        if let Some(taking) = &taking {
            taking.offer();
        }
        Tracked {
            body,
            taking,
            _active: active,
        }
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(taking) = &self.taking {
            match polled {
                Poll::Ready(_) => taking.offer(),
                Poll::Pending => taking.taken(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No request; since when.
    Idle(Instant),
    /// No request yet; since when.
    New(Instant),
    /// A request is served, or was when last looked.
    Serving,
}

/// A stream that fails once its connection has been silent for too long.
pub(super) struct TimedIo {
    stream: ClientStream,
    /// What was read of it before.
    came: Bytes,
    activity: Arc<Activity>,
    state: State,
    /// Since when a write has been waiting for the client.
    stalled: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl TimedIo {
    pub(super) fn new(
        stream: ClientStream,
        came: Bytes,
        activity: Arc<Activity>,
        bounds: &Bounds,
    ) -> TimedIo {
        let now = Instant::now();
        TimedIo {
            stream,
            came,
            activity,
            // A connection is opened in order to send a request: the first one has no idle time.
            state: State::New(now),
            stalled: None,
            timer: Box::pin(tokio::time::sleep_until(now + bounds.header_timeout)),
            header_timeout: bounds.header_timeout,
            idle_timeout: bounds.idle_timeout,
        }
    }

    /// Looks at the state and keeps the timer running; ready when the connection should end.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            if self.activity.is_serving() {
                self.state = State::Serving;
            } else if self.state == State::Serving {
                self.state = State::Idle(Instant::now());
            }
            let since_state = match self.state {
                State::Idle(since) => Some(since + self.idle_timeout),
                State::New(since) => Some(since + self.header_timeout),
                State::Serving => None,
            };
            let since_stall = self.stalled.map(|since| since + self.idle_timeout);
            let deadline = [since_state, since_stall].into_iter().flatten().min();
            // An earlier wake-up than needed only looks again; a later one would miss the deadline.
            if let Some(deadline) = deadline.filter(|deadline| *deadline < self.timer.deadline()) {
                self.timer.as_mut().reset(deadline);
            }
            // The clock is read when the timer has fired, which is seldom, and not each time.
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client was silent for too long",
                ));
            }
            // While serving, wake now and then to see that the request has ended and the connection idles.
            let next = deadline.unwrap_or(now + self.idle_timeout);
            self.timer.as_mut().reset(next);
        }
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.came.is_empty() {
            let bytes = self.came.len().min(buf.remaining());
            buf.put_slice(&self.came.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => match self.poll_deadline(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl TimedIo {
    /// Notes whether the client takes what it is given.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        self.stalled.get_or_insert_with(Instant::now);
        match self.poll_deadline(cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, result)
    }
}
