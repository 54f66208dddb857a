//! Bytes on their way out of the gateway.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// How many pieces are written at once.
const PIECES_MAX: usize = 16;
/// Pieces that are no longer together are written as one: to copy them costs less than what the kernel does for a list of
/// pieces.
const JOINED_BYTES: usize = 4 * 1024;

thread_local! {
    /// Where they are joined.
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(JOINED_BYTES));
}

/// Slices of buffers that others may hold as well: they are written together, and large ones are never copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    /// One more behind the others.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.left += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// One more before the others.
    pub(crate) fn push_front(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.left += piece.len() as u64;
            self.pieces.push_front(piece);
        }
    }

    /// The first of them.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Some(piece)
    }

    /// How many bytes they have together.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes what the stream takes. Ready when it has taken all, which it may still have to flush.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(first) = self.pieces.front() {
            let stream = Pin::new(&mut *stream);
            let written = if self.pieces.len() == 1 {
                stream.poll_write(cx, first)
            } else if self.left <= JOINED_BYTES as u64 {
                self.poll_write_joined(stream, cx)
            } else {
                self.poll_write_several(stream, cx)
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_joined<S: AsyncWrite>(
        &self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            for piece in &self.pieces {
                joined.extend_from_slice(piece);
            }
            stream.poll_write(cx, joined)
        })
    }

    fn poll_write_several<S: AsyncWrite>(
        &self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        stream.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    /// So many bytes from the front are gone.
    fn advance(&mut self, mut bytes: usize) {
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

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Pieces {
        let mut all = Pieces::default();
        for piece in pieces {
            all.push(piece);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_gone_from_the_front() {
        let pieces = ["hello", "", " ", "world"].map(|piece| Bytes::from_static(piece.as_bytes()));
        let mut pieces: Pieces = pieces.into_iter().collect();
        assert_eq!(pieces.len(), 11);
        pieces.advance(7);
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.pop().unwrap(), "orld");
        assert!(pieces.is_empty() && pieces.pop().is_none());
    }

    #[tokio::test]
    async fn they_are_written_in_order_however_little_is_taken_at_once() {
        let text = "a text in many pieces, more of them than are written at once";
        written_in_order(text, 2).await;
        // So much that it is not joined, until little is left.
        written_in_order(&text.repeat(200), 100).await;
        written_in_order(text, text.len()).await;
    }

    async fn written_in_order(text: &str, piece_bytes: usize) {
        let (mut near, mut far) = tokio::io::duplex(3);
        let mut pieces: Pieces = text
            .as_bytes()
            .chunks(piece_bytes)
            .map(Bytes::copy_from_slice)
            .collect();
        let writing = async {
            std::future::poll_fn(|cx| pieces.poll_write(&mut near, cx)).await?;
            drop(near);
            io::Result::Ok(())
        };
        let mut read = String::new();
        let reading = tokio::io::AsyncReadExt::read_to_string(&mut far, &mut read);
        let (written, _) = tokio::join!(writing, reading);
        written.unwrap();
        assert_eq!(read, text);
    }
}
