//! JSON read without a tree, in two tempers.
//!
//! [`members`] is strict: what a client sends must be exactly one well-formed object. `serde_json` skips the values
//! without recursion, so a body nested 100,000 deep is as harmless as a flat one.
//! [`each_member`], [`each_element`] and [`Walk`] take from an answer what can be read.

mod walk;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use walk::{Walk, each_element, each_member, text, walk_members};

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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn is_whole(text: &str) -> bool {
        members(text, |_, _| Ok::<(), Infallible>(())).is_ok()
    }

    #[test]
    fn members_come_in_order_with_their_names_unescaped() {
        let mut seen = Vec::new();
        let all = members(
            r#" {"a":1,"mod\u0065l":"x","c":[{"d":2}]} "#,
            |name, value| {
                seen.push((name.into_owned(), value.get()));
                Ok::<(), Infallible>(())
            },
        );
        assert!(all.is_ok());
        let expected = [("a", "1"), ("model", "\"x\""), ("c", r#"[{"d":2}]"#)];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn what_is_no_whole_object_is_an_error() {
        for text in [
            "",
            "{",
            "[]",
            "7",
            r#"{"a":1} x"#,
            r#"{"a":1}{}"#,
            "\u{feff}{}",
        ] {
            assert!(!is_whole(text), "{text}");
        }
    }

    #[test]
    fn nesting_does_not_use_up_the_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_whole(&deep));
    }

    proptest! {
        #[test]
        fn any_text_is_an_object_exactly_when_serde_json_says_so(text in "[\\{\\}\\[\\]\",:0a1 \\\\-]{0,20}") {
            let theirs = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
            prop_assert_eq!(is_whole(&text), theirs);
        }
    }
}
