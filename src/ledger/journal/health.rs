//! Whether the journal is well: a record that it does not take makes it fail, and the next request that begins makes it
//! well again.

use std::sync::atomic::Ordering;

use super::{Fsync, Journal, JournalError, refusal};

/// The space with which a journal that failed is taken for well again.
const PROBE_BYTES: u64 = 16 * 1024;

impl Journal {
    /// Says once that the journal begins to fail.
    pub(super) fn failed(&self, error: &JournalError) {
        // One entry's own fault.
        if matches!(error, JournalError::TooLarge(_)) {
            return;
        }
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "requests are refused: what they use could not be recorded");
        }
    }

    /// Says once that requests can begin again.
    pub(super) fn recovered(&self) {
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the journal takes records again");
        }
    }

    /// Whether requests can begin. A journal that failed finds out here whether there is space again, since who asks this
    /// may send no request before the answer is yes.
    pub(in crate::ledger) fn check(&self) -> Result<(), JournalError> {
        if self.failing.load(Ordering::Relaxed) {
            let mut pen = self.pen();
            self.within_limit(&pen)?;
            self.make_room(&mut pen, PROBE_BYTES)?;
            // There may be room enough from before, on a disk that takes nothing any more.
            let written = pen.segment.probe();
            written.map_err(|error| refusal(&self.directory, &error))?;
            drop(pen);
            // The page cache takes what the disk does not: where each record waits for the disk, so does this.
            if self.fsync == Fsync::Always {
                self.sync()?;
            }
            self.recovered();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::fs::File;

    use super::*;
    use crate::ledger::journal::{Limits, Position, segment};
    use crate::ledger::samples::sample;

    fn journal(fsync: Fsync) -> (tempfile::TempDir, Journal) {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits {
            segment_bytes: 1 << 20,
            total_bytes: 1 << 20,
        };
        let journal = Journal::create(root.path(), fsync, limits).unwrap();
        (root, journal)
    }

    #[test]
    fn a_disk_that_takes_no_writes_is_not_well_because_there_is_room() {
        let (_root, journal) = journal(Fsync::Never);
        journal.begin(&sample(1)).unwrap();
        let read_only = File::open(segment::path(&journal.directory, 1)).unwrap();
        let writable = journal.pen().segment.replace_file(read_only);
        assert!(matches!(
            journal.begin(&sample(2)),
            Err(JournalError::Failed(..))
        ));
        assert!(matches!(journal.check(), Err(JournalError::Failed(..))));
        let writable = writable.try_clone().unwrap();
        journal.pen().segment.replace_file(writable);
        assert_eq!(journal.check(), Ok(()));
        journal.close(sample(1), &|_, _| {}).unwrap();
        let end = journal.end();
        let mut closed = Vec::new();
        journal
            .read_after(Position::default(), 1 << 20, &mut |entry, at| {
                closed.push((entry.id, at));
            })
            .unwrap();
        assert_eq!(closed, [(sample(1).id, end)]);
    }

    #[test]
    fn a_disk_that_cannot_be_flushed_is_not_well_before_a_flush_succeeds() {
        let (_root, journal) = journal(Fsync::Always);
        journal.begin(&sample(1)).unwrap();
        // It takes writes, and no flush.
        let unflushable = File::options().write(true).open("/dev/null").unwrap();
        let disk = journal.pen().segment.replace_file(unflushable);
        assert!(matches!(
            journal.begin(&sample(2)),
            Err(JournalError::Failed(..))
        ));
        for _ in 0..2 {
            assert!(matches!(journal.check(), Err(JournalError::Failed(..))));
        }
        journal
            .pen()
            .segment
            .replace_file(disk.try_clone().unwrap());
        assert_eq!(journal.check(), Ok(()));
        journal.begin(&sample(3)).unwrap();
    }

    #[test]
    fn what_a_failed_flush_has_left_is_flushed_by_the_next() {
        let (_root, journal) = journal(Fsync::Always);
        // As after a new file was begun.
        journal.pen().directory_unsynced = true;
        let unflushable = File::options().write(true).open("/dev/null").unwrap();
        let disk = journal.pen().segment.replace_file(unflushable);
        assert!(journal.begin(&sample(1)).is_err());
        assert!(journal.pen().directory_unsynced);
        let disk = disk.try_clone().unwrap();
        journal.pen().segment.replace_file(disk);
        journal.begin(&sample(2)).unwrap();
        assert!(!journal.pen().directory_unsynced);
    }

    #[test]
    fn files_that_nothing_needs_go_though_no_mark_can_be_written() {
        let root = tempfile::tempdir().unwrap();
        // Each record begins a file.
        let limits = Limits {
            segment_bytes: 1,
            total_bytes: 1 << 20,
        };
        let journal = Journal::create(root.path(), Fsync::Never, limits).unwrap();
        journal.begin(&sample(1)).unwrap();
        let closed_at = Cell::new(Position::default());
        let hand_on = |_, place: Option<Position>| closed_at.set(place.unwrap());
        journal.close(sample(1), &hand_on).unwrap();
        let closed_at = closed_at.get();
        journal.begin(&sample(2)).unwrap();
        let current = journal.pen().segment.number();
        let read_only = File::open(segment::path(&journal.directory, current)).unwrap();
        journal.pen().segment.replace_file(read_only);
        let counts = BTreeMap::from([(closed_at.segment, 1)]);
        assert!(journal.release(closed_at, &counts).is_err());
        assert_eq!(segment::list(&journal.directory).unwrap(), [current]);
    }

    #[test]
    fn a_refused_requests_own_entry_does_not_make_a_full_journal_well() {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits {
            segment_bytes: 1 << 20,
            total_bytes: 0,
        };
        let mut journal = Journal::create(root.path(), Fsync::Never, limits).unwrap();
        let is_failing = |journal: &Journal| journal.failing.load(Ordering::Relaxed);
        assert!(matches!(
            journal.begin(&sample(1)),
            Err(JournalError::SpoolFull(_))
        ));
        journal.close(sample(1), &|_, _| {}).unwrap();
        assert!(is_failing(&journal));
        assert!(matches!(journal.check(), Err(JournalError::SpoolFull(_))));
        assert!(is_failing(&journal));
        journal.limits.total_bytes = 1 << 20;
        assert_eq!(journal.check(), Ok(()));
        assert!(!is_failing(&journal));
    }
}
