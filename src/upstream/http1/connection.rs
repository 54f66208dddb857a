//! One connection: a request on its way out, bytes on their way in.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::upstream::OutgoingBody;

/// How much is read at once, and so how much of a stream that came together is passed on together.
const READ_BYTES: usize = 64 * 1024;
/// How many pieces of a request are written at once.
const PIECES_MAX: usize = 16;

pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

thread_local! {
    /// Where reads go first: a connection that waits holds no buffer, and what it gets is as large as what came.
    static LANDING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) head: Bytes,
    pub(super) body: OutgoingBody,
}

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
    left: Message,
    /// Whether the connection has taken any of it.
    begun: bool,
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
    pub(super) fn begin(&mut self, message: Message) {
        self.sending = Some(Sending {
            left: message,
            begun: false,
        });
    }

    /// Whether every request was sent to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.sending.is_none() && !self.torn
    }

    /// Whether the connection may have taken some of the request.
    pub(super) fn has_begun(&self) -> bool {
        self.sending.as_ref().is_none_or(|sending| sending.begun)
    }

    /// Gives up what is not sent.
    pub(super) fn stop_sending(&mut self) -> Option<Message> {
        let left = self.sending.take()?.left;
        self.torn = true;
        Some(left)
    }

    /// Sends what the connection takes. Ready when all is sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(Sending { left, begun }) = &mut self.sending else {
            return Poll::Ready(Ok(()));
        };
        let mut stream = Pin::new(&mut self.stream);
        while left.head.has_remaining() || !left.body.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let pieces = std::iter::once(&left.head).chain(left.body.pieces());
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let sent = ready!(stream.as_mut().poll_write_vectored(cx, slices))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *begun = true;
            let of_head = sent.min(left.head.len());
            left.head.advance(of_head);
            left.body.advance(sent - of_head);
        }
        // TLS keeps what the socket did not take.
        ready!(stream.poll_flush(cx))?;
        self.sending = None;
        Poll::Ready(Ok(()))
    }

    /// Reads what is there. Nothing means that the peer has closed.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        LANDING.with_borrow_mut(|landing| {
            let mut landing = ReadBuf::new(landing);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut landing))?;
            Poll::Ready(Ok(Bytes::copy_from_slice(landing.filled())))
        })
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
