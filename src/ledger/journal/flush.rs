//! The way of records from the page cache to the disk.

use std::sync::{MutexGuard, PoisonError};

use super::pen::Pen;
use super::{Journal, JournalError, adopt, refusal};

/// When journal records are forced from the page cache to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before `write_begin` and `write` return: nothing is lost with the power, and each request waits for the disk twice
    /// (calls that wait at the same time share one flush).
    Always,
    /// By the sync thread, twice in so many milliseconds: a loss of power takes the last interval at most, as long as a flush
    /// takes no more than half of it.
    Interval(u64),
    /// When the operating system likes.
    Never,
}

impl Journal {
    pub(super) fn sync_before_return(&self, pen: MutexGuard<'_, Pen>) -> Result<(), JournalError> {
        let written = pen.written;
        self.put_down(pen);
        match self.fsync {
            Fsync::Always => self.sync_to(written),
            Fsync::Interval(_) | Fsync::Never => Ok(()),
        }
    }

    /// Lets others write, and wakes the sync thread where it waits for a record.
    pub(super) fn put_down(&self, mut pen: MutexGuard<'_, Pen>) {
        let awaited = std::mem::take(&mut pen.awaited);
        // Who is woken needs the pen: it would wait for it at once, and be woken again.
        drop(pen);
        if awaited {
            self.news.notify_all();
        }
    }

    /// Sleeps until there is a record that was not forced to the disk, or `stopping` says so after [`Journal::wake`]. Whether
    /// there was none at first.
    pub(in crate::ledger) fn wait_for_record(&self, stopping: impl Fn() -> bool) -> bool {
        let synced = *self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pen = self.pen();
        let mut waited = false;
        while pen.written <= synced && !stopping() {
            pen.awaited = true;
            pen = self.news.wait(pen).unwrap_or_else(PoisonError::into_inner);
            waited = true;
        }
        waited
    }

    /// Wakes up who waits for a record.
    pub(in crate::ledger) fn wake(&self) {
        let _pen = self.pen();
        self.news.notify_all();
    }

    /// Forces everything written so far to the disk.
    pub(in crate::ledger) fn sync(&self) -> Result<(), JournalError> {
        let written = self.pen().written;
        self.sync_to(written)
    }

    /// Who waits here while another flushes finds its own record flushed as well.
    fn sync_to(&self, written: u64) -> Result<(), JournalError> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= written {
            return Ok(());
        }
        let (files, directory_unsynced, up_to) = {
            let mut pen = self.pen();
            let mut files = std::mem::take(&mut pen.unsynced);
            files.push(pen.segment.file());
            let directory_unsynced = std::mem::take(&mut pen.directory_unsynced);
            (files, directory_unsynced, pen.written)
        };
        for (at, file) in files.iter().enumerate() {
            if let Err(error) = file.sync_data() {
                let unsynced = files.iter().skip(at).take(files.len() - 1 - at);
                let mut pen = self.pen();
                pen.unsynced.extend(unsynced.cloned());
                pen.directory_unsynced |= directory_unsynced;
                return Err(refusal(&self.directory, &error));
            }
        }
        if directory_unsynced && let Err(error) = adopt::sync_directory(&self.directory) {
            self.pen().directory_unsynced = true;
            return Err(refusal(&self.directory, &error));
        }
        *synced = up_to;
        Ok(())
    }
}
