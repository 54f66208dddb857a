//! Whose a file set is: each process locks its own; a set whose lock is free was left by a dead process and is adopted.
//!
//! The lock is the operating system's (`flock`): it goes with the process, however that ends, so that an old and a new
//! gateway can run side by side and neither takes the other's journal for an orphan.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{owed, owed::Owed, read};
use crate::ledger::entry::{Entry, Outcome};
use crate::ledger::intake::Intake;
use crate::ledger::store::StoreError;

const LOCK: &str = "lock";
/// The mark of a directory whose lock is not held yet.
const UNBORN: &str = ".new";
/// The mark of a directory that holds what this version cannot read.
const FOREIGN: &str = ".foreign";
const BIRTH_TIME_MAX: Duration = Duration::from_secs(60);
/// How many entries are given to the store at once.
const BATCH: usize = 1000;

/// Makes and locks a directory for this process. It gets its name only after the lock is held, so that nobody can
/// take it for abandoned in between.
pub(super) fn claim_new(root: &Path) -> io::Result<(PathBuf, File)> {
    std::fs::create_dir_all(root)?;
    let name = uuid::Uuid::now_v7().to_string();
    let unborn = root.join(format!("{name}{UNBORN}"));
    std::fs::create_dir(&unborn)?;
    let lock = File::create(unborn.join(LOCK))?;
    lock.try_lock()
        .map_err(|_| io::Error::other("the lock of a new journal is taken"))?;
    let directory = root.join(name);
    std::fs::rename(&unborn, &directory)?;
    Ok((directory, lock))
}

/// Forces the names in a directory to the disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Deletes a file set: the segments first, so that what is left half-way is still a set with a lock.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    for number in super::segment::list(directory)? {
        std::fs::remove_file(super::segment::path(directory, number))?;
    }
    owed::remove(directory)?;
    std::fs::remove_file(directory.join(LOCK))?;
    std::fs::remove_dir(directory)
}

/// The journal of a dead process, locked by us.
#[derive(Debug)]
pub(in crate::ledger) struct Abandoned {
    directory: PathBuf,
    _lock: File,
}

/// What was found in journals of dead processes and is in the store now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// File sets of dead processes that were taken over.
    pub journals: usize,
    /// Closed entries that had not reached the store.
    pub closed: usize,
    /// Requests that were in flight, booked as interrupted.
    pub interrupted: usize,
    /// Torn or damaged bytes that were passed over: a loss of power, never the mere death of a process.
    pub damaged_bytes: u64,
    /// File sets that must wait because the store cannot be reached; the keeper thread takes them over later.
    pub waiting: usize,
    /// File sets of other processes that run.
    pub others: usize,
}

impl std::ops::AddAssign for Recovery {
    fn add_assign(&mut self, other: Recovery) {
        self.journals += other.journals;
        self.closed += other.closed;
        self.interrupted += other.interrupted;
        self.damaged_bytes += other.damaged_bytes;
        self.waiting += other.waiting;
        self.others += other.others;
    }
}

/// Locks every journal under `root` whose process is dead, and counts those whose process runs.
pub(in crate::ledger) fn abandoned(root: &Path) -> io::Result<(Vec<Abandoned>, usize)> {
    let mut found = Vec::new();
    let mut running = 0;
    for item in std::fs::read_dir(root)? {
        let directory = item?.path();
        if is_being_born(&directory) || directory.to_string_lossy().ends_with(FOREIGN) {
            continue;
        }
        let Ok(lock) = File::open(directory.join(LOCK)) else {
            // Deleted by its adopter meanwhile, or a process died before it had made its lock.
            let _ = std::fs::remove_dir(&directory);
            continue;
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                running += 1;
                continue;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Another adopter may have finished and deleted it between our opening and locking.
        if directory.join(LOCK).exists() {
            found.push(Abandoned {
                directory,
                _lock: lock,
            });
        }
    }
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok((found, running))
}

/// Whether another process is just making this directory. One that died while it did leaves nothing of worth.
fn is_being_born(directory: &Path) -> bool {
    let unborn = directory.to_string_lossy().ends_with(UNBORN);
    let young = || {
        let made = std::fs::metadata(directory).and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < BIRTH_TIME_MAX))
    };
    unborn && young()
}

impl Abandoned {
    /// Gives everything in it to the store, what its process owed to `heir`, and deletes it; what is not ours is left where
    /// it is, under a name that says so. May be repeated after a failure: the store knows ids.
    ///
    /// # Errors
    /// The store's; a journal that cannot be read is reported as [`StoreError::Unavailable`] too: it stays where it is.
    pub(in crate::ledger) fn recover(
        &self,
        intake: &Intake,
        heir: &Owed,
    ) -> Result<Recovery, StoreError> {
        let unreadable = |error: io::Error| {
            StoreError::Unavailable(format!("{}: {error}", self.directory.display()))
        };
        let survey = read::survey(&self.directory).map_err(unreadable)?;
        let mut recovery = Recovery {
            journals: 1,
            damaged_bytes: survey.damaged_bytes,
            ..Recovery::default()
        };
        let mut batch = Vec::with_capacity(BATCH);
        let mut failed = None;
        read::unapplied_closes(&self.directory, &survey, &mut |entry| {
            batch.push(entry);
            if batch.len() < BATCH {
                return true;
            }
            match intake.recover(&batch) {
                Ok(new) => recovery.closed += new,
                Err(error) => failed = Some(error),
            }
            batch.clear();
            failed.is_none()
        })
        .map_err(unreadable)?;
        if let Some(error) = failed {
            return Err(error);
        }
        recovery.closed += intake.recover(&batch)?;
        let died_at = self.died_at(&survey);
        let mut open: Vec<_> = survey.open.values().copied().collect();
        open.sort_unstable();
        for chunk in open.chunks(BATCH) {
            batch.clear();
            for place in chunk {
                let begun = read::begun(&self.directory, *place).map_err(unreadable)?;
                batch.extend(begun.map(|entry| interrupted(entry, died_at)));
            }
            recovery.interrupted += intake.recover(&batch)?;
        }
        intake.store().make_durable()?;
        // After the entries: counters that are built anew find all of them.
        heir.take_over(&self.directory).map_err(unreadable)?;
        if survey.is_foreign {
            let mut aside = self.directory.clone().into_os_string();
            aside.push(FOREIGN);
            std::fs::rename(&self.directory, &aside).map_err(unreadable)?;
            tracing::error!(
                directory = %aside.display(),
                "a journal of another version, or somebody else's files, is left alone: the version that wrote it can book what is in it"
            );
        } else {
            remove(&self.directory).map_err(unreadable)?;
        }
        Ok(recovery)
    }

    /// When the process last wrote: the nearest that is known to its death.
    fn died_at(&self, survey: &read::Survey) -> Option<Timestamp> {
        let last = survey.segments.last()?;
        let written = std::fs::metadata(super::segment::path(&self.directory, *last))
            .and_then(|metadata| metadata.modified())
            .ok()?;
        Timestamp::try_from(written).ok()
    }
}

/// The entry of a request that was in flight: as it was written beforehand, ended when the process died.
fn interrupted(mut entry: Entry, died_at: Option<Timestamp>) -> Entry {
    entry.outcome = Outcome::Interrupted;
    let end = died_at.unwrap_or(entry.ended_at).max(entry.started_at);
    let lasted = end.duration_since(entry.started_at).as_millis();
    entry.ended_at = end;
    entry.duration_ms = u32::try_from(lasted).unwrap_or(u32::MAX);
    entry
}
