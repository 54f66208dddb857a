//! A body that is played: pieces with pauses between them, to the end or to a break.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// The pieces that are still to come.
pub(super) struct Played {
    pieces: VecDeque<(Duration, Bytes)>,
    wait: Pin<Box<Sleep>>,
    breaks_off: bool,
}

impl Played {
    /// A body without pieces that begins after a while.
    pub(super) fn new(wait: Duration) -> Played {
        Played {
            pieces: VecDeque::new(),
            wait: Box::pin(sleep(wait)),
            breaks_off: false,
        }
    }

    /// Adds a piece that comes when what was before it has, and then no sooner than after `pause`.
    pub(super) fn push(&mut self, pause: Duration, piece: impl Into<Bytes>) {
        self.pieces.push_back((pause, piece.into()));
    }

    /// Leaves out the second half, and ends as a connection that is lost.
    pub(super) fn break_off(&mut self) {
        self.breaks_off = true;
        if let [(_, piece)] = self.pieces.make_contiguous() {
            piece.truncate(piece.len() / 2);
        } else {
            self.pieces.truncate(self.pieces.len() / 2);
        }
    }
}

impl Body for Played {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        match self.pieces.pop_front() {
            Some((_, piece)) => {
                let pause = self.pieces.front().map_or(Duration::ZERO, |next| next.0);
                self.wait = Box::pin(sleep(pause));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None if self.breaks_off => {
                self.breaks_off = false;
                Poll::Ready(Some(Err(io::Error::other(
                    "the answer was told to break off",
                ))))
            }
            None => Poll::Ready(None),
        }
    }
}
