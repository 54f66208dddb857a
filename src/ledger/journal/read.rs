//! Reading journals: of this process when its writer fell behind, of others for export, of dead ones for recovery.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::segment::{self, HEADER_BYTES, RecordKind, Records};
use super::{ENTRY_BYTES_MAX, Position};
use crate::ids::RequestId;
use crate::ledger::codec;
use crate::ledger::entry::Entry;

/// The closes between two places of one journal: see [`super::Journal::read_after`].
pub(super) fn closes_between(
    directory: &Path,
    from: Position,
    end: Position,
    bytes_max: usize,
    each: &mut dyn FnMut(Entry, Position),
) -> io::Result<Position> {
    let mut at = from;
    let mut budget = bytes_max.max(2 * ENTRY_BYTES_MAX) as u64;
    while at < end && budget > 0 {
        let last = at.segment == end.segment;
        let file = match File::open(segment::path(directory, at.segment)) {
            Ok(file) => file,
            // It was let go: every close in it is in the store already.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !last => {
                at = Position {
                    segment: at.segment + 1,
                    offset: HEADER_BYTES as u64,
                };
                continue;
            }
            Err(error) => return Err(error),
        };
        let stop = if last {
            end.offset
        } else {
            file.metadata()?.len()
        };
        let offset = at.offset.max(HEADER_BYTES as u64);
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let salt = segment::read_header(&header)
            .ok_or_else(|| io::Error::other("a journal file has lost its header"))?;
        let count = budget.min(stop.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset)?;
        let mut read = 0;
        for record in Records::new(&bytes, salt, 0) {
            read = record.end as u64;
            let place = Position {
                segment: at.segment,
                offset: offset + read,
            };
            if record.kind == RecordKind::Close
                && let Some(entry) = codec::decode(record.content)
            {
                each(entry, place);
            }
        }
        let whole = offset + count == stop;
        at = match (whole, last) {
            (true, true) => end,
            (true, false) => Position {
                segment: at.segment + 1,
                offset: HEADER_BYTES as u64,
            },
            // The budget cut the last record: the next call begins with it.
            (false, _) => Position {
                segment: at.segment,
                offset: offset + read,
            },
        };
        budget = budget.saturating_sub(count);
    }
    Ok(at)
}

/// What a file set holds, found without decoding entries.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The segments, in order.
    pub(super) segments: Vec<u64>,
    /// Closes before this place are durably in the store.
    pub(super) applied: Position,
    /// Requests that were begun and not closed, with the place of their record.
    pub(super) open: HashMap<RequestId, Position>,
    /// Torn or damaged bytes that were passed over.
    pub(super) damaged_bytes: u64,
    /// Whether a file in it is none of ours: another version's, or somebody else's.
    pub(super) is_foreign: bool,
}

pub(super) fn survey(directory: &Path) -> io::Result<Survey> {
    let mut survey = Survey {
        segments: segment::list(directory)?,
        ..Survey::default()
    };
    for number in survey.segments.clone() {
        let bytes = std::fs::read(segment::path(directory, number))?;
        let Some(mut records) = Records::of_file(&bytes) else {
            let unknown = bytes.iter().filter(|byte| **byte != 0).count() as u64;
            survey.damaged_bytes += unknown;
            survey.is_foreign |= unknown > 0;
            continue;
        };
        for record in records.by_ref() {
            let id = || codec::key(record.content).map(|(_, id)| id);
            match record.kind {
                RecordKind::Begin => {
                    let place = Position {
                        segment: number,
                        offset: record.start as u64,
                    };
                    survey.open.extend(id().map(|id| (id, place)));
                }
                RecordKind::Close => {
                    id().and_then(|id| survey.open.remove(&id));
                }
                RecordKind::Mark => {
                    let applied = segment::read_mark(record.content).unwrap_or_default();
                    survey.applied = survey.applied.max(applied);
                }
            }
        }
        survey.damaged_bytes += records.damaged_bytes;
    }
    Ok(survey)
}

/// Calls `each` for every close that no mark covers, in order; it says whether to go on.
pub(super) fn unapplied_closes(
    directory: &Path,
    survey: &Survey,
    each: &mut dyn FnMut(Entry) -> bool,
) -> io::Result<()> {
    for number in &survey.segments {
        if *number < survey.applied.segment {
            continue;
        }
        let bytes = std::fs::read(segment::path(directory, *number))?;
        let Some(records) = Records::of_file(&bytes) else {
            continue;
        };
        for record in records.filter(|record| record.kind == RecordKind::Close) {
            let end = Position {
                segment: *number,
                offset: record.end as u64,
            };
            if end > survey.applied
                && let Some(entry) = codec::decode(record.content)
                && !each(entry)
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The begun entry at a place that [`survey`] found.
pub(super) fn begun(directory: &Path, at: Position) -> io::Result<Option<Entry>> {
    let file = File::open(segment::path(directory, at.segment))?;
    let mut frame = [0; 8];
    file.read_exact_at(&mut frame, at.offset)?;
    let [a, b, c, d, ..] = frame;
    let size = u32::from_le_bytes([a, b, c, d]) as usize;
    let mut body = vec![0; size.min(ENTRY_BYTES_MAX)];
    file.read_exact_at(&mut body, at.offset + 8)?;
    Ok(body
        .split_first()
        .and_then(|(_, content)| codec::decode(content)))
}

/// An entry that was closed and may not be in the store yet. Its content stays in the file until it is asked for.
#[derive(Debug)]
pub(in crate::ledger) struct Closed {
    /// Its place in the ledger's order: start in milliseconds, id.
    pub(in crate::ledger) key: (i64, RequestId),
    file: Arc<File>,
    offset: u64,
    size: usize,
}

impl Closed {
    /// The entry itself.
    pub(in crate::ledger) fn read(&self) -> io::Result<Option<Entry>> {
        let mut content = vec![0; self.size];
        self.file.read_exact_at(&mut content, self.offset)?;
        Ok(codec::decode(&content))
    }
}

/// What sits in the journals under `root` and may not be in the store yet, in the ledger's order, each id once: of living
/// and dead processes alike, without touching them. Read this *before* the store: what is deleted here meanwhile is there.
pub(in crate::ledger) fn closed_entries(root: &Path) -> io::Result<Vec<Closed>> {
    let mut closed = Vec::new();
    let sets = match std::fs::read_dir(root) {
        Ok(sets) => sets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(closed),
        Err(error) => return Err(error),
    };
    for set in sets {
        match closed_in_set(&set?.path(), &mut closed) {
            Ok(()) => {}
            // Deleted meanwhile, because all of it is in the store; or a file that is no file set.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error),
        }
    }
    closed.sort_by_key(|entry| entry.key);
    closed.dedup_by_key(|entry| entry.key.1);
    Ok(closed)
}

fn closed_in_set(directory: &Path, closed: &mut Vec<Closed>) -> io::Result<()> {
    let mut applied = Position::default();
    let mut found = Vec::new();
    for number in segment::list(directory)? {
        let mut file = match File::open(segment::path(directory, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let file = Arc::new(file);
        for record in Records::of_file(&bytes).into_iter().flatten() {
            let end = Position {
                segment: number,
                offset: record.end as u64,
            };
            match record.kind {
                RecordKind::Mark => {
                    applied = applied.max(segment::read_mark(record.content).unwrap_or_default());
                }
                RecordKind::Close => {
                    if let Some(key) = codec::key(record.content) {
                        let entry = Closed {
                            key,
                            file: Arc::clone(&file),
                            offset: (record.end - record.content.len()) as u64,
                            size: record.content.len(),
                        };
                        found.push((end, entry));
                    }
                }
                RecordKind::Begin => {}
            }
        }
    }
    closed.extend(
        found
            .into_iter()
            .filter(|(end, _)| *end > applied)
            .map(|(_, entry)| entry),
    );
    Ok(())
}
