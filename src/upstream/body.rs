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

    /// What is left of it.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }

    /// So many bytes from its front are gone.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        while let Some(piece) = self.pieces.front_mut().filter(|_| bytes > 0) {
            let here = bytes.min(piece.len());
            piece.advance(here);
            bytes -= here;
            self.left = self.left.saturating_sub(here as u64);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_gone_from_the_front() {
        let pieces = ["hello", "", " ", "world"].map(|piece| Bytes::from_static(piece.as_bytes()));
        let mut body = OutgoingBody::new(pieces.to_vec());
        assert_eq!(body.len(), 11);
        body.advance(7);
        let left: Vec<&[u8]> = body.pieces().map(|piece| &**piece).collect();
        assert_eq!((left, body.len()), (vec![&b"orld"[..]], 4));
        body.advance(9);
        assert!(body.is_empty() && body.pieces().next().is_none());
    }
}
