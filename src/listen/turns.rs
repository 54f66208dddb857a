//! Writing after the others have worked.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes let other tasks go first, once for each flush.
///
/// A write to a socket costs more than all the work for a request, and most of it when the one at the other end sleeps and
/// must be woken. So where several requests are ready, their work comes first and their writes follow one another: the
/// peers that the first of them wakes are then awake for the rest, and code and data stay in the caches. Nothing waits that is
/// alone: with nothing else to do, the runtime comes back at once.
#[derive(Debug)]
pub(super) struct TakesTurns<S> {
    stream: S,
    /// Whether the others have had their turn before this write.
    was_polite: bool,
}

impl<S> TakesTurns<S> {
    pub(super) fn new(stream: S) -> TakesTurns<S> {
        TakesTurns {
            stream,
            was_polite: false,
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.was_polite {
            return Poll::Ready(());
        }
        self.was_polite = true;
        // A new one each time, polled once: that has the task polled again after the others.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TakesTurns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TakesTurns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.was_polite = false;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_is_ready_works_before_bytes_go_out() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut stream = TakesTurns::new(near);
        for _ in 0..2 {
            let worked = Arc::new(AtomicBool::new(false));
            let other = Arc::clone(&worked);
            tokio::spawn(async move { other.store(true, Ordering::SeqCst) });
            stream.write_all(b"a").await.unwrap();
            assert!(worked.load(Ordering::SeqCst));
            // Until the flush it goes on at once.
            let mut again = pin!(stream.write_all(b"b"));
            let polled = std::future::poll_fn(|cx| Poll::Ready(again.as_mut().poll(cx))).await;
            assert!(polled.is_ready());
            stream.flush().await.unwrap();
        }
        let mut sent = [0; 4];
        far.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"abab");
    }
}
