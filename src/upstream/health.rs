//! Whether an upstream has answered lately.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

#[cfg(test)]
mod tests {
    use super::*;

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
