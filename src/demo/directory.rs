//! Where the demo keeps its files.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::DemoError;

/// A directory readable by its owner alone: it holds a token and the ledger.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    is_kept: bool,
}

impl Directory {
    /// The named directory, which must not hold a demo yet, or a temporary one.
    pub(super) fn make(named: Option<&Path>) -> Result<Directory, DemoError> {
        let is_kept = named.is_some();
        let path = match named {
            Some(path) => std::path::absolute(path),
            None => Ok(std::env::temp_dir()
                .join(format!("weir-demo-{:016x}", fastrand::Rng::new().u64(..)))),
        };
        let failed = |error| DemoError::Directory {
            path: named
                .unwrap_or(Path::new("the demo's directory"))
                .to_owned(),
            error,
        };
        let path = path.map_err(failed)?;
        DirBuilder::new()
            .recursive(is_kept)
            .mode(0o700)
            .create(&path)
            .map_err(failed)?;
        let directory = Directory { path, is_kept };
        for name in [CONFIGURATION, "weir.db"] {
            if directory.path.join(name).exists() {
                return Err(failed(io::Error::other(format!(
                    "there is a {name} already: name an empty directory, or look at what is there with `weir serve -c`"
                ))));
            }
        }
        Ok(directory)
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it stays when the demo ends.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The configuration in it.
    pub(super) fn configuration(&self) -> PathBuf {
        self.path.join(CONFIGURATION)
    }

    /// Writes the configuration.
    pub(super) fn write_configuration(&self, text: &str) -> Result<(), DemoError> {
        let write = |path: &Path| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())
        };
        write(&self.configuration()).map_err(|error| DemoError::Directory {
            path: self.configuration(),
            error,
        })
    }
}

/// A temporary directory goes with the demo, however it ends.
impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_kept && self.path.exists() {
            // What cannot be removed is left to the system's own care for its temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

const CONFIGURATION: &str = "weir.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_is_private_and_goes_and_a_named_one_stays() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = Directory::make(None).unwrap();
        let path = temporary.path().to_owned();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        temporary.write_configuration("# here\n").unwrap();
        let error = Directory::make(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("there is a weir.toml already"), "{error}");
        drop(temporary);
        assert!(!path.exists());

        let parent = tempfile::tempdir().unwrap();
        let named = parent.path().join("a/b");
        drop(Directory::make(Some(&named)).unwrap());
        assert!(named.exists());
    }
}
