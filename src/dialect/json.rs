//! JSON read without a tree, in two tempers.
//!
//! [`members`] is strict: what a client sends must be exactly one well-formed object, and a body nested 100,000 deep is as
//! harmless as a flat one. [`each_member`], [`each_element`] and [`Walk`] take from an answer what can be read.

mod strict;
mod walk;

use std::ops::Range;

pub(crate) use strict::{Stopped, members};
pub(crate) use walk::{Walk, each_element, each_member, text, walk_members};

/// Where `part` stands in `whole`, of which it is a slice; `None` when it is none.
pub(crate) fn span_in(whole: &[u8], part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}
