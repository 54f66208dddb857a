//! JSON read without a tree: the members of an object, the elements of an array, the text of a string.
//!
//! `serde_json` skips the values without recursion, so a body nested 100,000 deep is as harmless as a flat one, and
//! what a value is gets looked at only where it matters: one odd member never loses the rest.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
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

/// Calls `each` with every member of an object; any other value has none. Stops at an error without a word: for
/// answers, of which is taken what can be read. Says whether all of `text` was one well-formed object.
pub(crate) fn each_member<'a>(text: &'a str, mut each: impl FnMut(Cow<'a, str>, &'a str)) -> bool {
    let all = members(text, |name, value| {
        each(name, value.get());
        Ok::<(), std::convert::Infallible>(())
    });
    all.is_ok()
}

/// Calls `each` with every element of an array; any other value has none.
pub(crate) fn each_element<'a>(text: &'a str, each: impl FnMut(&'a str)) {
    if text.starts_with('[') {
        // An error ends the elements, as it does the members above.
        let _ = serde_json::Deserializer::from_str(text).deserialize_seq(Elements(each));
    }
}

/// A JSON string's text; `None` for any other value. A lone surrogate, which some servers send when they cut an
/// emoji between two chunks, becomes U+FFFD.
pub(crate) fn text(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        plain.push_str(rest.get(..at)?);
        let (c, after) = unescape(rest.get(at + 1..)?)?;
        plain.push(c);
        rest = after;
    }
    plain.push_str(rest);
    Some(Cow::Owned(plain))
}

/// The character that an escape stands for, without its backslash, and what follows.
fn unescape(escape: &str) -> Option<(char, &str)> {
    let (kind, rest) = escape.split_at_checked(1)?;
    let c = match kind {
        "n" => '\n',
        "t" => '\t',
        "r" => '\r',
        "b" => '\u{8}',
        "f" => '\u{c}',
        "u" => return unescape_unicode(rest),
        other => other.chars().next()?,
    };
    Some((c, rest))
}

fn unescape_unicode(digits: &str) -> Option<(char, &str)> {
    let unit = |digits: &str| u32::from_str_radix(digits.get(..4)?, 16).ok();
    let high = unit(digits)?;
    let rest = digits.get(4..)?;
    if let Some(c) = char::from_u32(high) {
        return Some((c, rest));
    }
    let pair = || {
        let low = rest.strip_prefix("\\u")?;
        let low_unit = unit(low).filter(|unit| (0xdc00..0xe000).contains(unit))?;
        let high_bits = high.checked_sub(0xd800).filter(|bits| *bits < 0x400)?;
        let c = char::from_u32(0x10000 + (high_bits << 10) + (low_unit - 0xdc00))?;
        Some((c, low.get(4..)?))
    };
    Some(pair().unwrap_or((char::REPLACEMENT_CHARACTER, rest)))
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

struct Elements<F>(F);

impl<'a, F: FnMut(&'a str)> Visitor<'a> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<&'a RawValue>()? {
            (self.0)(value.get());
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
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn members_come_in_order_with_their_names_unescaped() {
        let mut seen = Vec::new();
        let whole = each_member(
            r#" {"a":1,"mod\u0065l":"x","c":[{"d":2}]} "#,
            |name, value| {
                seen.push((name.into_owned(), value));
            },
        );
        assert!(whole);
        let expected = [("a", "1"), ("model", "\"x\""), ("c", r#"[{"d":2}]"#)];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn what_is_no_whole_object_says_so() {
        for text in [
            "",
            "{",
            "[]",
            "7",
            r#"{"a":1} x"#,
            r#"{"a":1}{}"#,
            "\u{feff}{}",
        ] {
            assert!(!each_member(text, |_, _| {}), "{text}");
        }
    }

    #[test]
    fn nesting_does_not_use_up_the_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(each_member(&deep, |_, _| {}));
    }

    #[test]
    fn half_an_emoji_does_not_lose_the_text() {
        assert_eq!(text(r#""a\ud83db""#).unwrap(), "a\u{fffd}b");
        assert_eq!(text(r#""\ud83d\ude00""#).unwrap(), "😀");
        assert_eq!(text(r#""\ude00\ud83d\n""#).unwrap(), "\u{fffd}\u{fffd}\n");
        assert_eq!(text(r#""\ud83d\u0041""#).unwrap(), "\u{fffd}A");
    }

    proptest! {
        #[test]
        fn a_string_reads_as_serde_json_reads_it(plain in any::<String>(), ascii in any::<bool>()) {
            let mut json = serde_json::to_string(&plain).unwrap();
            if ascii {
                json = json.chars().flat_map(|c| {
                    let mut units = [0; 2];
                    let escaped: Vec<String> = match c.is_ascii() {
                        true => vec![c.to_string()],
                        false => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
                    };
                    escaped
                }).collect();
            }
            prop_assert_eq!(text(&json).unwrap(), plain);
        }

        #[test]
        fn any_text_is_an_object_exactly_when_serde_json_says_so(text in "[\\{\\}\\[\\]\",:0a1 \\\\-]{0,20}") {
            let ours = each_member(&text, |_, _| {});
            let theirs = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
            prop_assert_eq!(ours, theirs);
        }
    }
}
