//! A request's body on its way upstream: the client's bytes in one or a few pieces.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

/// The client's body, perhaps with small splices in between: slices of one buffer, never copied.
#[derive(Clone, Debug, Default)]
pub struct OutgoingBody {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl OutgoingBody {
    /// A body of these pieces in order.
    pub fn new(pieces: Vec<Bytes>) -> OutgoingBody {
        let pieces: VecDeque<Bytes> = pieces
            .into_iter()
            .filter(|piece| piece.has_remaining())
            .collect();
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        OutgoingBody { pieces, left }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.left
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        Poll::Ready(piece.map(|piece| {
            self.left = self.left.saturating_sub(piece.len() as u64);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
