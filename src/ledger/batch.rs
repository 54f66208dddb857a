//! Entries on their way to the store, in batches of what it takes at once.
//!
//! One list of all entries would move them whenever it grows, into memory that the system has to clear first, while requests
//! wait: at 40,000 requests a second that was 2 % of the gateway's CPU time. A full batch stays where it is.

use std::collections::VecDeque;

use super::entry::Entry;
use super::journal::Position;

/// How many used batches keep their memory for the next ones. Whoever has fallen further behind has more to give back.
const SPARE: usize = 8;
/// The memory that a batch begins with is for no more entries than these.
const FIRST_ENTRIES: usize = 1_024;

/// Closed entries and the places of their closes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) positions: Vec<Position>,
}

impl Batch {
    pub(super) fn push(&mut self, entry: Entry, position: Position) {
        self.entries.push(entry);
        self.positions.push(position);
    }

    /// Drops the entries and keeps their memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.positions.clear();
    }
}

/// Batches in order, all of them full but the last.
#[derive(Debug)]
pub(super) struct Batches {
    batches: VecDeque<Batch>,
    /// Empty ones.
    spare: Vec<Batch>,
    /// The entries of a full one.
    batch_max: usize,
    entries: usize,
}

impl Batches {
    /// None yet; each takes up to `batch_max` entries.
    pub(super) fn new(batch_max: usize) -> Batches {
        Batches {
            batches: VecDeque::new(),
            spare: Vec::new(),
            batch_max: batch_max.max(1),
            entries: 0,
        }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Whether the first batch is full.
    pub(super) fn has_full(&self) -> bool {
        self.entries >= self.batch_max
    }

    /// How many batches are full.
    pub(super) fn full(&self) -> usize {
        self.entries / self.batch_max
    }

    pub(super) fn push(&mut self, entry: Box<Entry>, position: Position) {
        self.entries += 1;
        if let Some(last) = self.batches.back_mut()
            && last.entries.len() < self.batch_max
        {
            last.push(*entry, position);
            return;
        }
        let mut batch = self.spare.pop().unwrap_or_else(|| {
            let entries = self.batch_max.min(FIRST_ENTRIES);
            Batch {
                entries: Vec::with_capacity(entries),
                positions: Vec::with_capacity(entries),
            }
        });
        batch.push(*entry, position);
        self.batches.push_back(batch);
    }

    /// Takes the first batch out, full or not.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.entries -= batch.entries.len();
        Some(batch)
    }

    /// Gives an empty batch back.
    pub(super) fn give_back(&mut self, batch: Batch) {
        if self.spare.len() < SPARE {
            self.spare.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::sample;

    #[test]
    fn entries_come_out_in_their_order_in_batches_of_what_the_store_takes() {
        let mut batches = Batches::new(3);
        for number in 0..7 {
            batches.push(sample(number).into(), Position::default());
        }
        assert_eq!(batches.len(), 7);
        let mut taken = Vec::new();
        while let Some(batch) = batches.take() {
            taken.push(batch.entries);
        }
        let expected = [0..3, 3..6, 6..7].map(|numbers| numbers.map(sample).collect::<Vec<_>>());
        assert_eq!(taken, expected);
        assert_eq!(batches.len(), 0);
    }

    #[test]
    fn a_batch_given_back_lends_its_memory_to_the_next_and_only_some_are_kept() {
        let mut batches = Batches::new(3);
        batches.push(sample(1).into(), Position::default());
        let mut used = batches.take().unwrap();
        let memory = used.entries.as_ptr();
        used.clear();
        batches.give_back(used);
        batches.push(sample(2).into(), Position::default());
        assert_eq!(batches.take().unwrap().entries.as_ptr(), memory);

        for _ in 0..100 {
            batches.give_back(Batch::default());
        }
        assert_eq!(batches.spare.len(), SPARE);
    }
}
