//! HTTP/1.1 to a client: its requests one after the other, each read, handled and answered by the task of its connection.
//!
//! The connection holds no buffers while it waits. While a request is handled it is watched whether the client goes away. What
//! an answer has ready leaves in one write; nothing is held back once there is no more.

pub mod head;
#[cfg(test)]
mod tests;
mod wire;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, TRAILER};
use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use self::head::{Asked, Sent};
use self::wire::Wire;
pub use self::wire::WireError;
use super::stream::ClientStream;
use super::{Bounds, ClientBody, FIRST_REQUEST};

/// How much of an answer is put in line before it is written.
const IN_LINE_BYTES: u64 = 64 * 1024;
/// Up to this size a chunk is copied behind its size and sent as one piece.
const COPIED_BYTES: usize = 4 * 1024;

/// How much of what nobody wants is taken from a client before its connection is closed, and for how long.
const UNREAD_BYTES: usize = 1024 * 1024;
const UNREAD_TIME: Duration = Duration::from_secs(1);

/// Serves the requests of a connection, of which something may have come already, until the client closes it or it is told
/// to stop.
///
/// # Errors
/// When the connection ends before an answer does, or with what is no request.
pub(super) async fn serve<H, F, B>(
    stream: ClientStream,
    came: Bytes,
    bounds: &Bounds,
    stop: &CancellationToken,
    handle: H,
) -> Result<(), WireError>
where
    H: Fn(Request<ClientBody>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wire = Shared(Arc::new(Mutex::new(Wire::new(
        stream,
        came,
        bounds.clone(),
    ))));
    let mut stopped = Stopped {
        stop: Box::pin(stop.cancelled()),
        seen: false,
    };
    loop {
        let head = match poll_fn(|cx| wire.poll_next(&mut stopped, cx)).await {
            Ok(Some(head)) => head,
            Ok(None) => return poll_fn(|cx| wire.get().poll_leave(cx)).await,
            Err(WireError::Head(error)) => {
                wire.refuse(error).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error),
        };
        let asked = Asked::of(&head.request);
        let request = head.request.map(|()| ClientBody::Http1(wire.body()));
        // In a box: the future is large, and this one holds it across its own states.
        let mut handling = Box::pin(handle(request));
        let response = poll_fn(|cx| match handling.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => wire.get().poll_gone(cx).map(Err),
        })
        .await?;
        drop(handling);
        let reusable = head.reusable && !stop.is_cancelled();
        if !wire.answer(response, &asked, reusable).await? {
            break;
        }
    }
    wire.close().await
}

/// Whether the gateway is stopping.
struct Stopped<F> {
    stop: Pin<Box<F>>,
    seen: bool,
}

impl<F: Future<Output = ()>> Stopped<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.seen {
            self.seen = self.stop.as_mut().poll(cx).is_ready();
        }
        self.seen
    }
}

/// The connection, as its task and the body of the present request share it. Both run in that task, so that neither waits for
/// the other.
#[derive(Clone)]
struct Shared(Arc<Mutex<Wire>>);

impl Shared {
    fn get(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the present request.
    fn body(&self) -> Received {
        Received {
            request: self.get().request(),
            wire: self.clone(),
        }
    }

    /// The next request; `None` when there is none.
    fn poll_next<F: Future<Output = ()>>(
        &self,
        stopped: &mut Stopped<F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<head::Head>, WireError>> {
        let mut wire = self.get();
        if let Poll::Ready(head) = wire.poll_head(cx) {
            return Poll::Ready(head);
        }
        if stopped.poll(cx) && wire.is_idle() {
            if wire.request() > 0 {
                return Poll::Ready(Ok(None));
            }
            // Its first request is on its way: closed now, the connection would be before that is read.
            wire.hurry(FIRST_REQUEST);
            return wire.poll_head(cx);
        }
        Poll::Pending
    }

    /// Answers what is no request. Nothing behind it can be read.
    async fn refuse(&self, error: head::HeadError) -> Result<(), WireError> {
        let asked = Asked {
            method: http::Method::GET,
            version: http::Version::HTTP_11,
            trailers: false,
        };
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = error.status();
        self.get()
            .send(head::write(&parts, Sent::Length(0), &asked, false));
        self.close().await
    }

    /// Sends what is left and says that nothing more comes. A socket that is closed with bytes unread is reset, and a client
    /// that is still sending would see that and not its answer: what it sends is taken for a while, and thrown away.
    async fn close(&self) -> Result<(), WireError> {
        poll_fn(|cx| self.get().poll_close(cx)).await?;
        let mut left = UNREAD_BYTES;
        let reading = poll_fn(|cx| self.get().poll_discard(&mut left, cx));
        let _ = tokio::time::timeout(UNREAD_TIME, reading).await;
        Ok(())
    }

    /// Sends an answer; whether another request may follow.
    async fn answer<B>(
        &self,
        response: Response<B>,
        asked: &Asked,
        reusable: bool,
    ) -> Result<bool, WireError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = response.into_parts();
        let sent = Sent::of(head.status, body.size_hint().exact(), asked);
        let reusable = reusable
            && sent != Sent::UntilClose
            && !head.headers.contains_key(CONNECTION)
            && self.get().is_past_body();
        self.get().send(head::write(&head, sent, asked, reusable));
        let mut sending = Sending {
            body,
            sent,
            announced: (asked.trailers && head.headers.contains_key(TRAILER))
                .then_some(head.headers),
            ended: (sent == Sent::Nothing).then_some(Ok(())),
        };
        if sent == Sent::UntilClose {
            // Whatever ends it before its time must not look like its end.
            self.get().ends_by_reset(true);
        }
        poll_fn(|cx| sending.poll(self, cx)).await?;
        if sent == Sent::UntilClose {
            self.get().ends_by_reset(false);
        }
        Ok(reusable)
    }
}

/// An answer's body on its way out.
struct Sending<B> {
    body: B,
    sent: Sent,
    /// The head that has announced trailers, if the client takes any.
    announced: Option<HeaderMap>,
    /// How it ended, once nothing more comes of it.
    ended: Option<Result<(), WireError>>,
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Ready when all of it has left.
    fn poll(&mut self, wire: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        loop {
            let mut waits = false;
            while self.ended.is_none() && !waits && wire.get().unsent() < IN_LINE_BYTES {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.put(frame, &mut wire.get()),
                    Poll::Ready(Some(Err(error))) => self.break_off(error),
                    Poll::Ready(None) => self.end(&mut wire.get()),
                    Poll::Pending => waits = true,
                }
            }
            // What came before an end of either kind is the client's.
            ready!(wire.get().poll_send(cx))?;
            if let Some(ended) = self.ended.take() {
                return Poll::Ready(ended);
            }
            if waits {
                return wire.get().poll_gone(cx).map(Err);
            }
        }
    }

    fn put(&mut self, frame: Frame<Bytes>, wire: &mut Wire) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if self.sent == Sent::Chunks
                    && let Some(announced) = &self.announced
                    && let Ok(trailers) = frame.into_trailers()
                {
                    wire.send(head::write_end(announced, &trailers));
                    self.ended = Some(Ok(()));
                }
                return;
            }
        };
        match &mut self.sent {
            // An empty chunk would be the last one.
            _ if data.is_empty() => {}
            Sent::Nothing => {}
            Sent::UntilClose => wire.send(data),
            Sent::Chunks => send_chunk(data, wire),
            Sent::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    wire.send(data);
                }
                None => self.break_off("it is longer than it said"),
            },
        }
    }

    fn end(&mut self, wire: &mut Wire) {
        match self.sent {
            Sent::Length(left) if left > 0 => return self.break_off("it is shorter than it said"),
            Sent::Chunks => wire.send(Bytes::from_static(b"0\r\n\r\n")),
            Sent::Nothing | Sent::UntilClose | Sent::Length(_) => {}
        }
        self.ended = Some(Ok(()));
    }

    /// The client is told by the connection's end that something is missing.
    fn break_off(&mut self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        self.ended = Some(Err(WireError::Answer(error.into())));
    }
}

/// A chunk goes out as one piece where that costs little.
fn send_chunk(data: Bytes, wire: &mut Wire) {
    let mut digits = [0; 2 * size_of::<usize>()];
    let size = hexadecimal(data.len(), &mut digits);
    let copied = data.len() <= COPIED_BYTES;
    let behind = if copied { data.len() + 2 } else { 0 };
    let mut piece = BytesMut::with_capacity(size.len() + 2 + behind);
    piece.put_slice(size);
    piece.put_slice(b"\r\n");
    if copied {
        piece.put_slice(&data);
        piece.put_slice(b"\r\n");
        wire.send(piece.freeze());
    } else {
        wire.send(piece.freeze());
        wire.send(data);
        wire.send(Bytes::from_static(b"\r\n"));
    }
}

/// A number's hexadecimal digits: the formatter takes ten times as long, and there is one for each chunk.
fn hexadecimal(mut number: usize, digits: &mut [u8; 2 * size_of::<usize>()]) -> &[u8] {
    let mut begin = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = match number % 16 {
            small @ 0..10 => b'0' + small as u8,
            large => b'a' + (large - 10) as u8,
        };
        begin = at;
        number /= 16;
        if number == 0 {
            break;
        }
    }
    digits.get(begin..).unwrap_or_default()
}

/// The body of a request as it comes.
pub struct Received {
    wire: Shared,
    /// Which request of the connection it is of.
    request: u64,
}

impl Received {
    /// The connection, as long as it still brings this body.
    fn wire(&self) -> Result<MutexGuard<'_, Wire>, WireError> {
        let wire = self.wire.get();
        if wire.request() == self.request {
            Ok(wire)
        } else {
            Err(WireError::Closed)
        }
    }

    /// The next bytes, then the trailers.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        match self.wire() {
            Ok(mut wire) => wire.poll_body(cx),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// See [`ClientBody::read_into`].
    pub(super) fn poll_into(
        &mut self,
        whole: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, WireError>> {
        self.wire()?.poll_body_into(whole, cx)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let wire = self.wire();
        wire.is_ok_and(|wire| wire.body().is_end() && !wire.body().has_trailers())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.wire().ok().and_then(|wire| wire.body().left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").finish_non_exhaustive()
    }
}
