//! How long an upstream may be silent in the middle of an answer, and how long a whole call may take.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::config::Timeouts;

/// The two bounds behind one timer, which is moved only when it fires. Progress costs nothing: the clock is read when
/// there is something to wait for.
#[derive(Debug)]
pub(super) struct Deadline {
    /// When waiting for the next bytes began; `None` when something came since.
    waits_since: Option<Instant>,
    idle: Duration,
    total: Duration,
    end: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn new(timeouts: &Timeouts, started: std::time::Instant) -> Deadline {
        let end = Instant::from_std(started) + timeouts.total;
        Deadline {
            waits_since: None,
            idle: timeouts.idle,
            total: timeouts.total,
            end,
            timer: None,
        }
    }

    /// Something came.
    pub(super) fn progress(&mut self) {
        self.waits_since = None;
    }

    /// Ready with the bound that was passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        loop {
            let now = Instant::now();
            let next = self
                .end
                .min(*self.waits_since.get_or_insert(now) + self.idle);
            if next <= now {
                return Poll::Ready(if self.end <= now {
                    self.total
                } else {
                    self.idle
                });
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}
