//! The writer thread and its queue: closed entries go to the store in batches, in the journal's order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::batch::{Batch, Batches};
use super::entry::Entry;
use super::intake::Intake;
use super::journal::Position;
use super::store::StoreError;

/// The pauses between attempts while the store is away: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A writer that so many full batches wait for has fallen behind: it takes all the time that it can get, as when somebody waits
/// for a flush.
const BEHIND_BATCHES: usize = 4;
/// How much of the journal is read at once to catch up.
const CATCH_UP_BYTES: usize = 1 << 20;

/// Closed entries on their way to the store, and how far they are.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something for the writer, or the end.
    work: Condvar,
    /// Something reached the store, or a thread ended.
    news: Condvar,
    /// The end was called for.
    halt: Condvar,
    entries_max: usize,
}

struct State {
    queued: Batches,
    /// The place behind the last close that was put in `queued`.
    queued_to: Position,
    /// Whether closes after `queued_to` are in the journal only: the writer reads them there.
    behind: bool,
    /// Entries closed and entries applied since the start.
    closed: u64,
    applied: u64,
    /// The place behind the last applied close.
    applied_to: Position,
    /// Applied closes by journal segment since they were last made durable.
    applied_by_segment: BTreeMap<u64, u64>,
    /// Callers of `flush`: batches are not to wait for company.
    flushing: usize,
    store_away: bool,
    stopping: bool,
    threads: usize,
}

/// What was applied since the last time, for the keeper.
pub(super) struct Progress {
    pub(super) applied_to: Position,
    pub(super) by_segment: BTreeMap<u64, u64>,
}

impl Queue {
    /// An empty queue behind a journal that ends at `end`: so many entries at the most, in batches of up to `batch_max`.
    pub(super) fn new(entries_max: usize, batch_max: usize, end: Position) -> Queue {
        Queue {
            state: Mutex::new(State {
                queued: Batches::new(batch_max),
                queued_to: end,
                behind: false,
                closed: 0,
                applied: 0,
                applied_to: end,
                applied_by_segment: BTreeMap::new(),
                flushing: 0,
                store_away: false,
                stopping: false,
                threads: 0,
            }),
            work: Condvar::new(),
            news: Condvar::new(),
            halt: Condvar::new(),
            entries_max,
        }
    }

    /// Takes a closed entry; when there are too many, only its place. Never waits for the store.
    pub(super) fn push(&self, entry: Box<Entry>, position: Position) {
        let mut state = self.state();
        state.closed += 1;
        if state.behind || state.queued.len() >= self.entries_max {
            state.behind = true;
            return;
        }
        state.queued.push(entry, position);
        state.queued_to = position;
        // The writer sleeps only while the queue is empty; after the first entry it wakes up by itself. Woken while the lock
        // is held, it would only wait for that.
        let sleeps = state.queued.len() == 1;
        drop(state);
        if sleeps {
            self.work.notify_one();
        }
    }

    /// Takes an entry that the journal could not: it has no place there, and is lost when the queue is full.
    pub(super) fn push_unwritten(&self, entry: Box<Entry>) {
        let mut state = self.state();
        if state.behind || state.queued.len() >= self.entries_max {
            tracing::error!(id = %entry.id, "an entry is lost: neither the journal nor the store takes it");
            return;
        }
        state.closed += 1;
        state.queued.push(entry, Position::default());
        if state.queued.len() == 1 {
            self.work.notify_one();
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        let state = self.state();
        state.closed - state.applied
    }

    pub(super) fn spooled(&self) -> u64 {
        let state = self.state();
        let waiting = state.closed - state.applied;
        match (state.store_away, state.behind) {
            (true, _) => waiting,
            (false, true) => waiting.saturating_sub(state.queued.len() as u64),
            (false, false) => 0,
        }
    }

    pub(super) fn store_is_there(&self) -> bool {
        !self.state().store_away
    }

    /// Waits until what is closed now is applied; else says how much was not.
    pub(super) fn wait_until_applied(&self, deadline: Instant) -> Result<(), u64> {
        let mut state = self.state();
        let target = state.closed;
        state.flushing += 1;
        self.work.notify_one();
        while state.applied < target && !state.stopping {
            match deadline.checked_duration_since(Instant::now()) {
                None => break,
                Some(left) => state = self.wait(&self.news, state, left),
            }
        }
        state.flushing -= 1;
        match target.saturating_sub(state.applied) {
            0 => Ok(()),
            missing => Err(missing),
        }
    }

    /// Tells the threads to end.
    pub(super) fn stop(&self) {
        self.state().stopping = true;
        self.work.notify_all();
        self.news.notify_all();
        self.halt.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    pub(super) fn thread_began(&self) {
        self.state().threads += 1;
    }

    pub(super) fn thread_ended(&self) {
        self.state().threads -= 1;
        self.news.notify_all();
    }

    pub(super) fn wait_until_ended(&self, deadline: Instant) {
        let mut state = self.state();
        while state.threads > 0 {
            match deadline.checked_duration_since(Instant::now()) {
                None => return,
                Some(left) => state = self.wait(&self.news, state, left),
            }
        }
    }

    /// Sleeps; `false` when the end was called for.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        while !state.stopping {
            match deadline.checked_duration_since(Instant::now()) {
                None => return true,
                Some(left) => state = self.wait(&self.halt, state, left),
            }
        }
        false
    }

    /// Waits until so many entries were applied that [`Queue::take_progress`] has not given, or so long; `false` when the end
    /// was called for.
    pub(super) fn wait_for_much(&self, entries: u64, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        while !state.stopping && state.applied_by_segment.values().sum::<u64>() < entries {
            match deadline.checked_duration_since(Instant::now()) {
                None => return true,
                Some(left) => state = self.wait(&self.news, state, left),
            }
        }
        !state.stopping
    }

    /// What was applied since this was last asked.
    pub(super) fn take_progress(&self) -> Option<Progress> {
        let mut state = self.state();
        if state.applied_by_segment.is_empty() {
            return None;
        }
        Some(Progress {
            applied_to: state.applied_to,
            by_segment: std::mem::take(&mut state.applied_by_segment),
        })
    }

    /// Puts back what [`Queue::take_progress`] gave: it could not be made durable.
    pub(super) fn return_progress(&self, progress: Progress) {
        let mut state = self.state();
        for (segment, count) in progress.by_segment {
            *state.applied_by_segment.entry(segment).or_default() += count;
        }
    }

    /// The next work for the writer, who gives back the batch that it has done; `None` at the end.
    fn next(&self, mut done: Option<Batch>, batch_wait: Duration) -> Option<Work> {
        if let Some(done) = &mut done {
            done.clear();
        }
        let mut state = self.state();
        if let Some(done) = done {
            state.queued.give_back(done);
        }
        loop {
            if state.stopping {
                return None;
            }
            if state.queued.len() > 0 {
                break;
            }
            if state.behind {
                return Some(Work::CatchUp(state.queued_to));
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let deadline = Instant::now() + batch_wait;
        while !state.queued.has_full() && state.flushing == 0 && !state.stopping {
            match deadline.checked_duration_since(Instant::now()) {
                None => break,
                Some(left) => state = self.wait(&self.work, state, left),
            }
        }
        let behind = state.queued.full() >= BEHIND_BATCHES || state.flushing > 0;
        let batch = state.queued.take()?;
        Some(if behind {
            Work::Behind(batch)
        } else {
            Work::Queued(batch)
        })
    }

    fn applied(&self, positions: &[Position]) {
        let mut state = self.state();
        state.applied += positions.len() as u64;
        for position in positions {
            *state
                .applied_by_segment
                .entry(position.segment)
                .or_default() += 1;
            // An entry that the journal could not take has no place in it.
            state.applied_to = state.applied_to.max(*position);
        }
        self.news.notify_all();
    }

    fn caught_up_to(&self, position: Position, to_the_end: bool) {
        let mut state = self.state();
        state.queued_to = position;
        state.behind = !to_the_end;
    }

    fn set_store_away(&self) {
        self.state().store_away = true;
    }

    /// The store has taken entries; says how many had waited for it, if it was away.
    fn store_is_back(&self) -> Option<u64> {
        let mut state = self.state();
        std::mem::take(&mut state.store_away).then(|| state.closed - state.applied)
    }

    fn wait<'a>(
        &self,
        signal: &Condvar,
        state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        signal
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Work {
    /// A batch that has time.
    Queued(Batch),
    /// One of many that wait.
    Behind(Batch),
    /// The journal is to be read from this place on.
    CatchUp(Position),
}

/// The writer thread.
pub(super) fn run(shared: &Shared) {
    let mut done = None;
    while let Some(work) = shared.queue.next(done, shared.settings.batch_wait) {
        let (batch, went_on) = match work {
            Work::Queued(batch) => {
                let went_on = apply(
                    shared,
                    &batch.entries,
                    &batch.positions,
                    Intake::append_in_turns,
                );
                (Some(batch), went_on)
            }
            Work::Behind(batch) => {
                let went_on = apply(shared, &batch.entries, &batch.positions, Intake::append);
                (Some(batch), went_on)
            }
            Work::CatchUp(from) => (None, catch_up(shared, from)),
        };
        done = batch;
        if !went_on {
            return;
        }
    }
}

/// Applies a stretch of the journal; when it was the last one, the queue takes entries again.
fn catch_up(shared: &Shared, from: Position) -> bool {
    let mut batch = Batch::default();
    let read = shared
        .journal
        .read_after(from, CATCH_UP_BYTES, &mut |entry, position| {
            batch.push(entry, position);
        });
    let to = match read {
        Ok(to) => to,
        Err(error) => {
            tracing::error!(%error, "the journal cannot be read; trying again");
            return shared.queue.sleep(RETRY_MAX);
        }
    };
    let batch_max = shared.settings.batch_entries_max.max(1);
    let entries = batch.entries.chunks(batch_max);
    let mut chunks = entries.zip(batch.positions.chunks(batch_max));
    let mut at_once = |(entries, positions)| apply(shared, entries, positions, Intake::append);
    if !chunks.all(&mut at_once) {
        return false;
    }
    let at_end = shared
        .journal
        .at_end(to, || shared.queue.caught_up_to(to, true));
    if at_end.is_none() {
        shared.queue.caught_up_to(to, false);
    }
    true
}

/// Gives a batch to the store, again and again while the store is away; `false` when the end was called for.
fn apply(
    shared: &Shared,
    entries: &[Entry],
    positions: &[Position],
    append: impl Fn(&Intake, &[Entry]) -> Result<usize, StoreError>,
) -> bool {
    let mut pause = RETRY_FIRST;
    loop {
        let began = Instant::now();
        match append(&shared.intake, entries) {
            Ok(_) => {
                if let Some(on_write) = &shared.settings.on_write {
                    on_write(began.elapsed());
                }
                if let Some(entries) = shared.queue.store_is_back() {
                    tracing::info!(
                        entries,
                        "the store is back, and takes the entries that waited in the journal"
                    );
                }
                shared.queue.applied(positions);
                return true;
            }
            Err(error) => {
                if shared.queue.store_is_there() {
                    log(&error);
                }
                shared.queue.set_store_away();
                if !shared.queue.sleep(pause) {
                    return false;
                }
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Once each time that the store goes away, not at every attempt.
fn log(error: &StoreError) {
    match error {
        StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Overtaken => {
            tracing::warn!(%error, "ledger entries wait in the journal until the store is back");
        }
        StoreError::Damaged(_) => {
            tracing::error!(%error, "ledger entries wait in the journal: the store must be repaired");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::sample;

    #[test]
    fn a_store_that_is_back_is_told_of_once_with_what_waited() {
        let queue = Queue::new(2, 1, Position::default());
        assert_eq!(queue.store_is_back(), None);
        queue.set_store_away();
        for number in 0..3 {
            queue.push(sample(number).into(), Position::default());
        }
        assert_eq!(queue.store_is_back(), Some(3));
        assert_eq!(queue.store_is_back(), None);
        assert!(queue.store_is_there());
    }

    #[test]
    fn a_writer_that_many_full_batches_wait_for_hurries() {
        let queue = Queue::new(100, 2, Position::default());
        for number in 0..11 {
            queue.push(sample(number).into(), Position::default());
        }
        let mut hurries = Vec::new();
        while queue.state().queued.len() > 0 {
            hurries.push(matches!(
                queue.next(None, Duration::ZERO),
                Some(Work::Behind(_))
            ));
        }
        assert_eq!(hurries, [true, true, false, false, false, false]);
    }

    #[test]
    fn upkeep_waits_for_enough_entries_or_its_time_and_for_no_more_at_the_end() {
        let long = Duration::from_secs(60);
        let queue = Queue::new(100, 10, Position::default());
        assert!(queue.wait_for_much(1, Duration::ZERO), "its time is over");
        queue.applied(&[Position::default(); 3]);
        assert!(queue.wait_for_much(3, long), "there is enough");
        queue.stop();
        assert!(!queue.wait_for_much(4, long), "nothing more comes");
    }
}
