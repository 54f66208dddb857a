//! A request's body on its way upstream: the client's bytes in one or a few pieces.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http1::Pieces;

/// The client's body, perhaps with small splices in between: slices of one buffer, never copied.
#[derive(Clone, Debug, Default)]
pub struct OutgoingBody(Pieces);

impl OutgoingBody {
    /// A body of these pieces in order.
    pub fn new(pieces: Vec<Bytes>) -> OutgoingBody {
        OutgoingBody(pieces.into_iter().collect())
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A whole message: the head, then the body.
    pub(super) fn behind(self, head: Bytes) -> Pieces {
        let OutgoingBody(mut pieces) = self;
        pieces.push_front(head);
        pieces
    }
}

/// How hyper takes it, for HTTP/2.
impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(Frame::data).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len())
    }
}
