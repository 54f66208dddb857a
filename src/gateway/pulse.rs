//! The last minutes, second by second: what a look at the present shows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::Gateway;
use crate::metrics::Totals;

/// Samples taken once a second, so many of them.
pub const SECONDS: usize = 300;

/// What had been observed at a moment. The difference of two says what lay between them.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The moment.
    pub at: Timestamp,
    /// Everything observed since the start.
    pub totals: Totals,
    /// Requests in flight.
    pub in_flight: i64,
}

/// The last beats, oldest first.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<VecDeque<Beat>>);

impl Pulse {
    /// The beats of the last so many seconds, and the one before them.
    pub fn last(&self, seconds: usize) -> Vec<Beat> {
        let beats = self.beats();
        let skipped = beats.len().saturating_sub(seconds + 1);
        beats.iter().skip(skipped).cloned().collect()
    }

    fn push(&self, beat: Beat) {
        let mut beats = self.beats();
        if beats.len() > SECONDS {
            beats.pop_front();
        }
        beats.push_back(beat);
    }

    fn beats(&self) -> std::sync::MutexGuard<'_, VecDeque<Beat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a sample every second until the gateway stops.
pub(super) async fn beat(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = gateway.stop.cancelled() => return,
        }
        gateway.pulse.push(Beat {
            at: Timestamp::now(),
            totals: gateway.metrics.totals(),
            in_flight: gateway.metrics.in_flight_requests(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_beats_make_room_for_new_ones() {
        let pulse = Pulse::default();
        for second in 0..1_000 {
            pulse.push(Beat {
                at: Timestamp::from_second(second).unwrap(),
                totals: Totals::default(),
                in_flight: 0,
            });
        }
        let last = pulse.last(2);
        let seconds: Vec<i64> = last.iter().map(|beat| beat.at.as_second()).collect();
        assert_eq!(seconds, [997, 998, 999]);
        assert_eq!(pulse.last(usize::MAX - 1).len(), SECONDS + 1);
    }
}
