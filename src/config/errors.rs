//! What is wrong with a configuration: every mistake with its place.

use std::fmt;
use std::sync::Arc;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Where in the file; `None` when the file itself is at fault.
    pub position: Option<Position>,
    /// The dotted path of the key (`plans[0].limits[1].max`); empty for what is no TOML.
    pub key: String,
    /// What is wrong and what was expected. Never a secret.
    pub message: String,
}

/// A place in a text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// `FILE:LINE:COLUMN: key: what is wrong, what was expected`
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every mistake of a configuration, file by file in the order of their lines; at least one.
///
/// Prints one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The mistakes, at most [`ConfigErrors::MAX`].
    pub errors: Vec<ConfigError>,
    /// How many more there were.
    pub omitted: usize,
}

impl ConfigErrors {
    /// More mistakes than this are counted, not kept: a megabyte of garbage must not become a gigabyte of complaints.
    pub const MAX: usize = 200;

    /// A single mistake: a file that cannot be used at all.
    pub(super) fn of_file(file: &str, message: String) -> ConfigErrors {
        ConfigErrors {
            errors: vec![ConfigError {
                file: file.into(),
                position: None,
                key: String::new(),
                message,
            }],
            omitted: 0,
        }
    }

    /// Adds the mistakes of another file.
    pub(super) fn extend(&mut self, other: ConfigErrors) {
        self.omitted += other.omitted;
        for error in other.errors {
            if self.errors.len() < Self::MAX {
                self.errors.push(error);
            } else {
                self.omitted += 1;
            }
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
