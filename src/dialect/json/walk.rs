//! Walks through JSON that some server wrote, quickly and without complaint.
//!
//! Only the structure is looked at: brackets, strings and commas. A value that is no JSON is handed over as it stands,
//! and whoever wants a number or a text of it finds none. This is on the path of every piece of a streamed answer,
//! where a checking parser takes several times as long.

use std::borrow::Cow;

use super::quote_or_backslash;

/// Calls `each` with the name (unescaped) and the raw value of every member of the object that `json` is; any other
/// value has none. Says whether the object was closed and nothing followed it.
pub(crate) fn each_member<'a>(json: &'a str, mut each: impl FnMut(Cow<'a, str>, &'a str)) -> bool {
    walk_members(json, |name, walk| {
        each(name, walk.value()?);
        Some(())
    })
}

/// [`each_member`] for one who goes on into the values himself: `each` must walk past the member's value.
pub(crate) fn walk_members<'a>(
    json: &'a str,
    each: impl FnMut(Cow<'a, str>, &mut Walk<'a>) -> Option<()>,
) -> bool {
    let mut walk = Walk::new(json);
    walk.members(each).is_some() && walk.is_at_end()
}

/// Calls `each` with every element of the array that `json` is; any other value has none.
pub(crate) fn each_element<'a>(json: &'a str, mut each: impl FnMut(&'a str)) {
    Walk::new(json).elements(|walk| {
        each(walk.value()?);
        Some(())
    });
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

/// A place in a JSON text. What returns `None` has come to where it cannot go on.
pub(crate) struct Walk<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(json: &'a str) -> Self {
        Self { json, at: 0 }
    }

    fn here(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.json.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.here(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.here()? == byte).then(|| self.at += 1)
    }

    fn is_at_end(&mut self) -> bool {
        self.space();
        self.at == self.json.len()
    }

    /// The members of the object that stands here. `each` must walk past the member's value.
    pub(crate) fn members(
        &mut self,
        mut each: impl FnMut(Cow<'a, str>, &mut Self) -> Option<()>,
    ) -> Option<()> {
        self.items(b'{', b'}', |walk| {
            let start = walk.at;
            let name = match walk.pass_string()? {
                false => Cow::Borrowed(walk.json.get(start + 1..walk.at - 1)?),
                true => text(walk.json.get(start..walk.at)?)?,
            };
            walk.space();
            walk.expect(b':')?;
            walk.space();
            each(name, walk)
        })
    }

    /// The elements of the array that stands here. `each` must walk past the element.
    pub(crate) fn elements(&mut self, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.items(b'[', b']', each)
    }

    /// Walks through a value by another way than [`Walk::value`], and returns it raw.
    pub(crate) fn value_by(
        &mut self,
        way: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<&'a str> {
        let start = self.at;
        way(self)?;
        self.json.get(start..self.at)
    }

    /// The value that stands here, raw, which `read` walks through as far as it can: it may be of another kind than `read`
    /// expects, or broken.
    pub(crate) fn value_read_by(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<&'a str> {
        let start = self.at;
        if read(self).is_none() {
            self.at = start;
            return self.value();
        }
        self.json.get(start..self.at)
    }

    /// Whether a value begins here with this byte.
    pub(crate) fn is_at(&self, first: u8) -> bool {
        self.here() == Some(first)
    }

    /// What stands between two brackets, separated by commas.
    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.space();
        self.expect(open)?;
        self.space();
        if self.expect(close).is_some() {
            return Some(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            if self.expect(b',').is_none() {
                return self.expect(close);
            }
        }
    }

    /// Walks past a string; says whether it has escapes.
    fn pass_string(&mut self) -> Option<bool> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            self.at += quote_or_backslash(self.rest())?;
            if self.here()? == b'"' {
                self.at += 1;
                return Some(escaped);
            }
            escaped = true;
            self.at += 2;
        }
    }

    /// The value that stands here, raw.
    pub(crate) fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        match self.here()? {
            b'"' => {
                self.pass_string()?;
            }
            b'{' | b'[' => self.nested()?,
            _ => {
                // At a quote or bracket too, so that what a value is does not depend on who walks past it.
                let is_end = |byte: &u8| {
                    matches!(byte, b',' | b' ' | b'\n' | b'\r' | b'\t') || is_mark(*byte)
                };
                let rest = self.rest();
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        self.json
            .get(start..self.at)
            .filter(|value| !value.is_empty())
    }

    /// An object or array, however deep: brackets of both kinds are counted alike.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.here()? {
                b'"' => {
                    self.pass_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// Quotes and brackets. The brackets differ from one another in bits that are masked here: two comparisons for all four.
fn is_mark(byte: u8) -> bool {
    byte == b'"' || matches!(byte & !0x20, b'[' | b']')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn half_an_emoji_does_not_lose_the_text() {
        assert_eq!(text(r#""a\ud83db""#).unwrap(), "a\u{fffd}b");
        assert_eq!(text(r#""\ud83d\ude00""#).unwrap(), "😀");
        assert_eq!(text(r#""\ude00\ud83d\n""#).unwrap(), "\u{fffd}\u{fffd}\n");
        assert_eq!(text(r#""\ud83d\u0041""#).unwrap(), "\u{fffd}A");
    }

    #[test]
    fn an_object_that_breaks_off_gives_what_came_and_is_not_whole() {
        for broken in [
            r#"{"a":1,"b":"#,
            r#"{"a":1,"b":[2"#,
            r#"{"a":1,"b":"x"#,
            r#"{"a":1,"b":2"#,
            r#"{"a":1} {}"#,
        ] {
            let mut first = None;
            let whole = each_member(broken, |name, value| {
                first.get_or_insert((name, value));
            });
            assert!(!whole, "{broken}");
            assert_eq!(first, Some(("a".into(), "1")), "{broken}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\\\{\\}\\[\\],:é😀\n ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[a\"\\\\é]{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn well_formed_json_is_walked_as_a_tree_has_it(value in values(), pretty in any::<bool>()) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut members = serde_json::Map::new();
            let whole = each_member(&json, |name, value| {
                members.insert(name.into_owned(), serde_json::from_str(value).unwrap());
            });
            prop_assert_eq!(whole, value.is_object());
            prop_assert_eq!(&members, &value.as_object().cloned().unwrap_or_default());
            let mut elements: Vec<Value> = Vec::new();
            each_element(&json, |value| elements.push(serde_json::from_str(value).unwrap()));
            prop_assert_eq!(&elements, &value.as_array().cloned().unwrap_or_default());
        }

        #[test]
        fn a_string_reads_as_serde_json_reads_it(plain in any::<String>(), ascii in any::<bool>()) {
            let mut json = serde_json::to_string(&plain).unwrap();
            if ascii {
                let mut escaped = String::new();
                for c in json.chars() {
                    match c.is_ascii() {
                        true => escaped.push(c),
                        false => escaped.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}"))),
                    }
                }
                json = escaped;
            }
            prop_assert_eq!(text(&json).unwrap(), plain);
        }

        #[test]
        fn no_text_makes_it_panic(json in "[\\{\\}\\[\\]\",:0aé \\\\-]{0,30}|\\PC*") {
            each_member(&json, |_, value| assert!(!value.is_empty()));
            each_element(&json, |value| assert!(!value.is_empty()));
            text(&json);
        }
    }
}
