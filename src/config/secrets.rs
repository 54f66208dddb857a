//! Secrets and files that the configuration names.

use std::path::PathBuf;

use super::names::quoted;
use super::value::Value;
use crate::secret::Secret;

const EXPECTED: &str = "{ env = \"NAME\" }, { file = \"PATH\" } or a string";

impl Value<'_> {
    /// A secret: `{ env = "NAME" }`, `{ file = "PATH" }` or a plain string. Mistakes never show it.
    pub(super) fn secret(&self) -> Option<Secret> {
        let secret = match self.as_text() {
            Some(text) => text.to_owned(),
            None if self.is_table() => self.secret_elsewhere()?,
            None => return self.wrong_type(EXPECTED),
        };
        if secret.is_empty() {
            self.refuse("is empty, expected a secret");
            return None;
        }
        Some(Secret::new(secret))
    }

    /// A secret that is sent in a header.
    pub(super) fn header_secret(&self) -> Option<Secret> {
        let secret = self.secret()?;
        if secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(secret);
        }
        self.refuse("has a space or another character that cannot be sent in a header, expected visible ASCII characters");
        None
    }

    fn secret_elsewhere(&self) -> Option<String> {
        let table = self.table(EXPECTED)?;
        match (table.get("env"), table.get("file")) {
            (Some(name), None) => {
                let text = name.text("the name of an environment variable")?;
                let found = name.document().environment().variable(text);
                if found.is_none() {
                    name.refuse(format!(
                        "the environment variable {} is not set, expected a secret in it",
                        quoted(text)
                    ));
                }
                found
            }
            (None, Some(path)) => {
                let (_, bytes) = path.file()?;
                match String::from_utf8(bytes) {
                    // Editors and `echo` end files with a newline that is no part of the secret.
                    Ok(text) => Some(text.trim_end_matches(['\n', '\r']).to_owned()),
                    Err(_) => {
                        path.refuse("the file is not UTF-8 text, expected a secret in it");
                        None
                    }
                }
            }
            _ => {
                self.refuse(format!(
                    "has not exactly one of \"env\" and \"file\", expected {EXPECTED}"
                ));
                None
            }
        }
    }

    /// A file that must be readable: its path, resolved, and its contents. It belongs to the configuration from now on.
    pub(super) fn file(&self) -> Option<(PathBuf, Vec<u8>)> {
        let text = self.text("the path of a file")?;
        let path = self.document().resolve(text);
        self.document().add_file(path.clone());
        match self.document().environment().read(&path) {
            Ok(bytes) => Some((path, bytes)),
            Err(error) => {
                self.refuse(format!(
                    "the file {} cannot be read: {error}, expected a readable file",
                    quoted(&path.to_string_lossy())
                ));
                None
            }
        }
    }

    /// A readable PEM file that holds a section of that label (`CERTIFICATE`, `PRIVATE KEY`).
    pub(super) fn pem_file(&self, label: &str) -> Option<PathBuf> {
        let (path, bytes) = self.file()?;
        let marker = format!("{label}-----");
        if memchr::memmem::find(&bytes, marker.as_bytes()).is_some() {
            return Some(path);
        }
        self.refuse(format!(
            "the file {} has no {label} section, expected a PEM file",
            quoted(&path.to_string_lossy())
        ));
        None
    }
}
