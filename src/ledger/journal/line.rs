//! Records in line: put down by several requests, and written together by the first of them that must know hers in the file.
//!
//! A request that is about to go upstream, or an answer that is about to leave, gives others their turn first; the records of
//! all of them are then one `write`, which costs as much as one of a single record. Where it fails, each record is tried
//! by itself: what concerns one request is not held against the others.

use super::pen::{Open, Pen};
use super::{Journal, JournalError, Position, refusal};
use crate::ids::RequestId;
use crate::ledger::entry::Entry;

/// What is put in line at most before it is written: a bound on memory.
const LINE_BYTES: usize = 64 * 1024;

/// Takes each closed entry with the place behind its record, in the journal's order: no other record can come between. One
/// that could not be written has no place.
pub(in crate::ledger) type HandOn<'a> = &'a dyn Fn(Box<Entry>, Option<Position>);

/// A record in the pen's buffer.
#[derive(Debug)]
pub(super) struct InLine {
    pub(super) bytes: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Begin(RequestId),
    /// With the begin that it ends.
    Close(Box<Entry>, Option<Open>),
}

impl Journal {
    /// Writes what is in line.
    ///
    /// # Errors
    /// At least one close could not be written since this was asked last, or forced to the disk where it has to be.
    pub(in crate::ledger) fn write(&self, hand_on: HandOn<'_>) -> Result<(), JournalError> {
        let mut pen = self.pen();
        self.write_line(&mut pen, hand_on);
        let failed = pen.unwritten.take();
        // Where nothing is in line, another may have written what the caller put there, and be about to force it to the disk.
        let on_disk = self.sync_before_return(pen);
        let written = failed.map_or(on_disk, Err);
        if let Err(error) = &written {
            self.failed(error);
        }
        written
    }

    /// Writes what is in line, among it the begin of this request.
    ///
    /// # Errors
    /// That one could not be written: the request must be refused.
    pub(in crate::ledger) fn write_begin(
        &self,
        id: RequestId,
        hand_on: HandOn<'_>,
    ) -> Result<(), JournalError> {
        let mut pen = self.pen();
        self.write_line(&mut pen, hand_on);
        let failed = pen.failed.remove(&id);
        // One that found room says nothing of room since another found none.
        let refused = pen.refused;
        let on_disk = self.sync_before_return(pen);
        let began = failed.map_or(on_disk, Err);
        match &began {
            Ok(()) if refused => {}
            Ok(()) => self.recovered(),
            Err(error) => self.failed(error),
        }
        began
    }

    /// Puts the record that was encoded last in line.
    pub(super) fn put_in_line(&self, pen: &mut Pen, record: InLine, hand_on: HandOn<'_>) {
        pen.line_bytes += record.bytes as usize;
        pen.line.push(record);
        if pen.buffer.len() > LINE_BYTES {
            self.write_line(pen, hand_on);
        }
    }

    pub(super) fn write_line(&self, pen: &mut Pen, hand_on: HandOn<'_>) {
        if pen.line.is_empty() {
            return;
        }
        let mut line = std::mem::take(&mut pen.line);
        pen.line_bytes = 0;
        let buffer = std::mem::take(&mut pen.buffer);
        let segment = pen.segment.number();
        let mut offset = pen.segment.end();
        let together = self.append(pen, &buffer);
        if together.is_err() {
            // Some records may have been written whole: none of them stands in the file before it is written again.
            pen.segment.blank(buffer.len());
        }
        let mut never_begun = Vec::new();
        let mut rest = buffer.as_slice();
        for InLine { bytes, what } in line.drain(..) {
            let (record, others) = rest.split_at_checked(bytes as usize).unwrap_or((rest, &[]));
            rest = others;
            let written = match &together {
                Ok(()) => Ok(()),
                Err(_) => self.append(pen, record),
            };
            if written.is_ok() {
                pen.written += 1;
                offset += bytes;
            }
            match (what, written) {
                (What::Begin(_), Ok(())) => {}
                (What::Begin(id), Err(error)) => match pen.open.remove(&id) {
                    Some(open) => {
                        pen.forget(&open);
                        pen.failed.insert(id, error);
                    }
                    // Its close stands behind it: nobody asks for the begin any more.
                    None => never_begun.push(id),
                },
                (What::Close(entry, open), Ok(())) => {
                    if let Some(open) = open {
                        pen.let_go(open.segment);
                    }
                    hand_on(entry, Some(Position { segment, offset }));
                }
                (What::Close(entry, open), Err(error)) => {
                    pen.let_go(segment);
                    match open {
                        Some(open) if never_begun.contains(&entry.id) => pen.let_go(open.segment),
                        open => pen.reopen(entry.id, open),
                    }
                    pen.unwritten = Some(error);
                    hand_on(entry, None);
                }
            }
        }
        pen.line = line;
        pen.buffer = buffer;
        pen.buffer.clear();
        pen.buffer.shrink_to(2 * LINE_BYTES);
    }

    pub(super) fn append(&self, pen: &mut Pen, records: &[u8]) -> Result<(), JournalError> {
        if pen.removed {
            let reason = "the ledger was shut down".to_owned();
            return Err(JournalError::Failed(self.directory.clone(), reason));
        }
        let appended = pen.segment.append(records);
        appended.map_err(|error| refusal(&self.directory, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::sync::atomic::Ordering;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;
    use crate::ledger::journal::{Fsync, Limits, segment};
    use crate::ledger::samples::sample;

    fn journal(segment_bytes: u64) -> (tempfile::TempDir, Journal) {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits {
            segment_bytes,
            total_bytes: 1 << 20,
        };
        let journal = Journal::create(root.path(), Fsync::Never, limits).unwrap();
        (root, journal)
    }

    /// The closes in the files, with the places behind them.
    fn written(journal: &Journal) -> Vec<(RequestId, Option<Position>)> {
        let mut closed = Vec::new();
        let mut each = |entry: Entry, at| closed.push((entry.id, Some(at)));
        journal
            .read_after(Position::default(), 1 << 20, &mut each)
            .unwrap();
        closed
    }

    #[test]
    fn records_of_several_requests_are_written_together_and_handed_on_with_their_places() {
        // In a file of their own each, and all in one.
        for segment_bytes in [1, 1 << 20] {
            let (_root, journal) = journal(segment_bytes);
            let handed_on = RefCell::new(Vec::new());
            let hand_on = |entry: Box<Entry>, place| handed_on.borrow_mut().push((entry.id, place));
            for number in 0..3 {
                journal.put_begin(&sample(number), &hand_on).unwrap();
            }
            for number in [1, 0, 2] {
                journal.put_close(sample(number).into(), &hand_on).unwrap();
            }
            if segment_bytes > 1 {
                assert_eq!(journal.bytes(), segment::HEADER_BYTES as u64);
                assert_eq!(*handed_on.borrow(), []);
            }
            journal.write_begin(sample(2).id, &hand_on).unwrap();
            let ids: Vec<_> = handed_on.borrow().iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, [1, 0, 2].map(|number| sample(number).id));
            assert_eq!(*handed_on.borrow(), written(&journal));
            assert_eq!(journal.write(&hand_on), Ok(()));
            assert_eq!(journal.open_requests(), 0);
        }
    }

    #[test]
    fn a_line_is_written_early_where_it_would_be_long() {
        let (_root, journal) = journal(1 << 20);
        for number in 0..1_000 {
            journal.put_begin(&sample(number), &|_, _| {}).unwrap();
            assert!(journal.pen().buffer.len() <= LINE_BYTES);
        }
    }

    #[test]
    fn each_record_learns_its_own_fate_where_all_of_them_together_do_not_fit() {
        let (_root, journal) = journal(1 << 20);
        let handed_on = RefCell::new(Vec::new());
        let hand_on = |entry: Box<Entry>, place: Option<_>| {
            handed_on.borrow_mut().push((entry.id, place.is_some()))
        };
        journal.begin(&sample(1)).unwrap();
        // A file that takes one more record of this size, and not two.
        let end = journal.end().offset;
        let record = end - segment::HEADER_BYTES as u64;
        let small = File::from(memfd_create("small", MemfdFlags::ALLOW_SEALING).unwrap());
        small.set_len(end + record + record / 2).unwrap();
        fcntl_add_seals(&small, SealFlags::GROW).unwrap();
        let disk = journal.pen().segment.replace_file(small);

        journal.put_begin(&sample(2), &hand_on).unwrap();
        journal.put_begin(&sample(3), &hand_on).unwrap();
        journal.put_close(sample(1).into(), &hand_on).unwrap();
        assert_eq!(journal.write_begin(sample(2).id, &hand_on), Ok(()));
        assert!(journal.write_begin(sample(3).id, &hand_on).is_err());
        assert_eq!(*handed_on.borrow(), [(sample(1).id, false)]);
        assert!(journal.write(&hand_on).is_err());
        assert_eq!(journal.write(&hand_on), Ok(()));
        // The one without a record in the file keeps its begin, which says as much as is known there.
        assert_eq!(journal.open_requests(), 2);
        assert_eq!(journal.end().offset, end + record);

        journal
            .pen()
            .segment
            .replace_file(disk.try_clone().unwrap());
        journal.put_close(sample(2).into(), &hand_on).unwrap();
        assert_eq!(journal.write(&hand_on), Ok(()));
        assert_eq!(handed_on.borrow().last(), Some(&(sample(2).id, true)));
    }

    #[test]
    fn a_request_that_ended_before_its_begin_was_written_leaves_nothing_behind() {
        let (_root, journal) = journal(1 << 20);
        let reserved = journal.pen().reserved;
        let read_only = File::open(segment::path(&journal.directory, 1)).unwrap();
        let disk = journal.pen().segment.replace_file(read_only);
        journal.put_begin(&sample(1), &|_, _| {}).unwrap();
        journal.put_close(sample(1).into(), &|_, _| {}).unwrap();
        assert!(journal.write(&|_, _| {}).is_err());
        let disk = disk.try_clone().unwrap();
        journal.pen().segment.replace_file(disk);
        assert!(journal.pen().failed.is_empty());
        assert_eq!(journal.pen().reserved, reserved);
        assert!(journal.pen().is_done());
    }

    #[test]
    fn a_begin_keeps_its_file_until_its_close_is_written() {
        // Each record begins a file.
        let (_root, journal) = journal(1);
        journal.begin(&sample(1)).unwrap();
        journal.begin(&sample(2)).unwrap();
        journal.put_close(sample(1).into(), &|_, _| {}).unwrap();
        let nothing = BTreeMap::new();
        journal.release(Position::default(), &nothing).unwrap();
        let files = |journal: &Journal| segment::list(&journal.directory).unwrap();
        let begun_in = files(&journal);
        journal.write(&|_, _| {}).unwrap();
        journal.release(Position::default(), &nothing).unwrap();
        assert_eq!(files(&journal).len(), begun_in.len() - 1);
    }

    #[test]
    fn finished_files_that_nobody_forces_to_the_disk_are_let_go() {
        let (_root, journal) = journal(1);
        for number in 0..10 {
            journal.begin(&sample(number)).unwrap();
        }
        assert!(journal.pen().unsynced.is_empty());
    }

    #[test]
    fn a_begin_that_found_room_earlier_does_not_make_a_full_journal_well() {
        let (_root, mut journal) = journal(1 << 20);
        journal.put_begin(&sample(1), &|_, _| {}).unwrap();
        journal.limits.total_bytes = 0;
        assert!(journal.put_begin(&sample(2), &|_, _| {}).is_err());
        journal.write_begin(sample(1).id, &|_, _| {}).unwrap();
        assert!(matches!(journal.check(), Err(JournalError::SpoolFull(_))));
        journal.limits.total_bytes = 1 << 20;
        journal.begin(&sample(3)).unwrap();
        assert!(!journal.failing.load(Ordering::Relaxed));
    }
}
