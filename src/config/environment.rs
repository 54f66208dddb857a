//! What a configuration reads beside its own text: environment variables and files.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Where variables and files come from: the process, or a fixed set in tests and fuzzing.
pub trait Environment {
    /// The value of an environment variable; `None` when it is unset or not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// The contents of a file of at most [`FILE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// When the file cannot be read or is larger.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The largest file that is read: a price table of a hundred thousand rows fits, a device that never ends does not.
pub const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The process's own environment and the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        // An empty name or one with `=` or NUL makes `std::env::var` panic on some platforms.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::other("is a directory"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("is larger than 32 MiB"));
        }
        Ok(bytes)
    }
}

/// A fixed set of variables and files.
#[derive(Clone, Debug, Default)]
pub struct FixedEnvironment {
    /// Variables by name.
    pub variables: BTreeMap<String, String>,
    /// File contents by path.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl FixedEnvironment {
    /// The same with one more variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with one more file.
    #[must_use]
    pub fn with_file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), contents.into());
        self
    }
}

impl Environment for FixedEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}
