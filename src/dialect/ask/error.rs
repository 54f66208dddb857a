//! Why a request body is refused, in words for the client.

use std::fmt;

use super::short;

/// Why a body is refused: a text that the client may read, and the member at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AskError {
    /// What is wrong and where, in words for the client.
    pub message: String,
    /// The member at fault, for the error body's `param`.
    pub param: Option<String>,
}

impl AskError {
    pub(super) fn body(message: String) -> Self {
        Self {
            message,
            param: None,
        }
    }

    pub(super) fn member(name: &str, message: String) -> Self {
        Self {
            message,
            param: Some(name.to_owned()),
        }
    }

    pub(super) fn twice(name: &str) -> Self {
        let name = shown(name);
        Self::member(&name, format!("`{name}` is given twice"))
    }
}

/// A place in the body, in words.
pub(super) struct Place {
    line: usize,
    column: usize,
    byte: usize,
}

impl Place {
    pub(super) fn of(body: &[u8], byte: usize) -> Self {
        let before = body.get(..byte).unwrap_or(body);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: before.len() - line_start + 1,
            byte,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, byte } = self;
        write!(f, "at line {line} column {column} (byte {byte})")
    }
}

/// What a client wrote, cut so that it can stand in a message.
pub(super) fn shown(text: &str) -> String {
    short(text, 64).map_or_else(|| "\"\"".to_owned(), String::from)
}
