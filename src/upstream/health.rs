//! Whether an upstream has answered lately.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

/// So many failed calls in a row make an upstream *failing*.
const FAILURES: u64 = 5;
/// A failing upstream is tried again after this long.
const REST: Duration = Duration::from_secs(5);

/// Calls that failed in a row, and when the last one did.
#[derive(Debug)]
pub(super) struct Health {
    failures: AtomicU64,
    last_failure_ms: AtomicU64,
    epoch: Instant,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            failures: AtomicU64::new(0),
            last_failure_ms: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }
}

impl Health {
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self) {
        self.last_failure_ms.store(self.now_ms(), Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A failing upstream counts as well again once it has rested, so that one request finds out.
    pub(super) fn is_failing(&self) -> bool {
        let rested = self
            .now_ms()
            .saturating_sub(self.last_failure_ms.load(Ordering::Relaxed));
        self.failures.load(Ordering::Relaxed) >= FAILURES && u128::from(rested) < REST.as_millis()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether an upstream takes the gateway's own key.
#[derive(Debug, Default)]
pub(super) struct Access {
    refused: AtomicBool,
    /// Refusals since the last answer that was none.
    in_a_row: AtomicU64,
}

/// What an answer changed of an upstream's taking the gateway's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessChange {
    /// It takes the key no more.
    Refused,
    /// It takes the key again.
    Granted,
}

impl Access {
    /// Notes an answer's status. A 403 may be about one model or one text that others are not refused for: only several in a
    /// row are about the key.
    pub(super) fn answered(&self, status: StatusCode) -> Option<AccessChange> {
        if is_refused_access(status) {
            let before = self.in_a_row.fetch_add(1, Ordering::Relaxed);
            let of_the_key = status == StatusCode::UNAUTHORIZED || before + 1 >= FAILURES;
            let begins = of_the_key && !self.refused.swap(true, Ordering::Relaxed);
            return begins.then_some(AccessChange::Refused);
        }
        // Errors of other kinds may come from in front of whoever looks at keys.
        if !status.is_success() || self.in_a_row.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.in_a_row.store(0, Ordering::Relaxed);
        let ends = self.refused.swap(false, Ordering::Relaxed);
        ends.then_some(AccessChange::Granted)
    }
}

/// Whether an answer says that the gateway's key is not taken, or not for this.
pub(super) fn is_refused_access(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_key_is_told_of_at_its_beginning_and_at_its_end() {
        let access = Access::default();
        let told = |status: u16| access.answered(StatusCode::from_u16(status).unwrap());
        assert_eq!(told(200), None);
        assert_eq!(told(401), Some(AccessChange::Refused));
        for status in [401, 403, 429, 500, 400] {
            assert_eq!(told(status), None, "{status}");
        }
        assert_eq!(told(200), Some(AccessChange::Granted));
        assert_eq!(told(200), None);
        // A model that the key may not use, among others that it may.
        for _ in 0..2 * FAILURES {
            assert_eq!((told(403), told(200)), (None, None));
        }
        for _ in 1..FAILURES {
            assert_eq!(told(403), None);
        }
        assert_eq!(told(403), Some(AccessChange::Refused));
    }

    #[test]
    fn one_answer_makes_an_upstream_well_again() {
        let health = Health::default();
        for _ in 0..FAILURES {
            assert!(!health.is_failing());
            health.failed();
        }
        assert!(health.is_failing());
        health.succeeded();
        assert!(!health.is_failing());
    }
}
