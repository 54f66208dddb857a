//! Who wakes a request's task for its upstream connection, and when that is not worth a wake-up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The waker of a connection that is polled by the task of its request.
///
/// That task is polled for other reasons too (the client took bytes): a connection whose bell has not rung is then left
/// alone. And the connection's own parts ring while they are being polled (a chunk was taken, so there is room for the next):
/// that is answered at once, where a wake-up would poll the whole task again.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    /// Whether the task is at it just now.
    answering: AtomicBool,
    task: Mutex<Option<Waker>>,
}

/// How often one answer looks. What needs more (the runtime has the task yield by ringing without end) is woken properly.
const LOOKS: usize = 4;

impl Bell {
    /// The next [`Bell::answer`] has something to look at.
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
    }

    /// Polls while the bell rings. `poll` gets this bell as its waker, and one that wakes nobody for what cannot change but
    /// by that poll itself.
    pub(super) fn answer<T>(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.belongs_to(cx.waker());
        let waker = Waker::from(Arc::clone(self));
        let own = &mut Context::from_waker(&waker);
        let quiet = &mut Context::from_waker(Waker::noop());
        self.answering.store(true, Ordering::SeqCst);
        for _ in 0..LOOKS {
            if !self.rung.swap(false, Ordering::SeqCst) {
                break;
            }
            let polled = poll(own, quiet);
            if polled.is_ready() {
                // There may be more behind it.
                self.ring();
                self.answering.store(false, Ordering::SeqCst);
                return polled;
            }
        }
        self.answering.store(false, Ordering::SeqCst);
        // Rung after the last look, or again and again: other tasks have their turn first.
        if self.rung.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn belongs_to(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
            // Whoever polled before may have been told in vain.
            self.ring();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
        if self.answering.load(Ordering::SeqCst) {
            return;
        }
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Answers a bell for a task, and says how often it looked.
    fn answer(bell: &Arc<Bell>, task: &Arc<Task>, rings: usize) -> usize {
        let waker = Waker::from(Arc::clone(task));
        let mut looks = 0;
        let _ = bell.answer(&mut Context::from_waker(&waker), |cx, _| {
            looks += 1;
            if looks <= rings {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        looks
    }

    #[test]
    fn a_bell_that_has_not_rung_is_not_answered() {
        let (bell, task) = (Arc::new(Bell::default()), Arc::new(Task::default()));
        assert_eq!(answer(&bell, &task, 0), 1, "the first look is for free");
        assert_eq!(answer(&bell, &task, 0), 0);
        Waker::from(Arc::clone(&bell)).wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "the task is woken");
        assert_eq!(answer(&bell, &task, 0), 1);
    }

    #[test]
    fn who_rings_while_it_is_answered_is_looked_at_again_without_a_wake_up() {
        let (bell, task) = (Arc::new(Bell::default()), Arc::new(Task::default()));
        assert_eq!(answer(&bell, &task, 2), 3);
        assert_eq!(task.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn who_rings_without_end_lets_other_tasks_have_their_turn() {
        let (bell, task) = (Arc::new(Bell::default()), Arc::new(Task::default()));
        assert_eq!(answer(&bell, &task, usize::MAX), LOOKS);
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn another_task_looks_for_itself() {
        let (bell, task) = (Arc::new(Bell::default()), Arc::new(Task::default()));
        answer(&bell, &task, 0);
        let other = Arc::new(Task::default());
        assert_eq!(answer(&bell, &other, 0), 1);
        Waker::from(bell).wake();
        assert_eq!(other.0.load(Ordering::SeqCst), 1);
        assert_eq!(task.0.load(Ordering::SeqCst), 0);
    }
}
