//! The streams of HTTP/2 connections, and the end of those whose client takes nothing.
//!
//! On HTTP/1.1 a client that does not read stops the socket, which the connection's own clock sees. On HTTP/2 it only
//! has to grant no window: nothing is then being written, the connection is well and answers pings, and the stream would
//! hold its upstream connection and its reservation for ever.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Arc<Taking>;
}

/// Runs each stream as a task that ends when its client has taken nothing for too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) idle_timeout: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let taking = Arc::new(Taking::default());
        let patience = self.idle_timeout;
        tokio::spawn(CURRENT.scope(Arc::clone(&taking), async move {
            tokio::select! {
                () = stream => {}
                // Dropping the stream resets it; its request is settled as one whose client left.
                () = taking.refused_for(patience) => {
                    tracing::debug!("an HTTP/2 client took nothing of its answer for too long");
                }
            }
        }));
    }
}

/// Since when a stream's answer has had something that its client did not take.
#[derive(Debug)]
pub(super) struct Taking {
    epoch: Instant,
    /// Milliseconds since `epoch`, plus 1; 0 while the client is not the one who is waited for.
    offered: AtomicU64,
}

impl Default for Taking {
    fn default() -> Taking {
        Taking {
            epoch: Instant::now(),
            offered: AtomicU64::new(0),
        }
    }
}

impl Taking {
    /// The stream that is being run, if it is one of HTTP/2.
    pub(super) fn current() -> Option<Arc<Taking>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Something is there for the client.
    pub(super) fn offer(&self) {
        let now = self.epoch.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX - 1) + 1;
        self.offered.store(now, Ordering::Relaxed);
    }

    /// The client took it, or there is nothing to take.
    pub(super) fn taken(&self) {
        self.offered.store(0, Ordering::Relaxed);
    }

    async fn refused_for(&self, patience: Duration) {
        let mut pause = patience;
        loop {
            tokio::time::sleep(pause).await;
            let offered = self.offered.load(Ordering::Relaxed);
            let waited = match offered {
                0 => Duration::ZERO,
                since => self
                    .epoch
                    .elapsed()
                    .saturating_sub(Duration::from_millis(since - 1)),
            };
            if waited >= patience {
                return;
            }
            pause = patience - waited;
        }
    }
}
