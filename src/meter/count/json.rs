//! Walking a request body without a tree: a value is looked into only where its meaning is known, so what a body holds
//! besides costs neither memory nor recursion.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The text of a JSON string; `None` for any other value. A lone surrogate becomes U+FFFD, as providers read it.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = value.get();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut reader = serde_json::Deserializer::from_str(quoted);
    reader.deserialize_bytes(Text).ok().map(Cow::Owned)
}

/// Whether the value is an array.
pub(super) fn is_array(value: &RawValue) -> bool {
    value.get().starts_with('[')
}

/// Whether the value is an object.
pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// The elements of an array, in order; none of any other value.
pub(super) fn elements<'v>(value: &'v RawValue, visit: impl FnMut(&'v RawValue)) {
    if is_array(value) {
        // A raw value is valid JSON: there is no error to report.
        let _ = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Elements(visit));
    }
}

/// The members of an object, in order; none of any other value.
pub(super) fn members<'v>(value: &'v RawValue, visit: impl FnMut(&str, &'v RawValue)) {
    if is_object(value) {
        let _ = serde_json::Deserializer::from_str(value.get()).deserialize_map(Members(visit));
    }
}

/// The member of this name.
pub(super) fn member<'v>(value: &'v RawValue, name: &str) -> Option<&'v RawValue> {
    let mut found = None;
    members(value, |member, value| {
        if member == name {
            found = Some(value);
        }
    });
    found
}

/// The text of the member of this name; empty where there is none.
pub(super) fn member_text<'v>(value: &'v RawValue, name: &str) -> Cow<'v, str> {
    member(value, name).and_then(text).unwrap_or_default()
}

struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

struct Elements<F>(F);

impl<'v, F: FnMut(&'v RawValue)> Visitor<'v> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'v>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

struct Members<F>(F);

impl<'v, F: FnMut(&str, &'v RawValue)> Visitor<'v> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'v>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<&'v RawValue>()? {
            let name = text(name).ok_or_else(|| A::Error::custom("a name that is no string"))?;
            let value = members.next_value()?;
            (self.0)(&name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn members_and_elements_come_in_order_and_unread() {
        let mut seen = Vec::new();
        members(
            raw(r#"{"a": [1, {"b": "}"}], "\u0062": null}"#),
            |name, value| {
                seen.push(format!("{name}={}", value.get()));
            },
        );
        assert_eq!(seen, [r#"a=[1, {"b": "}"}]"#, "b=null"]);
        let mut seen = Vec::new();
        elements(raw(r#"[1, "x", []]"#), |value| seen.push(value.get()));
        assert_eq!(seen, ["1", "\"x\"", "[]"]);
        elements(raw("{}"), |_| unreachable!("no array"));
        members(raw("7"), |_, _| unreachable!("no object"));
    }

    #[test]
    fn text_is_read_with_its_escapes() {
        assert_eq!(text(raw(r#""a\nb\u00e9\ud83d\ude00""#)).unwrap(), "a\nbé😀");
        assert!(matches!(
            text(raw("\"plain é\"")),
            Some(Cow::Borrowed("plain é"))
        ));
        assert!(text(raw(r#""a\ud83d""#)).unwrap().starts_with('a'));
        assert_eq!(text(raw("7")), None);
    }
}
