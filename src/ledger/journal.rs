//! The journal: an append-only file set of one process, where entries are safe before the client sees the end.
//!
//! Two records a request: `begin` is written before the upstream call (the entry as it would be booked if the process died
//! now), `close` before the answer's last byte. Records of requests that come together are one `write`: see `line`. The page
//! cache survives the death of the process; [`Fsync`] says what survives the loss of power.
//!
//! **A full disk** leaves room for the ends of the requests that it let through: see `room`.
//!
//! **Segments.** At [`Limits::segment_bytes`] a new file is begun. A file is deleted when every close in it is durably
//! in the store and every begin in it was closed. Marks in the journal say how far the store has durably come, so that
//! a start after a crash re-reads seconds, not gigabytes.

mod adopt;
mod flush;
mod health;
mod line;
mod owed;
mod pen;
mod read;
mod room;
mod segment;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::entry::Entry;

pub use adopt::Recovery;
pub(super) use adopt::{Abandoned, abandoned};
pub use flush::Fsync;
pub(super) use line::HandOn;
use line::{InLine, What};
use owed::Owed;
use pen::{Open, Pen};
pub(super) use read::{Closed, closed_entries};
use room::{CLOSE_SLACK_BYTES, STEP_BYTES};
use segment::{MARK_BYTES, RecordKind, Salt, Segment};

/// How large a journal may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size at which a new file is begun.
    pub segment_bytes: u64,
    /// The size of all files together at which `begin` refuses: the store has been away for too long.
    pub total_bytes: u64,
}

/// Why the journal did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk has no space left for the request and its end.
    #[error("the disk of the journal {0} is full")]
    DiskFull(PathBuf),
    /// More waits for the store than the setting allows.
    #[error("the journal {0} has reached its size limit while the store is away")]
    SpoolFull(PathBuf),
    /// One entry is larger than [`ENTRY_BYTES_MAX`].
    #[error("an entry of {0} bytes is too large for the journal")]
    TooLarge(usize),
    /// The disk failed.
    #[error("the journal {0} cannot be written: {1}")]
    Failed(PathBuf, String),
}

/// The largest entry, encoded. Real ones have some 300 bytes; texts from outside are bounded before they come here.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// A place in a journal, in the order in which records were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The segment's number.
    pub(super) segment: u64,
    /// The offset in it.
    pub(super) offset: u64,
}

/// This process's journal.
#[derive(Debug)]
pub(super) struct Journal {
    /// The directory of this file set; `lock` in it is held for as long as the process lives.
    directory: PathBuf,
    _lock: File,
    salt: Salt,
    fsync: Fsync,
    limits: Limits,
    pen: Mutex<Pen>,
    /// A record was written for which the sync thread waited.
    news: Condvar,
    /// Records known to be on the disk, as counted by [`Pen::written`].
    synced: Mutex<u64>,
    /// Whether a record could not be written, and no request has begun since.
    failing: AtomicBool,
    /// What this process owes to shared counters.
    pub(super) owed: Owed,
}

impl Journal {
    /// A new file set of this process in `root`, which is made if need be.
    pub(super) fn create(
        root: &std::path::Path,
        fsync: Fsync,
        limits: Limits,
    ) -> Result<Journal, JournalError> {
        let failed = |error: io::Error| JournalError::Failed(root.to_owned(), error.to_string());
        let (directory, lock) = adopt::claim_new(root).map_err(failed)?;
        let mut salt = Salt::default();
        aws_lc_rs::rand::fill(&mut salt)
            .map_err(|_| failed(io::Error::other(crate::secret::NoRandomness)))?;
        let segment = Segment::create(&directory, 1, salt, STEP_BYTES)
            .map_err(|error| refusal(&directory, &error))?;
        if fsync != Fsync::Never {
            adopt::sync_directory(&directory).map_err(failed)?;
            adopt::sync_directory(root).map_err(failed)?;
            // The directory of all journals may be new itself.
            let parent = root
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(std::path::Path::new("."));
            adopt::sync_directory(parent).map_err(failed)?;
        }
        Ok(Journal {
            owed: Owed::new(&directory, fsync != Fsync::Never),
            directory,
            _lock: lock,
            salt,
            fsync,
            limits,
            pen: Mutex::new(Pen::new(segment)),
            news: Condvar::new(),
            synced: Mutex::new(0),
            failing: AtomicBool::new(false),
        })
    }

    /// Puts a request in line before it goes upstream: `entry` is what will be booked if the process dies with it.
    /// [`Journal::write_begin`] must say that it is written before anything is sent.
    pub(super) fn put_begin(&self, entry: &Entry, hand_on: HandOn<'_>) -> Result<(), JournalError> {
        let began = self.try_put_begin(entry, hand_on);
        if let Err(error) = &began {
            self.failed(error);
        }
        began
    }

    fn try_put_begin(&self, entry: &Entry, hand_on: HandOn<'_>) -> Result<(), JournalError> {
        let mut pen = self.pen();
        pen.refused = true;
        self.within_limit(&pen)?;
        self.turn_when_full(&mut pen, hand_on);
        let bytes = pen.encode(self.salt, RecordKind::Begin, entry)?;
        let reserved = bytes + CLOSE_SLACK_BYTES;
        if let Err(error) = self.make_room(&mut pen, reserved) {
            pen.take_back(bytes);
            return Err(error);
        }
        pen.refused = false;
        let segment = pen.segment.number();
        pen.keep(segment);
        pen.reserved += reserved;
        if let Some(before) = pen.open.insert(entry.id, Open { segment, reserved }) {
            pen.forget(&before);
        }
        let what = What::Begin(entry.id);
        self.put_in_line(&mut pen, InLine { bytes, what }, hand_on);
        Ok(())
    }

    /// Puts a request's end in line. [`Journal::write`] must have written it before the client can see the end.
    pub(super) fn put_close(
        &self,
        entry: Box<Entry>,
        hand_on: HandOn<'_>,
    ) -> Result<(), JournalError> {
        let mut pen = self.pen();
        self.turn_when_full(&mut pen, hand_on);
        pen.failed.remove(&entry.id);
        let open = pen.end(&entry.id);
        let bytes = match self.encode_close(&mut pen, &entry, open.is_some()) {
            Ok(bytes) => bytes,
            Err(error) => {
                pen.reopen(entry.id, open);
                drop(pen);
                hand_on(entry, None);
                // One that fits says nothing of the next `begin`: a refused request's own small entry fits where no request
                // does.
                self.failed(&error);
                return Err(error);
            }
        };
        let segment = pen.segment.number();
        pen.keep(segment);
        let what = What::Close(entry, open);
        self.put_in_line(&mut pen, InLine { bytes, what }, hand_on);
        Ok(())
    }

    fn encode_close(
        &self,
        pen: &mut Pen,
        entry: &Entry,
        was_open: bool,
    ) -> Result<u64, JournalError> {
        let bytes = pen.encode(self.salt, RecordKind::Close, entry)?;
        if let Err(error) = self.make_room(pen, 0) {
            // No more space can be had, but for an open request it was kept.
            if !was_open || pen.end_of_line() > pen.segment.room() {
                pen.take_back(bytes);
                return Err(error);
            }
        }
        Ok(bytes)
    }

    /// Calls `each` for the closes after `from`, in order, at most about `bytes_max` of them, and returns the place after
    /// the last one: how a writer that fell behind catches up.
    pub(super) fn read_after(
        &self,
        from: Position,
        bytes_max: usize,
        each: &mut dyn FnMut(Entry, Position),
    ) -> io::Result<Position> {
        let end = self.pen().position();
        read::closes_between(&self.directory, from, end, bytes_max, each)
    }

    /// The end of all records that are written.
    pub(super) fn end(&self) -> Position {
        self.pen().position()
    }

    /// Whether `at` is the end of all records that are written; `then` is called while no record can come between.
    pub(super) fn at_end<T>(&self, at: Position, then: impl FnOnce() -> T) -> Option<T> {
        let pen = self.pen();
        (pen.position() <= at).then(then)
    }

    /// Says that every close before `applied` is durably in the store, `counts` of them by segment since the last call:
    /// writes a mark and deletes the files that nothing keeps any more.
    pub(super) fn release(
        &self,
        applied: Position,
        counts: &BTreeMap<u64, u64>,
    ) -> Result<(), JournalError> {
        let mut pen = self.pen();
        let free = pen.release(counts);
        let mut mark = Vec::with_capacity(MARK_BYTES);
        segment::frame_mark(&mut mark, self.salt, applied);
        // A mark is a convenience: it must not take the room that closes need, and without it the files are needed no more.
        let needed = pen.end_of_line() + pen.reserved + mark.len() as u64;
        let marked = match needed <= pen.segment.room() {
            true => self.append(&mut pen, &mark),
            false => Ok(()),
        };
        pen.written += u64::from(marked.is_ok());
        self.put_down(pen);
        for number in free {
            let path = segment::path(&self.directory, number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a finished journal file could not be deleted");
            }
        }
        marked
    }

    /// Requests that were begun and not closed.
    pub(super) fn open_requests(&self) -> usize {
        self.pen().open.len()
    }

    /// The size of all files together.
    pub(super) fn bytes(&self) -> u64 {
        let pen = self.pen();
        pen.finished_bytes + pen.segment.end()
    }

    /// Deletes the whole file set if nothing in it is needed: the end of an orderly process. What is owed is needed by the
    /// next.
    pub(super) fn remove_if_done(&self) -> bool {
        let mut pen = self.pen();
        pen.removed =
            pen.is_done() && self.owed.is_empty() && adopt::remove(&self.directory).is_ok();
        pen.removed
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        // A panic while the pen is held leaves at most a record that is not in line: the next one takes its place.
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Journal {
    fn begin(&self, entry: &Entry) -> Result<(), JournalError> {
        self.put_begin(entry, &|_, _| {})?;
        self.write_begin(entry.id, &|_, _| {})
    }

    fn close(&self, entry: Entry, hand_on: HandOn<'_>) -> Result<(), JournalError> {
        self.put_close(entry.into(), hand_on)?;
        self.write(hand_on)
    }
}

fn refusal(directory: &std::path::Path, error: &io::Error) -> JournalError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            JournalError::DiskFull(directory.to_owned())
        }
        _ => JournalError::Failed(directory.to_owned(), error.to_string()),
    }
}
