//! The keeper thread: durability, upkeep, and the journals of dead processes. The sync thread beside it.

use std::time::{Duration, Instant};

use super::Shared;
use super::journal::{self, Abandoned};

/// How often the store is made durable and the journal is marked, where little is written.
const DURABLE_EVERY: Duration = Duration::from_millis(500);
/// After so many entries it is done earlier: it keeps a core for a microsecond an entry, and requests wait for that.
const DURABLE_ENTRIES: u64 = 1_000;
/// The disk is for the journal's flushes first: after each time comes a rest of so many times as long, up to this.
const REST: u32 = 20;
const REST_MAX: Duration = Duration::from_secs(2);
/// How often a running gateway looks for journals of dead ones.
const ADOPT_EVERY: Duration = Duration::from_secs(5);

/// The keeper thread; `waiting` are journals that could not be taken over at the start.
pub(super) fn run(shared: &Shared, mut waiting: Vec<Abandoned>) {
    let queue = &shared.queue;
    let mut adopted = Instant::now();
    let mut rest = DURABLE_EVERY;
    // Nothing wakes it while nothing is written, but for a look at other journals.
    while queue.wait_for_much(1, ADOPT_EVERY.saturating_sub(adopted.elapsed()))
        && queue.sleep(rest)
        && queue.wait_for_much(DURABLE_ENTRIES, DURABLE_EVERY.saturating_sub(rest))
    {
        let began = Instant::now();
        let done = make_durable(shared);
        rest = rest_after(began.elapsed(), done);
        if adopted.elapsed() >= ADOPT_EVERY {
            adopt(shared, &mut waiting);
            adopted = Instant::now();
        }
    }
}

/// The rest after upkeep that took so long. What failed may have failed at once, and would fail again.
fn rest_after(took: Duration, done: bool) -> Duration {
    match done {
        true => took.saturating_mul(REST).min(REST_MAX),
        false => DURABLE_EVERY,
    }
}

/// The sync thread: nothing wakes it while nothing is written.
pub(super) fn run_sync(shared: &Shared, interval: Duration) {
    // A record that just missed one flush is safe when the next one ends. So flushes begin twice in an interval, and one
    // that takes up to half of it keeps the promise. The first record after a rest has company soon: requests come together,
    // and a flush of its own would be in their way.
    let pace = interval / 2;
    let mut began = Instant::now();
    let mut healthy = true;
    loop {
        let rested = shared
            .journal
            .wait_for_record(|| shared.queue.is_stopping());
        if rested {
            began = Instant::now();
        }
        if !shared.queue.sleep(pace.saturating_sub(began.elapsed())) {
            return;
        }
        began = Instant::now();
        match shared.journal.sync() {
            Ok(()) => healthy = true,
            Err(error) if healthy => {
                healthy = false;
                tracing::error!(%error, "the journal cannot be forced to the disk");
            }
            Err(_) => {}
        }
    }
}

/// Makes what was applied durable, marks it in the journal and lets go of files; `false` when that must be tried again.
pub(super) fn make_durable(shared: &Shared) -> bool {
    let Some(progress) = shared.queue.take_progress() else {
        return true;
    };
    if let Err(error) = shared.intake.store().make_durable() {
        tracing::warn!(%error, "the store could not be made durable; the journal keeps its files");
        shared.queue.return_progress(progress);
        return false;
    }
    if let Err(error) = shared
        .journal
        .release(progress.applied_to, &progress.by_segment)
    {
        tracing::warn!(%error, "the journal could not be marked");
    }
    true
}

fn adopt(shared: &Shared, waiting: &mut Vec<Abandoned>) {
    match journal::abandoned(&shared.settings.journal) {
        Ok((found, _)) => waiting.extend(found),
        Err(error) => tracing::warn!(%error, "the journals of other processes cannot be listed"),
    }
    waiting.retain(
        |abandoned| match abandoned.recover(&shared.intake, &shared.journal.owed) {
            Ok(recovery) => {
                tracing::info!(?recovery, "took over the journal of a dead process");
                false
            }
            Err(error) => {
                // It is tried again every few seconds: the writer says when the store has gone away.
                if shared.queue.store_is_there() {
                    tracing::warn!(%error, "the journal of a dead process must wait");
                }
                true
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_has_a_rest_after_upkeep_and_a_failure_is_not_repeated_at_once() {
        let ms = Duration::from_millis;
        for (took, done, rest) in [
            (ms(3), true, ms(60)),
            (ms(400), true, ms(2_000)),
            (ms(0), false, ms(500)),
            (ms(400), false, ms(500)),
        ] {
            assert_eq!(rest_after(took, done), rest, "{took:?}");
        }
    }
}
