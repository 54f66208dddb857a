//! Reading from a connection that has no buffer of its own.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// How much is read at once, and so how much of a stream that came together is passed on together.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where reads go first: a connection that waits holds no buffer, and what it gets is as large as what came.
    static LANDING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Reads what is there. Nothing means that the peer has closed.
pub(crate) fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    LANDING.with_borrow_mut(|landing| {
        let mut landing = ReadBuf::new(landing);
        ready!(Pin::new(stream).poll_read(cx, &mut landing))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(landing.filled())))
    })
}

/// What came, behind what had come before.
pub(crate) fn joined(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    let mut both = BytesMut::from(first);
    both.extend_from_slice(&second);
    both.freeze()
}
