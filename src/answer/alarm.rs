//! Whether anything has happened since an answer was last looked at.
//!
//! Whoever sends an answer asks for its next piece until there is none, and again whenever the client's side calls. Asking
//! the upstream's connection and the timers each time costs more than what comes of it: who was told to wait need not ask again
//! before he is woken up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Wakes a task, and remembers that it did.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Set>);

#[derive(Debug)]
struct Set {
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

#[derive(Debug)]
struct Bell {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Alarm {
    /// What those are given that the task of `cx` waits for. `None` when it `waits` for them already and none of them has
    /// called since; another task has to ask them anew.
    pub(super) fn waker(&mut self, cx: &Context<'_>, waits: bool) -> Option<Waker> {
        if let Some(set) = &self.0
            && set.bell.task.will_wake(cx.waker())
        {
            let rang = set.bell.rang.swap(false, Ordering::Acquire);
            return (rang || !waits).then(|| set.waker.clone());
        }
        let bell = Arc::new(Bell {
            rang: AtomicBool::new(false),
            task: cx.waker().clone(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        self.0 = Some(Set {
            bell,
            waker: waker.clone(),
        });
        Some(waker)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_let_ask_again_once_it_is_woken_up() {
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            let waker = alarm
                .waker(cx, false)
                .expect("the first time all are asked");
            assert!(alarm.waker(cx, true).is_none());
            assert!(
                alarm.waker(cx, false).is_some(),
                "who need not wait may ask"
            );
            waker.wake_by_ref();
            assert!(alarm.waker(cx, true).is_some());
            assert!(alarm.waker(cx, true).is_none());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn the_task_is_woken_up() {
        let mut alarm = Alarm::default();
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if let Some(waker) = alarm.waker(cx, polls > 1).filter(|_| polls == 1) {
                tokio::spawn(async move { waker.wake() });
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn another_task_asks_anew() {
        let mut alarm = Alarm::default();
        let first = poll_fn(|cx| Poll::Ready(alarm.waker(cx, false))).await;
        let other = tokio::spawn(async move {
            let waker = poll_fn(|cx| Poll::Ready(alarm.waker(cx, true))).await;
            first.expect("the first time").wake();
            let again = poll_fn(|cx| Poll::Ready(alarm.waker(cx, true))).await;
            (waker.is_some(), again.is_some())
        });
        let (asks_all, asks_again) = other.await.unwrap();
        assert!(asks_all, "it has asked nobody yet");
        assert!(
            !asks_again,
            "what the other task waited for is not its affair"
        );
    }
}
