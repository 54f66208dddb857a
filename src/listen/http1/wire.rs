//! A client's connection as both the one who serves it and the body of the present request use it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::Frame;
use socket2::SockRef;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use super::head::{self, Head, HeadError};
use crate::http1::framing::{Framing, FramingError};
use crate::http1::{self, Pieces};
use crate::listen::Bounds;
use crate::listen::stream::ClientStream;

/// What a client that waits for a word before it sends its body is told (RFC 9110, 10.1.1).
const CONTINUE: Bytes = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");

/// Why a connection ends early.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client has closed it, or never took an answer, or said nothing.
    #[error("the client closed the connection")]
    Closed,
    /// It sent nothing, or took nothing, for too long.
    #[error("the client was silent for too long")]
    Silent,
    /// It sent what is no request.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It sent what is no body.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
}

/// The connection.
pub(super) struct Wire {
    stream: ClientStream,
    /// What has come and is not used.
    input: Bytes,
    /// Whether what has come since the last look may hold the end of a head.
    looks: bool,
    /// What is to be sent.
    output: Pieces,
    /// What is left of the present request's body.
    body: Framing,
    /// Whether the client waits to be told to send it.
    expects: bool,
    /// How many requests there were: a body that outlives its own must not read the next one.
    requests: u64,
    patience: Patience,
    bounds: Bounds,
}

impl Wire {
    pub(super) fn new(stream: ClientStream, came: Bytes, bounds: Bounds) -> Wire {
        // A connection is opened in order to send a request: the first one has no idle time.
        let patience = Patience::new(bounds.header_timeout);
        Wire {
            stream,
            looks: !came.is_empty(),
            input: came,
            output: Pieces::default(),
            body: Framing::Length(0),
            expects: false,
            requests: 0,
            patience,
            bounds,
        }
    }

    /// The number of the present request.
    pub(super) fn request(&self) -> u64 {
        self.requests
    }

    /// Whether nothing of a next request has come.
    pub(super) fn is_idle(&self) -> bool {
        self.input.is_empty()
    }

    /// The next request; `None` when the client closes instead, or has nothing more to ask.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Head>, WireError>> {
        loop {
            if std::mem::take(&mut self.looks)
                && let Some(head) = head::read(&self.input, self.bounds.header_bytes_max)?
            {
                return Poll::Ready(Ok(Some(self.begin(head))));
            }
            let idle = self.is_idle();
            match self.poll_input(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) if idle => return Poll::Ready(Ok(None)),
                Poll::Ready(false) => return Poll::Ready(Err(WireError::Closed)),
                Poll::Pending => {
                    self.patience.begin(match idle {
                        true => self.bounds.idle_timeout,
                        false => self.bounds.header_timeout,
                    });
                    ready!(self.patience.poll(cx));
                    return Poll::Ready(match idle && self.requests > 0 {
                        true => Ok(None),
                        false => Err(WireError::Silent),
                    });
                }
            }
        }
    }

    fn begin(&mut self, mut head: Head) -> Head {
        let _ = self.input.split_to(head.length);
        self.patience.end();
        self.body = std::mem::replace(&mut head.framing, Framing::Length(0));
        if self.body.is_end() {
            self.pass_empty_lines();
            self.looks = !self.input.is_empty();
        }
        self.expects = head.expects;
        self.requests += 1;
        head
    }

    /// Waits no longer than that for the next request.
    pub(super) fn hurry(&mut self, patience: Duration) {
        self.patience.shorten(patience);
    }

    /// Ready when the client goes away while it is waited for something else. What it sends meanwhile is kept; a client that
    /// sends more than a head may have is not looked at again before its next request.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<WireError> {
        while self.body.is_end() && self.input.len() < self.bounds.header_bytes_max {
            match self.poll_input(cx) {
                Ok(Poll::Ready(true)) => {}
                Ok(Poll::Ready(false)) => return Poll::Ready(WireError::Closed),
                Ok(Poll::Pending) => break,
                Err(error) => return Poll::Ready(error.into()),
            }
        }
        Poll::Pending
    }

    /// Reads more; whether there was any before the end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<bool>> {
        let Poll::Ready(came) = http1::poll_read(&mut self.stream, cx)? else {
            return Ok(Poll::Pending);
        };
        let any = !came.is_empty();
        let begins = self.input.is_empty();
        // A head that comes byte by byte is looked at again when it may be whole.
        let looks = begins
            || may_end(&self.input, &came)
            || self.input.len() + came.len() >= self.bounds.header_bytes_max;
        self.input = http1::joined(std::mem::take(&mut self.input), came);
        if self.body.is_end() {
            self.pass_empty_lines();
        }
        if !self.input.is_empty() {
            self.looks |= looks;
            if begins {
                // Idle time is over, the time for a head begins.
                self.patience.end();
            }
        }
        Ok(Poll::Ready(any))
    }

    /// Some clients send an empty line behind a body: it begins no request (RFC 9112, 2.2).
    fn pass_empty_lines(&mut self) {
        loop {
            let length = match &*self.input {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => return,
            };
            let _ = self.input.split_to(length);
        }
    }

    /// The next bytes of the present request's body, then its trailers.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        loop {
            if self.body.is_end() {
                return Poll::Ready(self.body.trailers().map(Frame::trailers).map(Ok));
            }
            if self.input.is_empty() {
                if let Err(error) = self.welcome_body(cx) {
                    return Poll::Ready(Some(Err(error)));
                }
                match self.poll_input(cx) {
                    Ok(Poll::Ready(true)) => {}
                    Ok(Poll::Ready(false)) => return Poll::Ready(Some(Err(WireError::Closed))),
                    Ok(Poll::Pending) => return Poll::Pending,
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                }
            }
            match self.decode() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Puts what comes of the body behind what is there, straight from the socket where the length is known. Gives how many
    /// bytes came; none at the body's end.
    pub(super) fn poll_body_into(
        &mut self,
        whole: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, WireError>> {
        if !self.expects
            && self.input.is_empty()
            && let Framing::Length(left) = &mut self.body
            && *left > 0
        {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            let came = ready!(poll_read_buf(
                Pin::new(&mut self.stream),
                cx,
                &mut whole.limit(most)
            ))?;
            if came == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
            *left = left.saturating_sub(came as u64);
            return Poll::Ready(Ok(came));
        }
        loop {
            match ready!(self.poll_body(cx))
                .transpose()?
                .map(Frame::into_data)
            {
                Some(Ok(data)) => {
                    whole.extend_from_slice(&data);
                    return Poll::Ready(Ok(data.len()));
                }
                Some(Err(_trailers)) => {}
                None => return Poll::Ready(Ok(0)),
            }
        }
    }

    fn decode(&mut self) -> Result<Bytes, FramingError> {
        let data = self.body.decode(&mut self.input)?;
        if self.body.is_end() {
            // What is behind the body may be the next request.
            self.pass_empty_lines();
            self.looks = !self.input.is_empty();
        }
        Ok(data)
    }

    /// Tells a client that waits for it to send its body.
    fn welcome_body(&mut self, cx: &mut Context<'_>) -> Result<(), WireError> {
        if std::mem::take(&mut self.expects) {
            self.output.push(CONTINUE);
        }
        // What the socket does not take now goes out before the answer does.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// What is left of the present request's body.
    pub(super) fn body(&self) -> &Framing {
        &self.body
    }

    /// Whether the present request's body was read, or all of it has come: then the connection may go on.
    pub(super) fn is_past_body(&mut self) -> bool {
        while !self.body.is_end() && !self.input.is_empty() {
            if self.decode().is_err() {
                return false;
            }
        }
        self.body.is_end()
    }

    /// Puts something in line for the client.
    pub(super) fn send(&mut self, piece: Bytes) {
        self.output.push(piece);
    }

    /// How many bytes are in line.
    pub(super) fn unsent(&self) -> u64 {
        self.output.len()
    }

    /// Sends what is in line. Ready when the client's side has taken all of it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        let before = self.output.len();
        if let Poll::Ready(sent) = self.poll_write(cx) {
            self.patience.end();
            return Poll::Ready(sent.map_err(WireError::Io));
        }
        if self.output.len() < before {
            self.patience.end();
        }
        self.patience.begin(self.bounds.idle_timeout);
        ready!(self.patience.poll(cx));
        Poll::Ready(Err(WireError::Silent))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.output.poll_write(&mut self.stream, cx))?;
        // TLS keeps what the socket did not take.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that nothing more comes.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        ready!(self.poll_send(cx))?;
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        if let Poll::Ready(closed) = closed {
            return Poll::Ready(closed.map_err(WireError::Io));
        }
        // TLS has a last word to write, which the client may refuse to take.
        self.patience.begin(self.bounds.idle_timeout);
        ready!(self.patience.poll(cx));
        Poll::Ready(Err(WireError::Silent))
    }

    /// Says so where the end of the connection does not: there is nothing left to send or to take, and it ends now.
    pub(super) fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        match self.stream {
            ClientStream::Plain(_) => Poll::Ready(Ok(())),
            ClientStream::Tls(_) => self.poll_close(cx),
        }
    }

    /// Whether the socket, when it is dropped, is reset: then the client cannot take the connection's end for the end of what
    /// was sent. What the client's side has not taken by then is lost.
    pub(super) fn ends_by_reset(&mut self, reset: bool) {
        match &self.stream {
            ClientStream::Plain(stream) => {
                let _ = SockRef::from(stream).set_linger(reset.then_some(Duration::ZERO));
            }
            // Without TLS's last word the client knows that something is missing.
            ClientStream::Tls(_) => {}
        }
    }

    /// Throws away what comes. Ready at its end, or when it was enough.
    pub(super) fn poll_discard(&mut self, left: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(http1::poll_read(&mut self.stream, cx)) {
                Ok(came) if !came.is_empty() && *left > 0 => {
                    *left = left.saturating_sub(came.len())
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// Whether a head may end in what has just come: with an empty line.
fn may_end(before: &[u8], came: &[u8]) -> bool {
    let tail = before
        .get(before.len().saturating_sub(3)..)
        .unwrap_or_default();
    let seam: Vec<u8> = tail.iter().chain(came.iter().take(3)).copied().collect();
    [&seam, came].iter().any(|text| {
        memchr::memchr_iter(b'\n', text).any(|at| {
            let behind = text.get(at + 1..).unwrap_or_default();
            behind.starts_with(b"\n") || behind.starts_with(b"\r\n")
        })
    })
}

/// How long the client may be silent. One timer serves the connection: it is moved when it fires, or for a nearer end.
struct Patience {
    timer: Pin<Box<Sleep>>,
    ends: Option<Instant>,
}

impl Patience {
    fn new(first: Duration) -> Patience {
        let ends = Instant::now() + first;
        Patience {
            timer: Box::pin(tokio::time::sleep_until(ends)),
            ends: Some(ends),
        }
    }

    /// From now on, unless it has begun already.
    fn begin(&mut self, patience: Duration) {
        self.ends.get_or_insert_with(|| Instant::now() + patience);
    }

    /// It lasts no longer than that from now on.
    fn shorten(&mut self, patience: Duration) {
        let ends = Instant::now() + patience;
        self.ends = Some(self.ends.map_or(ends, |later| later.min(ends)));
    }

    /// The client has done something.
    fn end(&mut self) {
        self.ends = None;
    }

    /// Ready when it is at its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(ends) = self.ends else {
                return Poll::Pending;
            };
            // An earlier wake-up than needed only looks again; a later one would be too late.
            if ends < self.timer.deadline() {
                self.timer.as_mut().reset(ends);
            }
            ready!(self.timer.as_mut().poll(cx));
            if ends <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(ends);
        }
    }
}
