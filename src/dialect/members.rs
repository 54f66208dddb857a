//! The members of a JSON object, one after the other, without a tree.
//!
//! `serde_json` skips the values without recursion, so a body nested 100,000 deep is as harmless as a flat one.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Calls `each` with the name (unescaped) and the raw value of every member of the object that is all of `text`.
///
/// # Errors
/// [`Stopped::Syntax`] when `text` is not exactly one JSON object, [`Stopped::Here`] with what `each` refused.
pub(crate) fn members<'a, E>(
    text: &'a str,
    each: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let visited = deserializer.deserialize_map(Members {
        each,
        refused: &mut refused,
    });
    match (visited.and_then(|()| deserializer.end()), refused) {
        (_, Some(refused)) => Err(Stopped::Here(refused)),
        (Err(error), None) => Err(Stopped::Syntax(error)),
        (Ok(()), None) => Ok(()),
    }
}

/// Why [`members`] did not reach the end.
#[derive(Debug)]
pub(crate) enum Stopped<E> {
    /// The text is not one JSON object.
    Syntax(serde_json::Error),
    /// The caller refused a member.
    Here(E),
}

/// Where `part` stands in `whole`, of which it is a slice; `None` when it is none.
pub(crate) fn span_in(whole: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

struct Members<'s, F, E> {
    each: F,
    refused: &'s mut Option<E>,
}

impl<'a, F, E> Visitor<'a> for Members<'_, F, E>
where
    F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &'a RawValue = map.next_value()?;
            if let Err(refused) = (self.each)(name, value) {
                *self.refused = Some(refused);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// A member's name, borrowed unless it is written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'a> Deserialize<'a> for Name<'a> {
    fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'a> Visitor<'a> for NameVisitor {
    type Value = Name<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Name<'a>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'a>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}
