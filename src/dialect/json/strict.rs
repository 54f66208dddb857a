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
mod tests;
