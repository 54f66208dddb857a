//! JSON read without a tree, in two tempers.
//!
//! [`members`] is strict: what a client sends must be exactly one well-formed object, and a body nested 100,000 deep is as
//! harmless as a flat one. [`each_member`], [`each_element`] and [`Walk`] take from an answer what can be read.

mod strict;
mod walk;

use std::ops::Range;

use memchr::memchr2;

pub(crate) use strict::{Stopped, members};
pub(crate) use walk::{Walk, each_element, each_member, text, walk_members};

/// Where the long strings of a text stand, without their quotes, in order: whoever reads the text once more need not search
/// megabytes for their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LongStrings(Vec<Range<usize>>);

impl LongStrings {
    /// Shorter strings are searched again: so many bytes take less time than a list of thousands.
    const BYTES_MIN: usize = 4096;

    fn note(&mut self, string: Range<usize>) {
        if string.len() >= Self::BYTES_MIN {
            self.0.push(string);
        }
    }

    /// The places, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Range<usize>> {
        self.0.iter()
    }
}

/// Where `part` stands in `whole`, of which it is a slice; `None` when it is none.
pub(crate) fn span_in(whole: &[u8], part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

/// Where the first quote or backslash stands: the end of a string, or an escape in it.
///
/// Most strings are names and short values, for which a call that searches in vectors costs more than it saves: these are
/// looked through eight bytes at a time.
#[inline]
pub(crate) fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 32;
    let mut at = 0;
    while at < SHORT
        && let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk)
    {
        let word = u64::from_le_bytes(*eight);
        // Neither has its high bit set, so a byte that has is neither. What stands above the first mark says nothing.
        let marks =
            (below_zero_where(word, b'"') | below_zero_where(word, b'\\')) & !word & HIGH_BITS;
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    memchr2(b'"', b'\\', rest).map(|found| at + found)
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = ONES << 7;

/// Sets the high bit of each byte that is `byte` (Hacker's Delight, 6-1). Of bytes that have it set it says nothing.
#[inline]
fn below_zero_where(word: u64, byte: u8) -> u64 {
    (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_quote_or_backslash_is_found_wherever_it_stands(
            bytes in prop::collection::vec(prop_oneof![9 => any::<u8>(), 1 => Just(b'"')], 0..80),
        ) {
            let first = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(quote_or_backslash(&bytes), first);
        }
    }
}
