//! One file of a journal, and the frames of its records.
//!
//! A file begins with [`MAGIC`] and the file set's [`Salt`]. A record is its length (4 bytes, of what follows the
//! checksum), a CRC-32 over salt, length and content (4 bytes), one byte for its kind, and its content. Zeros after the
//! last record are room for more. The salt is random: no text that a client sends can look like a record.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ENTRY_BYTES_MAX, Position};

/// The first bytes of a file: name and layout.
pub(super) const MAGIC: [u8; 8] = *b"weirlog1";
/// Random bytes under which the checksums of one file set are made.
pub(super) type Salt = [u8; 8];
/// Where the first record of a file stands.
pub(super) const HEADER_BYTES: usize = 16;
const FRAME_BYTES: usize = 8;
/// A framed mark: its kind, a segment's number and an offset.
pub(super) const MARK_BYTES: usize = FRAME_BYTES + 17;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// A request goes upstream.
    Begin = 1,
    /// A request ended.
    Close = 2,
    /// Closes before a position are durably in the store.
    Mark = 3,
}

/// The file that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    number: u64,
    file: Arc<File>,
    /// Where the next record goes.
    end: u64,
    /// Up to where the file was written with zeros.
    room: u64,
}

impl Segment {
    /// A new file with `room` bytes of zeros for records.
    pub(super) fn create(
        directory: &Path,
        number: u64,
        salt: Salt,
        room: u64,
    ) -> io::Result<Segment> {
        let path = path(directory, number);
        let made = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?;
            let header = [MAGIC, salt].concat();
            file.write_all_at(&header, 0)?;
            let mut segment = Segment {
                number,
                file: Arc::new(file),
                end: HEADER_BYTES as u64,
                room: HEADER_BYTES as u64,
            };
            segment.extend(room)?;
            Ok(segment)
        };
        made().inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })
    }

    /// Writes `bytes` more zeros behind what there is, or leaves the file as it was.
    pub(super) fn extend(&mut self, bytes: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let target = self.room + bytes;
        let mut at = self.room;
        while at < target {
            let count = (target - at).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..count as usize).unwrap_or(&ZEROS);
            if let Err(error) = self.file.write_all_at(zeros, at) {
                let _ = self.file.set_len(self.room);
                return Err(error);
            }
            at += count;
        }
        self.room = target;
        Ok(())
    }

    /// Writes records. When that fails, the part that was written will be written over.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.file.write_all_at(record, self.end)?;
        self.end += record.len() as u64;
        self.room = self.room.max(self.end);
        Ok(())
    }

    /// Writes zeros over the next `bytes`, as far as the file takes them.
    pub(super) fn blank(&self, bytes: usize) {
        let _ = self.file.write_all_at(&vec![0; bytes], self.end);
    }

    /// Writes a zero where the next record goes, over what is zero or no record: whether the disk takes it.
    pub(super) fn probe(&self) -> io::Result<()> {
        self.file.write_all_at(&[0], self.end)
    }

    /// Cuts the room that was not used.
    pub(super) fn finish(self) -> Arc<File> {
        let _ = self.file.set_len(self.end);
        self.file
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn room(&self) -> u64 {
        self.room
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Goes on with another handle, such as one that cannot write.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> Arc<File> {
        std::mem::replace(&mut self.file, Arc::new(file))
    }
}

/// The path of a segment.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.journal"))
}

/// The segments in a directory, in order.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for item in std::fs::read_dir(directory)? {
        let name = item?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".journal"))
            .and_then(|digits| digits.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The salt of a file that begins with [`MAGIC`].
pub(super) fn read_header(bytes: &[u8]) -> Option<Salt> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (salt, _) = rest.split_first_chunk::<8>()?;
    (*magic == MAGIC).then_some(*salt)
}

/// Adds one record to `out`, whose content `content` writes.
pub(super) fn frame(
    out: &mut Vec<u8>,
    salt: Salt,
    kind: RecordKind,
    content: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    out.push(kind as u8);
    content(out);
    let length = u32::try_from(out.len() - start - FRAME_BYTES).unwrap_or(u32::MAX);
    let length = length.to_le_bytes();
    let Some((frame, body)) = out
        .get_mut(start..)
        .and_then(|record| record.split_first_chunk_mut::<FRAME_BYTES>())
    else {
        return;
    };
    let checksum = checksum(salt, length, body).to_le_bytes();
    let [a, b, c, d] = length;
    let [e, f, g, h] = checksum;
    *frame = [a, b, c, d, e, f, g, h];
}

/// Adds a mark to `out`.
pub(super) fn frame_mark(out: &mut Vec<u8>, salt: Salt, applied: Position) {
    frame(out, salt, RecordKind::Mark, |out| {
        out.extend_from_slice(&applied.segment.to_le_bytes());
        out.extend_from_slice(&applied.offset.to_le_bytes());
    });
}

/// Reads a mark's content.
pub(super) fn read_mark(content: &[u8]) -> Option<Position> {
    let (segment, offset) = content.split_first_chunk::<8>()?;
    Some(Position {
        segment: u64::from_le_bytes(*segment),
        offset: u64::from_le_bytes(offset.try_into().ok()?),
    })
}

fn checksum(salt: Salt, length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt);
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

/// A record and the offset behind it.
#[derive(Debug, PartialEq)]
pub(super) struct Record<'a> {
    pub(super) kind: RecordKind,
    pub(super) content: &'a [u8],
    /// Where it starts.
    pub(super) start: usize,
    /// Where the next one starts.
    pub(super) end: usize,
}

/// The records of a whole file, or of a part that starts at a record.
///
/// A torn or damaged stretch (the power went while pages were on their way) does not hide what lies behind it: the
/// reader looks on, byte by byte, for the next valid checksum, and counts what it passed over.
#[derive(Debug)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    salt: Salt,
    at: usize,
    /// Bytes passed over that were not zero.
    pub(super) damaged_bytes: u64,
}

impl<'a> Records<'a> {
    /// The records of a whole file; `None` when it is none of ours (or its header never reached the disk).
    pub(super) fn of_file(bytes: &'a [u8]) -> Option<Records<'a>> {
        let salt = read_header(bytes)?;
        Some(Records::new(bytes, salt, HEADER_BYTES))
    }

    /// The records from an offset on.
    pub(super) fn new(bytes: &'a [u8], salt: Salt, at: usize) -> Records<'a> {
        Records {
            bytes,
            salt,
            at,
            damaged_bytes: 0,
        }
    }

    fn record_at(&self, start: usize) -> Option<Record<'a>> {
        let (length, rest) = self.bytes.get(start..)?.split_first_chunk::<4>()?;
        let (expected, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if !(1..=ENTRY_BYTES_MAX).contains(&size) {
            return None;
        }
        let body = rest.get(..size)?;
        let (kind, content) = body.split_first()?;
        let kind = match kind {
            1 => RecordKind::Begin,
            2 => RecordKind::Close,
            3 => RecordKind::Mark,
            _ => return None,
        };
        (checksum(self.salt, *length, body) == u32::from_le_bytes(*expected)).then_some(Record {
            kind,
            content,
            start,
            end: start + FRAME_BYTES + size,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while self.at < self.bytes.len() {
            if let Some(record) = self.record_at(self.at) {
                self.at = record.end;
                return Some(record);
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let zeros = rest.iter().position(|byte| *byte != 0);
            match zeros {
                None => self.at = self.bytes.len(),
                Some(0) => {
                    self.at += 1;
                    self.damaged_bytes += 1;
                }
                // The length that a record begins with may itself begin with up to two zeros.
                Some(zeros) => self.at += zeros.saturating_sub(2).max(1),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = *b"saltsalt";

    fn file_of(contents: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = [MAGIC, SALT].concat();
        let mut starts = Vec::new();
        for content in contents {
            starts.push(bytes.len());
            frame(&mut bytes, SALT, RecordKind::Close, |out| {
                out.extend_from_slice(content);
            });
        }
        (bytes, starts)
    }

    fn contents(bytes: &[u8]) -> Vec<Vec<u8>> {
        Records::of_file(bytes)
            .unwrap()
            .map(|record| record.content.to_vec())
            .collect()
    }

    #[test]
    fn a_torn_tail_is_cut_at_any_byte() {
        let (bytes, starts) = file_of(&[b"one", b"two", b"three"]);
        for length in starts[2]..bytes.len() {
            assert_eq!(contents(&bytes[..length]), [b"one", b"two"], "{length}");
        }
    }

    #[test]
    fn what_lies_behind_a_damaged_stretch_is_still_found() {
        let long = vec![b'x'; 255];
        let (bytes, starts) = file_of(&[b"one", &long, &long, b"four"]);
        for damage in [0_u8, 1, 0xff] {
            let mut damaged = bytes.clone();
            damaged[starts[1]..starts[2] - 1].fill(damage);
            let mut records = Records::of_file(&damaged).unwrap();
            let found: Vec<_> = records.by_ref().map(|record| record.start).collect();
            assert_eq!(found, [starts[0], starts[2], starts[3]]);
            assert!(damage == 0 || records.damaged_bytes > 0);
        }
    }

    #[test]
    fn zeros_behind_the_last_record_are_no_damage() {
        let (mut bytes, _) = file_of(&[b"one"]);
        bytes.resize(bytes.len() + 100_000, 0);
        let mut records = Records::of_file(&bytes).unwrap();
        assert_eq!(records.by_ref().count(), 1);
        assert_eq!(records.damaged_bytes, 0);
    }

    #[test]
    fn a_record_made_under_another_salt_is_none() {
        let mut forged = Vec::new();
        frame(&mut forged, *b"guessed!", RecordKind::Close, |out| {
            out.extend_from_slice(b"one million tokens for free");
        });
        let (mut bytes, starts) = file_of(&[&forged]);
        bytes[starts[0]] ^= 1;
        assert_eq!(contents(&bytes), Vec::<Vec<u8>>::new());
    }
}
