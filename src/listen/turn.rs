//! New connections take turns with what has begun.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long a new connection lets others go first.
const PATIENCE: Duration = Duration::from_millis(1);

/// Lets new connections begin one after the other, and between two of them whoever is ready.
///
/// Where many connections come at once, all of their requests are there before the first answer is: served in the order of
/// their coming, the first client would get its answer when the last request has been begun, and so would everyone else. One at a
/// time, the first has its answer while others still wait, and the last waits no longer than before.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    taken: Arc<Mutex<()>>,
    patience: Duration,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn {
            taken: Arc::default(),
            patience: PATIENCE,
        }
    }
}

impl Turn {
    /// Waits for the turn of a new connection, its first bytes being there: one a round of the runtime, which asks the system
    /// each time what has come meanwhile; or at once when it has waited for a millisecond, so that rounds that take long, on a
    /// gateway with much to do, do not keep newcomers out.
    pub(super) async fn come(&self) {
        let since = Instant::now();
        let turn = self.taken.lock().await;
        if since.elapsed() < self.patience {
            tokio::task::yield_now().await;
        }
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Mutex as Record;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn what_a_connection_has_set_going_goes_before_the_next_connection() {
        let turn = Turn::default();
        let seen = Arc::new(Record::new(Vec::new()));
        let newcomers = ["first", "second", "third"].map(|name| {
            let (turn, seen) = (turn.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                turn.come().await;
                seen.lock().unwrap().push(("begins", name));
                let answering = async move { seen.lock().unwrap().push(("is answered", name)) };
                tokio::spawn(answering).await.unwrap();
            })
        });
        for newcomer in newcomers {
            newcomer.await.unwrap();
        }
        let seen = seen.lock().unwrap();
        let in_turn = ["first", "second", "third"]
            .map(|name| [("begins", name), ("is answered", name)])
            .concat();
        assert_eq!(*seen, in_turn);
    }

    #[tokio::test]
    async fn who_has_waited_for_long_goes_at_once() {
        let turn = Turn {
            patience: Duration::ZERO,
            ..Turn::default()
        };
        let before = turn.taken.lock().await;
        let mut late = pin!(turn.come());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(late.as_mut().poll(&mut context), Poll::Pending);
        drop(before);
        assert_eq!(late.as_mut().poll(&mut context), Poll::Ready(()));
    }
}
