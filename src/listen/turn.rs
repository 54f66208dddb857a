//! New connections take turns with what has begun.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

/// How long a new connection lets others go first.
const PATIENCE: Duration = Duration::from_millis(1);

/// Lets new connections begin one after the other, and between two of them whoever is ready.
///
/// Where many connections come at once, all of their requests are there before the first answer is: served in the order of
/// their coming, the first client would get its answer when the last request has been begun, and so would everyone else. One at a
/// time, the first has its answer while others still wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Waits for the turn of a new connection, whose first bytes are there or which has just become secure: one a round of the
    /// runtime, which asks the system each time what has come meanwhile. Who has waited for a millisecond or two has no need of a
    /// turn: rounds that take long, on a gateway with much to do, do not keep newcomers out.
    pub(super) async fn come(&self) {
        if let Ok(turn) = tokio::time::timeout(PATIENCE, self.0.lock()).await {
            tokio::task::yield_now().await;
            drop(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Record;

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
    async fn who_has_waited_for_long_goes_without_a_turn() {
        let turn = Turn::default();
        let _another = turn.0.lock().await;
        turn.come().await;
    }
}
