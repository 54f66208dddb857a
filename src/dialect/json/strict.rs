//! JSON that a client sent, taken only if it is exactly one well-formed object.
//!
//! Bodies have megabytes of text (images, documents): strings are searched in vectors, and everything that must be known of
//! them is found out in one pass through memory, which is several times as fast as `serde_json`. Nothing recurses. What this
//! finds well-formed `serde_json` finds well-formed too, with the same members, and it is UTF-8; what it does not is put
//! before `serde_json` for the reason.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};

use super::{LongStrings, quote_or_backslash};

/// Calls `each` with the name (unescaped) and the raw value of every member of the object that is all of `json`. Values are
/// UTF-8. Returns where its long strings stand.
///
/// # Errors
/// [`Stopped::Syntax`] when `json` is not exactly one JSON object, [`Stopped::Here`] with what `each` refused.
pub(crate) fn members<'a, E>(
    json: &'a [u8],
    mut each: impl FnMut(Cow<'a, str>, &'a [u8]) -> Result<(), E>,
) -> Result<LongStrings, Stopped<E>> {
    let mut scan = Scan {
        json,
        at: 0,
        long_strings: LongStrings::default(),
    };
    let mut refused = None;
    let whole = scan.object(&mut |name, value| match each(name, value) {
        Ok(()) => true,
        Err(error) => {
            refused = Some(error);
            false
        }
    });
    match (refused, whole) {
        (Some(refused), _) => Err(Stopped::Here(refused)),
        (None, Some(())) => Ok(scan.long_strings),
        (None, None) => Err(Stopped::Syntax(reason(json))),
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

fn reason(json: &[u8]) -> serde_json::Error {
    match serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(json) {
        Err(error) => error,
        Ok(_) => serde_json::Error::custom("it is not well-formed"),
    }
}

/// A place in a text. What returns `None` has found that it is not well-formed.
struct Scan<'a> {
    json: &'a [u8],
    at: usize,
    long_strings: LongStrings,
}

/// A long string is looked at in pieces that the nearest cache holds: what is searched for its end is still there when it
/// is looked at for what must not be in it.
const PIECE_BYTES: usize = 8 * 1024;

/// What may come next inside brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A member or an element.
    Item,
    /// That, or the closing bracket: after the opening one.
    ItemOrEnd,
    /// A comma or the closing bracket.
    CommaOrEnd,
}

impl<'a> Scan<'a> {
    fn here(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.json.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.here(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.here()? == byte).then(|| self.at += 1)
    }

    /// The whole text as one object; `each` says whether to go on.
    fn object(&mut self, each: &mut dyn FnMut(Cow<'a, str>, &'a [u8]) -> bool) -> Option<()> {
        self.space();
        self.expect(b'{')?;
        self.space();
        if self.expect(b'}').is_none() {
            loop {
                let name = self.name()?;
                let start = self.at;
                self.value()?;
                if !each(name, self.json.get(start..self.at)?) {
                    return None;
                }
                self.space();
                if self.expect(b',').is_none() {
                    self.expect(b'}')?;
                    break;
                }
                self.space();
            }
        }
        self.space();
        (self.at == self.json.len()).then_some(())
    }

    /// A member's name, up to its value.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let (raw, escaped) = self.raw_name()?;
        if escaped {
            return serde_json::from_slice(raw).ok().map(Cow::Owned);
        }
        let name = std::str::from_utf8(raw.get(1..raw.len() - 1)?);
        name.ok().map(Cow::Borrowed)
    }

    /// The same with its quotes, and whether it has escapes.
    fn raw_name(&mut self) -> Option<(&'a [u8], bool)> {
        let start = self.at;
        let escaped = self.string()?;
        let raw = self.json.get(start..self.at)?;
        self.space();
        self.expect(b':')?;
        self.space();
        Some((raw, escaped))
    }

    fn value(&mut self) -> Option<()> {
        match self.here()? {
            b'{' | b'[' => self.nested(),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.here()? {
            b'"' => self.string().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    /// An object or array, however deep: of each open bracket one bit is kept.
    fn nested(&mut self) -> Option<()> {
        let mut open = Brackets::default();
        let mut next = Next::Item;
        loop {
            self.space();
            let byte = self.here()?;
            match (byte, next) {
                (b'}' | b']', Next::ItemOrEnd | Next::CommaOrEnd) => {
                    if open.pop()? != (byte == b'}') {
                        return None;
                    }
                    self.at += 1;
                    if open.is_empty() {
                        return Some(());
                    }
                    next = Next::CommaOrEnd;
                }
                (b',', Next::CommaOrEnd) => {
                    self.at += 1;
                    next = Next::Item;
                }
                (_, Next::CommaOrEnd) => return None,
                _ => {
                    if open.last_is_object() {
                        self.raw_name()?;
                    }
                    next = match self.here()? {
                        bracket @ (b'{' | b'[') => {
                            self.at += 1;
                            open.push(bracket == b'{');
                            Next::ItemOrEnd
                        }
                        _ => {
                            self.scalar()?;
                            Next::CommaOrEnd
                        }
                    };
                }
            }
        }
    }

    /// A string with its quotes; whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.plain()?;
            let quote = self.here()? == b'"';
            if quote {
                self.long_strings.note(start..self.at);
            }
            self.at += 1;
            if quote {
                return Some(escaped);
            }
            escaped = true;
            match self.here()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                b'u' => {
                    let digits = self.json.get(self.at + 1..self.at + 5)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    self.at += 5;
                }
                _ => return None,
            }
        }
    }

    /// What stands in a string before its end or an escape: UTF-8 without control characters.
    fn plain(&mut self) -> Option<()> {
        let start = self.at;
        let mut ascii = true;
        loop {
            let rest = self.rest();
            let piece = rest.get(..PIECE_BYTES).unwrap_or(rest);
            let end = quote_or_backslash(piece);
            let plain = piece.get(..end.unwrap_or(piece.len()))?;
            if !is_printable_ascii(plain) {
                if plain.iter().any(|byte| *byte < b' ') {
                    return None;
                }
                ascii = false;
            }
            self.at += plain.len();
            if end.is_some() {
                break;
            }
            if piece.len() == rest.len() {
                return None;
            }
        }
        (ascii || std::str::from_utf8(self.json.get(start..self.at)?).is_ok()).then_some(())
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest()
            .starts_with(literal)
            .then(|| self.at += literal.len())
    }

    /// `-? (0 | [1-9] [0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Option<()> {
        let _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if self.expect(b'e').or_else(|| self.expect(b'E')).is_some() {
            let _ = self.expect(b'+').or_else(|| self.expect(b'-'));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit());
        let count = digits.count();
        self.at += count;
        (count > 0).then_some(())
    }
}

/// Whether all bytes are ASCII from the space on (with DEL, which JSON takes). The least of all is found in vectors, where
/// the first that is too small would be sought byte by byte; turned over, other bytes than ASCII are small too.
fn is_printable_ascii(bytes: &[u8]) -> bool {
    const OVER: u8 = 0x80;
    let least = bytes
        .iter()
        .fold(u8::MAX, |least, byte| least.min(byte ^ OVER));
    least >= b' ' ^ OVER
}

/// The open brackets, a bit each: whether it is an object's.
#[derive(Default)]
struct Brackets {
    bits: Vec<u64>,
    depth: usize,
}

impl Brackets {
    fn push(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        if let Some(word) = self.bits.get_mut(word) {
            *word = (*word & !(1 << bit)) | (u64::from(is_object) << bit);
        }
        self.depth += 1;
    }

    fn pop(&mut self) -> Option<bool> {
        let is_object = self.last()?;
        self.depth -= 1;
        Some(is_object)
    }

    fn last(&self) -> Option<bool> {
        let at = self.depth.checked_sub(1)?;
        self.bits
            .get(at / 64)
            .map(|word| word >> (at % 64) & 1 == 1)
    }

    fn last_is_object(&self) -> bool {
        self.last() == Some(true)
    }

    fn is_empty(&self) -> bool {
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        let mut seen = Vec::new();
        let all = members(text.as_bytes(), |name, value| {
            let value = std::str::from_utf8(value).unwrap();
            seen.push((name.into_owned(), value.to_owned()));
            Ok::<(), Infallible>(())
        });
        all.is_ok().then_some(seen)
    }

    #[test]
    fn members_come_in_order_with_their_names_unescaped() {
        let seen = read(r#" {"a":1,"mod\u0065l":"x","c":[{"d":2}]} "#).unwrap();
        let expected = [("a", "1"), ("model", "\"x\""), ("c", r#"[{"d":2}]"#)];
        assert_eq!(
            seen,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_is_no_whole_object_is_an_error_that_says_where() {
        for text in [
            "",
            "{",
            "[]",
            "7",
            r#"{"a":1} x"#,
            r#"{"a":1}{}"#,
            "\u{feff}{}",
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":nul}"#,
            r#"{"a":nulll}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[,1]}"#,
            r#"{"a":[1}"#,
            r#"{"a":{"b"}}"#,
            r#"{"a":{"b":1]}"#,
            r#"{"a":{1:1}}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            "{\"a\":\"line\nbreak\"}",
            "{\"a\":\"\u{1}\"}",
            r#"{'a':1}"#,
        ] {
            let stopped = members(text.as_bytes(), |_, _| Ok::<(), Infallible>(()));
            let Err(Stopped::Syntax(error)) = stopped else {
                panic!("{text} was taken");
            };
            assert!(
                error.to_string().contains("line 1") || text.contains('\n'),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn nesting_does_not_use_up_the_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep).unwrap().len(), 1);
        let mixed = format!(
            "{{\"a\":{}1{}}}",
            "[{\"b\":".repeat(50_000),
            "}]".repeat(50_000)
        );
        assert_eq!(read(&mixed).unwrap().len(), 1);
    }

    #[test]
    fn a_long_string_is_as_good_as_its_worst_byte() {
        let object = |text: &[u8]| [b"{\"a\":\"", text, b"\"}"].concat();
        let taken = |text: &[u8]| members(&object(text), |_, _| Ok::<(), Infallible>(())).is_ok();
        for length in [
            0,
            1,
            31,
            PIECE_BYTES - 1,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            3 * PIECE_BYTES,
        ] {
            let text = vec![b'x'; length];
            assert!(taken(&text), "{length}");
            for at in [0, length / 2, length]
                .into_iter()
                .filter(|at| *at <= length)
            {
                // Characters that lie across two pieces too; half of one, a control character, an end too early.
                for (middle, good) in [
                    ("é".as_bytes(), true),
                    ("😀".as_bytes(), true),
                    (b"\\\"", true),
                    (b"\x7f", true),
                    (b"\xc3", false),
                    (b"\xff", false),
                    (b"\x1f", false),
                    (b"\0", false),
                    (b"\"", false),
                ] {
                    let text = [&text[..at], middle, &text[at..]].concat();
                    assert_eq!(taken(&text), good, "{middle:?} at {at} of {length}");
                }
            }
            let open = [b"{\"a\":\"", &*text].concat();
            assert!(members(&open, |_, _| Ok::<(), Infallible>(())).is_err());
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[a\"\\\\é\n]{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_text_is_an_object_exactly_when_serde_json_says_so(
            text in "[\\{\\}\\[\\]\",:01a.eE+ \\\\/untrflsx\u{1}-]{0,24}",
        ) {
            let theirs = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
            prop_assert_eq!(read(&text).is_some(), theirs);
        }

        #[test]
        fn an_object_with_one_byte_changed_is_one_exactly_when_serde_json_says_so(
            value in prop::collection::hash_map("[a\"\\\\é]{0,3}", values(), 0..4),
            pretty in any::<bool>(),
            at in any::<prop::sample::Index>(),
            byte in prop::sample::select(b"{}[]\",:0a \\n1e-.".as_slice()),
        ) {
            let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut changed = json.clone();
            let at = at.index(changed.len());
            changed[at] = byte;
            for bytes in [json, changed] {
                let Ok(text) = std::str::from_utf8(&bytes) else {
                    prop_assert!(members(&bytes, |_, _| Ok::<(), Infallible>(())).is_err());
                    continue;
                };
                // As the request path has it: names are read, values only passed over.
                let theirs = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text);
                prop_assert_eq!(read(text).is_some(), theirs.is_ok(), "{}", text);
                if let Some(members) = read(text) {
                    for (name, value) in members {
                        prop_assert!(serde_json::from_str::<IgnoredAny>(&value).is_ok());
                        prop_assert!(theirs.as_ref().unwrap().contains_key(&name));
                    }
                }
            }
        }
    }
}
