//! Requests that wait for room: where the refusing limit lets them queue, until enough is given back or a window ends.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Bound, Demand, Keeper, Quota, ReserveError};
use crate::ids::RequestId;

impl Quota {
    /// As [`Quota::reserve`], but where the refusing limit lets requests queue and there will be room in time (open
    /// requests hold the rest, or a window ends), it waits for that, at most for the limit's `queue` in all.
    /// The bounds then move on to the window of the moment at which the request was admitted.
    ///
    /// # Errors
    /// As [`Quota::reserve`]; the refusal is the last one.
    pub async fn reserve_or_wait(
        &self,
        id: RequestId,
        bounds: &mut [Bound],
        demand: &Demand,
        open_at_most: SignedDuration,
        clock: impl Fn() -> Timestamp,
    ) -> Result<(), ReserveError> {
        let started = Instant::now();
        loop {
            // Listening begins before the question, so that nothing freed in between is missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let now = clock();
            let expires_at = now.saturating_add(open_at_most).unwrap_or(Timestamp::MAX);
            let answer = self.reserve(id, bounds, demand, now, expires_at).await;
            let Err(ReserveError::Denied(denied)) = answer else {
                return answer;
            };
            let queue_ms = bounds
                .get(denied.bound)
                .map_or(0, |bound| bound.rule.queue_ms);
            let deadline = started + Duration::from_millis(u64::from(queue_ms));
            let ends = denied.retry_at.map(|at| Instant::now() + until(now, at));
            let in_vain = denied.settled && ends.is_none_or(|ends| ends > deadline);
            if in_vain || Instant::now() >= deadline {
                return answer;
            }
            let next_look = ends.map_or(deadline, |ends| ends.min(deadline));
            // A timeout is no failure: it is the moment to look again.
            let _ = tokio::time::timeout_at(next_look.min(self.poll_at()), freed).await;
            let now = clock();
            bounds.iter_mut().for_each(|bound| bound.refresh(now));
        }
    }

    /// When a waiting request looks again though nothing told it to.
    fn poll_at(&self) -> Instant {
        Instant::now()
            + match &self.keeper {
                Keeper::Memory(_) => Duration::from_millis(250),
                // What other gateways free, nothing tells.
                Keeper::Redis(_) => Duration::from_millis(30),
            }
    }
}

/// From `now` to `at`, at least a millisecond: a wait that makes progress.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    let wait = at.duration_since(now);
    Duration::try_from(wait)
        .unwrap_or_default()
        .max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, Amount, Limit, Measure, Window};
    use crate::quota::naive;

    fn limit(on: Measure, per: Option<Window>, queue_ms: u32) -> Limit {
        Limit {
            on,
            max: Amount::Count(1),
            per,
            models: Vec::new(),
            then: Action::Block,
            warn_at_ppm: Vec::new(),
            queue_ms,
        }
    }

    async fn try_in(quota: &Quota, limit: Limit) -> (RequestId, Result<(), ReserveError>) {
        let id = RequestId::new();
        let mut bounds = naive::single(vec![limit]).bounds("gpt-4o", Timestamp::now());
        let open_at_most = SignedDuration::from_mins(1);
        let answer = quota
            .reserve_or_wait(
                id,
                &mut bounds,
                &Demand::default(),
                open_at_most,
                Timestamp::now,
            )
            .await;
        (id, answer)
    }

    #[tokio::test]
    async fn a_request_waits_until_an_open_one_ends() {
        let quota = Quota::memory();
        let concurrent = limit(Measure::Concurrent, None, 60_000);
        let (first, admitted) = try_in(&quota, concurrent.clone()).await;
        assert_eq!(admitted, Ok(()));
        let ((_, waited), released) = tokio::join!(try_in(&quota, concurrent), async {
            tokio::task::yield_now().await;
            quota.release(first, Timestamp::now()).await
        });
        assert_eq!((waited, released), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_its_limit_says_and_not_in_vain() {
        let quota = Quota::memory();
        let started = Instant::now();
        try_in(&quota, limit(Measure::Concurrent, None, 0))
            .await
            .1
            .unwrap();
        let (_, refused) = try_in(&quota, limit(Measure::Concurrent, None, 20)).await;
        assert!(matches!(refused, Err(ReserveError::Denied(_))));
        assert!(started.elapsed() >= Duration::from_millis(20));

        let monthly = || limit(Measure::Requests, Some(Window::Month), 3_600);
        let (id, admitted) = try_in(&quota, monthly()).await;
        admitted.unwrap();
        quota
            .settle(id, &Demand::default(), Timestamp::now())
            .await
            .unwrap();
        let (_, refused) = try_in(&quota, monthly()).await;
        assert!(matches!(refused, Err(ReserveError::Denied(denied)) if denied.settled));
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_request_waits_for_the_end_of_a_short_window() {
        let quota = Quota::memory();
        let brief = || limit(Measure::Requests, Some(Window::Rolling(50)), 10_000);
        let (id, _) = try_in(&quota, brief()).await;
        quota
            .settle(id, &Demand::default(), Timestamp::now())
            .await
            .unwrap();
        let (_, admitted) = try_in(&quota, brief()).await;
        assert_eq!(admitted, Ok(()));
    }
}
