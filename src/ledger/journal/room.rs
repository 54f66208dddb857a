//! Room for records, and for the ends of the requests that were let through.
//!
//! Records are written over zeros that were written before: a segment is always extended by `STEP_BYTES` *before* it is
//! needed. `begin` sees to it that what lies ahead has room for the `close` of every open request (the size of its
//! `begin` and `CLOSE_SLACK_BYTES`), and is refused when the disk has no more; the closes of the requests let through
//! then still fit. (On a copy-on-write file system even overwriting takes space; there this is best effort.)

use std::io;

use super::line::HandOn;
use super::pen::Pen;
use super::segment::Segment;
use super::{Fsync, Journal, JournalError, refusal};

/// What a `close` may have more than its `begin`: the served model, tier, price rows, a reason.
pub(super) const CLOSE_SLACK_BYTES: u64 = 1024;
/// How far a segment is written with zeros at a time, while all requests wait: about 15 microseconds.
pub(super) const STEP_BYTES: u64 = 64 * 1024;

impl Journal {
    pub(super) fn within_limit(&self, pen: &Pen) -> Result<(), JournalError> {
        if pen.finished_bytes + pen.end_of_line() >= self.limits.total_bytes {
            return Err(self.spool_full());
        }
        Ok(())
    }

    pub(in crate::ledger) fn spool_full(&self) -> JournalError {
        JournalError::SpoolFull(self.directory.clone())
    }

    /// Begins a new segment when the current one is full. What is in line still goes to that.
    pub(super) fn turn_when_full(&self, pen: &mut Pen, hand_on: HandOn<'_>) {
        if pen.end_of_line() >= self.limits.segment_bytes {
            self.write_line(pen, hand_on);
            // When there is no space for a new file, the old one goes on.
            let _ = self.rotate(pen);
        }
    }

    /// Sees to it that the current segment is zeroed for `bytes` beyond what is in line and reserved.
    pub(super) fn make_room(&self, pen: &mut Pen, bytes: u64) -> Result<(), JournalError> {
        let wanted = pen.end_of_line() + pen.reserved + bytes;
        if wanted > pen.segment.room() {
            let steps = (wanted - pen.segment.room()).div_ceil(STEP_BYTES);
            pen.segment
                .extend(steps * STEP_BYTES)
                .map_err(|error| refusal(&self.directory, &error))?;
        }
        Ok(())
    }

    fn rotate(&self, pen: &mut Pen) -> io::Result<()> {
        let room = pen.reserved.div_ceil(STEP_BYTES) * STEP_BYTES + STEP_BYTES;
        let next = Segment::create(&self.directory, pen.segment.number() + 1, self.salt, room)?;
        pen.turn_to(next, self.fsync != Fsync::Never);
        Ok(())
    }
}
