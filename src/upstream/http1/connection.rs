//! One connection: a request on its way out, bytes on their way in.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::http1::{self, Pieces};

pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection. It is read and written by whoever uses it; at rest nobody does.
pub(super) struct Connection {
    /// In a box: TLS has a large state, and connections are moved from request to request.
    stream: TokioIo<Box<Stream>>,
    sending: Option<Sending>,
    /// Whether a request was not sent to its end.
    torn: bool,
}

/// What of a request is not sent yet.
struct Sending {
    left: Pieces,
    /// How long it is.
    whole: u64,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Connection {
        Connection {
            stream: TokioIo::new(Box::new(stream)),
            sending: None,
            torn: false,
        }
    }

    /// The request that [`Connection::poll_send`] sends.
    pub(super) fn begin(&mut self, message: Pieces) {
        self.sending = Some(Sending {
            whole: message.len(),
            left: message,
        });
    }

    /// Whether every request was sent to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.sending.is_none() && !self.torn
    }

    /// Whether the connection may have taken some of the request.
    pub(super) fn has_begun(&self) -> bool {
        let sending = self.sending.as_ref();
        sending.is_none_or(|sending| sending.left.len() < sending.whole)
    }

    /// Gives up what is not sent.
    pub(super) fn stop_sending(&mut self) -> Option<Pieces> {
        let left = self.sending.take()?.left;
        self.torn = true;
        Some(left)
    }

    /// Sends what the connection takes. Ready when all is sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Ok(()));
        };
        ready!(sending.left.poll_write(&mut self.stream, cx))?;
        // TLS keeps what the socket did not take.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.sending = None;
        Poll::Ready(Ok(()))
    }

    /// Reads what is there. Nothing means that the peer has closed.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        http1::poll_read(&mut self.stream, cx)
    }

    /// Whether a connection at rest can still be used: its peer has neither closed it nor said anything. Many may have to be
    /// looked at: a task that has used up its turn would be told of each that there is nothing to read.
    pub(super) fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        let look = std::future::poll_fn(|cx| self.poll_read(cx));
        pin!(tokio::task::unconstrained(look)).poll(cx).is_pending()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("is_whole", &self.is_whole())
            .finish_non_exhaustive()
    }
}
