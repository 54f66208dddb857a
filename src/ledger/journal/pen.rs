//! What is known while records are written: the current file, what is open, and what keeps each file.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use super::line::InLine;
use super::segment::{self, RecordKind, Salt, Segment};
use super::{ENTRY_BYTES_MAX, JournalError, Position};
use crate::hash::{HashMap, give_room_back};
use crate::ids::RequestId;
use crate::ledger::codec;
use crate::ledger::entry::Entry;

/// What writing needs; held while records are put in line, and while they are written.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) segment: Segment,
    /// Files that were finished since the last flush.
    pub(super) unsynced: Vec<Arc<File>>,
    /// Whether the directory does not know the current file yet, as far as the disk is concerned.
    pub(super) directory_unsynced: bool,
    /// Records written so far.
    pub(super) written: u64,
    /// The sync thread sleeps until there is another.
    pub(super) awaited: bool,
    pub(super) open: HashMap<RequestId, Open>,
    /// Bytes kept for the closes of open requests.
    pub(super) reserved: u64,
    /// What keeps each file: open begins and closes that are not durable in the store.
    kept: BTreeMap<u64, Kept>,
    /// Bytes of finished files that are still there.
    pub(super) finished_bytes: u64,
    /// Records that are not written yet, one behind the other, in the order of `line`.
    pub(super) buffer: Vec<u8>,
    /// What they are: see `line`.
    pub(super) line: Vec<InLine>,
    /// The bytes of all that is in line.
    pub(super) line_bytes: usize,
    /// Begins that could not be written, until whoever put them in line asks.
    pub(super) failed: HashMap<RequestId, JournalError>,
    /// Whether the last request that wanted to begin found no room.
    pub(super) refused: bool,
    /// Why a close could not be written, until somebody asks.
    pub(super) unwritten: Option<JournalError>,
    /// Deleted: nothing can be written any more.
    pub(super) removed: bool,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) segment: u64,
    pub(super) reserved: u64,
}

#[derive(Debug, Default)]
struct Kept {
    records: u64,
    bytes: u64,
}

impl Pen {
    /// Writes into this first file of a journal.
    pub(super) fn new(segment: Segment) -> Pen {
        let kept = BTreeMap::from([(segment.number(), Kept::default())]);
        Pen {
            segment,
            unsynced: Vec::new(),
            directory_unsynced: false,
            written: 0,
            awaited: false,
            open: HashMap::default(),
            reserved: 0,
            kept,
            finished_bytes: 0,
            buffer: Vec::with_capacity(1024),
            line: Vec::new(),
            line_bytes: 0,
            failed: HashMap::default(),
            refused: false,
            unwritten: None,
            removed: false,
        }
    }

    /// Finishes the current file and goes on in this one. What was not forced to the disk is kept until it is, where it will be.
    pub(super) fn turn_to(&mut self, next: Segment, is_forced: bool) {
        self.kept.insert(next.number(), Kept::default());
        let finished = std::mem::replace(&mut self.segment, next);
        let bytes = finished.end();
        if let Some(kept) = self.kept.get_mut(&finished.number()) {
            kept.bytes = bytes;
        }
        self.finished_bytes += bytes;
        let file = finished.finish();
        if is_forced {
            self.unsynced.push(file);
            self.directory_unsynced = true;
        }
    }

    /// Frames the entry behind what is in the buffer and returns the record's size.
    pub(super) fn encode(
        &mut self,
        salt: Salt,
        kind: RecordKind,
        entry: &Entry,
    ) -> Result<u64, JournalError> {
        // After a panic while something was encoded there would be more.
        let start = self.line_bytes;
        self.buffer.truncate(start);
        segment::frame(&mut self.buffer, salt, kind, |out| {
            codec::encode(entry, out)
        });
        let bytes = self.buffer.len() - start;
        if bytes > ENTRY_BYTES_MAX {
            self.buffer.truncate(start);
            return Err(JournalError::TooLarge(bytes));
        }
        Ok(bytes as u64)
    }

    /// Takes the last record out of the buffer, which is not in line yet.
    pub(super) fn take_back(&mut self, bytes: u64) {
        let left = self.buffer.len().saturating_sub(bytes as usize);
        self.buffer.truncate(left);
    }

    /// Where the file will end once all records are written.
    pub(super) fn end_of_line(&self) -> u64 {
        self.segment.end() + self.buffer.len() as u64
    }

    /// The end of what is written.
    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.segment.number(),
            offset: self.segment.end(),
        }
    }

    /// One more record keeps this file.
    pub(super) fn keep(&mut self, segment: u64) {
        self.kept.entry(segment).or_default().records += 1;
    }

    /// One record less keeps this file.
    pub(super) fn let_go(&mut self, segment: u64) {
        if let Some(kept) = self.kept.get_mut(&segment) {
            kept.records = kept.records.saturating_sub(1);
        }
    }

    pub(super) fn forget(&mut self, open: &Open) {
        self.reserved -= open.reserved;
        self.let_go(open.segment);
    }

    /// Takes a request out that is about to end: what was reserved for its close is used now. Its begin keeps its file until
    /// the close is written.
    pub(super) fn end(&mut self, id: &RequestId) -> Option<Open> {
        let open = self.open.remove(id)?;
        give_room_back(&mut self.open);
        self.reserved -= open.reserved;
        Some(open)
    }

    /// Puts back what [`Pen::end`] took out.
    pub(super) fn reopen(&mut self, id: RequestId, open: Option<Open>) {
        if let Some(open) = open {
            self.reserved += open.reserved;
            self.open.insert(id, open);
        }
    }

    /// So many more closes in each file are durable in the store. Returns the finished files that nothing keeps any more;
    /// they are no longer counted.
    pub(super) fn release(&mut self, counts: &BTreeMap<u64, u64>) -> Vec<u64> {
        for (segment, count) in counts {
            if let Some(kept) = self.kept.get_mut(segment) {
                kept.records = kept.records.saturating_sub(*count);
            }
        }
        let current = self.segment.number();
        let free: Vec<u64> = self
            .kept
            .iter()
            .filter(|(number, kept)| **number < current && kept.records == 0)
            .map(|(number, _)| *number)
            .collect();
        for number in &free {
            if let Some(kept) = self.kept.remove(number) {
                self.finished_bytes -= kept.bytes;
            }
        }
        free
    }

    /// Whether no request is open and every close is durable in the store.
    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty() && self.kept.values().all(|kept| kept.records == 0)
    }
}
