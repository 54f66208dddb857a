//! Walks a TOML tree and gathers what is wrong with it.
//!
//! serde stops at the first mistake and, with flattened or untagged types, loses its line. So the tree is walked by hand:
//! a [`Table`] is asked for its keys, notes each mistake in its [`Document`] and goes on. When it is dropped it
//! complains about every key that nobody asked for, so that no reader can forget to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::errors::{ConfigError, ConfigErrors, Position};
use super::names::{listed, nearest};
use super::value::Value;

/// One file while it is read: its text, its mistakes, and the surroundings that it refers to.
pub(super) struct Document<'d> {
    name: &'d str,
    text: &'d str,
    environment: &'d dyn Environment,
    line_starts: Vec<usize>,
    /// Lines that are no TOML: what recovery made of them is not worth a complaint of its own.
    damaged_lines: BTreeSet<usize>,
    mistakes: RefCell<Vec<Mistake>>,
    omitted: Cell<usize>,
    files: RefCell<Vec<PathBuf>>,
}

struct Mistake {
    at: usize,
    key: String,
    message: String,
}

/// Mistakes kept while reading; they are sorted by line before the first [`ConfigErrors::MAX`] are shown.
const MISTAKES_KEPT: usize = 2_000;

impl<'d> Document<'d> {
    /// A file's text and its tree. Syntax errors are the document's first mistakes.
    pub(super) fn parse(
        name: &'d str,
        text: &'d str,
        environment: &'d dyn Environment,
    ) -> (Document<'d>, Spanned<DeTable<'d>>) {
        let newlines = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        let mut document = Document {
            name,
            text,
            environment,
            line_starts: std::iter::once(0).chain(newlines).collect(),
            damaged_lines: BTreeSet::new(),
            mistakes: RefCell::default(),
            omitted: Cell::new(0),
            files: RefCell::default(),
        };
        let (tree, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            document.add_syntax_error(error, tree.get_ref());
        }
        (document, tree)
    }

    /// The parser goes on behind an error and often trips again on the same line: one mistake a line is enough.
    fn add_syntax_error(&mut self, error: &toml::de::Error, tree: &DeTable<'_>) {
        let span = error.span().unwrap_or(0..0);
        if !self.damaged_lines.insert(self.line_of(span.start)) || !self.has_room() {
            return;
        }
        let (key, message) = match error.message() {
            "duplicate key" => (
                path_of_first(tree, self.text.get(span.clone()), span.start),
                "is given twice, expected once".to_owned(),
            ),
            message => {
                let message = message.replace(['\n', '\r'], " ");
                (String::new(), format!("not valid TOML: {message}"))
            }
        };
        self.push(span.start, key, message);
    }

    /// Notes a mistake.
    pub(super) fn refuse(&self, at: usize, key: &str, message: impl Into<String>) {
        if !self.damaged_lines.contains(&self.line_of(at)) {
            self.push(at, key.to_owned(), message.into());
        }
    }

    /// Notes that something is not there: a key, or what a name refers to. In a file that is no TOML it may well be there,
    /// in what could not be read.
    pub(super) fn refuse_absent(&self, at: usize, key: &str, message: impl Into<String>) {
        if self.damaged_lines.is_empty() {
            self.push(at, key.to_owned(), message.into());
        }
    }

    fn push(&self, at: usize, key: String, message: String) {
        if self.has_room() {
            self.mistakes
                .borrow_mut()
                .push(Mistake { at, key, message });
        }
    }

    /// Whether a further mistake would be kept; else it is counted.
    fn has_room(&self) -> bool {
        let room = self.mistakes.borrow().len() < MISTAKES_KEPT;
        if !room {
            self.omitted.set(self.omitted.get() + 1);
        }
        room
    }

    /// The surroundings.
    pub(super) fn environment(&self) -> &'d dyn Environment {
        self.environment
    }

    /// A path as the file means it: relative to the file's own directory.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match Path::new(self.name).parent() {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        }
    }

    /// Remembers that a file belongs to the configuration.
    pub(super) fn add_file(&self, path: PathBuf) {
        self.files.borrow_mut().push(path);
    }

    /// Line and column of a byte offset.
    pub(super) fn position(&self, at: usize) -> Position {
        let line = self.line_of(at);
        let start = self.line_starts.get(line).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or("");
        Position {
            line: line + 1,
            column: before.trim_start_matches('\u{feff}').chars().count() + 1,
        }
    }

    fn line_of(&self, at: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start <= at)
            .saturating_sub(1)
    }

    /// The files that belong to the configuration, or what is wrong.
    pub(super) fn finish(self) -> Result<Vec<PathBuf>, ConfigErrors> {
        let mut mistakes = self.mistakes.take();
        if mistakes.is_empty() {
            return Ok(self.files.take());
        }
        mistakes.sort_by_key(|mistake| mistake.at);
        let found = mistakes.len() + self.omitted.get();
        let file: std::sync::Arc<str> = self.name.into();
        let errors: Vec<ConfigError> = mistakes
            .into_iter()
            .take(ConfigErrors::MAX)
            .map(|mistake| ConfigError {
                file: std::sync::Arc::clone(&file),
                position: Some(self.position(mistake.at)),
                key: mistake.key,
                message: mistake.message,
            })
            .collect();
        Err(ConfigErrors {
            omitted: found - errors.len(),
            errors,
        })
    }
}

/// A table that is being read.
pub(super) struct Table<'d> {
    document: &'d Document<'d>,
    path: String,
    /// Where its header stands: the place of what is missing.
    at: usize,
    entries: &'d DeTable<'d>,
    known: RefCell<Vec<&'static str>>,
    /// Whether every key is allowed: names that the user gives (`tags`, `rename`).
    free: Cell<bool>,
}

impl<'d> Table<'d> {
    /// The whole document.
    pub(super) fn root(document: &'d Document<'d>, tree: &'d Spanned<DeTable<'d>>) -> Table<'d> {
        Table::new(document, String::new(), 0, tree.get_ref())
    }

    pub(super) fn new(
        document: &'d Document<'d>,
        path: String,
        at: usize,
        entries: &'d DeTable<'d>,
    ) -> Table<'d> {
        Table {
            document,
            path,
            at,
            entries,
            known: RefCell::default(),
            free: Cell::new(false),
        }
    }

    /// The value of a key, if it is there. From now on the key is known.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'d>> {
        self.known.borrow_mut().push(key);
        let value = self.entries.get(key)?;
        Some(Value::new(
            self.document,
            self.path_of(key),
            value.span().start,
            value.get_ref(),
        ))
    }

    /// The value of a key that must be there. `expected` says what it would be.
    pub(super) fn need(&self, key: &'static str, expected: &str) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            self.refuse_absent(key, format!("is missing, expected {expected}"));
        }
        value
    }

    /// A key's value as `read` understands it, or the default: also after a mistake, which has been noted.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'d>) -> Option<T>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// A key's value as `read` understands it, if it is there.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'d>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(|value| read(&value))
    }

    /// The elements of an array, each as `read` understands it; what it does not understand is left out.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        expected: &str,
        read: impl FnMut(&Value<'d>) -> Option<T>,
    ) -> Vec<T> {
        self.optional(key, |value| value.items(expected))
            .unwrap_or_default()
            .iter()
            .filter_map(read)
            .collect()
    }

    /// The tables of an array of tables (`[[key]]`).
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'d>> {
        let expected = if self.path.is_empty() {
            format!("tables, each under a header [[{key}]]")
        } else {
            "an array of tables".to_owned()
        };
        self.list(key, &expected, |value| value.table(&expected))
    }

    /// A table that may be absent; then it is empty, so that its readers have one way to go.
    pub(super) fn section(&self, key: &'static str) -> Table<'d> {
        self.optional(key, |value| {
            value.table(&format!("a table under a header [{key}]"))
        })
        .unwrap_or_else(|| Table::empty(self.document, self.path_of(key), self.at))
    }

    fn empty(document: &'d Document<'d>, path: String, at: usize) -> Table<'d> {
        static NOTHING: std::sync::LazyLock<DeTable<'static>> =
            std::sync::LazyLock::new(DeTable::new);
        Table::new(document, path, at, &NOTHING)
    }

    /// All entries, for tables whose keys are the user's own names: the key's own place, the key, the value.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (Value<'d>, &'d str, Value<'d>)> + use<'d> {
        self.free.set(true);
        let (document, path) = (self.document, self.path.clone());
        self.entries.iter().map(move |(key, value)| {
            let path = join(&path, key.get_ref());
            let name = Value::new(document, path.clone(), key.span().start, value.get_ref());
            let entry = Value::new(document, path, value.span().start, value.get_ref());
            let key: &'d str = key.get_ref();
            (name, key, entry)
        })
    }

    /// Notes a mistake that concerns the whole table.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.document.refuse(self.at, &self.path, message);
    }

    /// Notes that a key is not there.
    pub(super) fn refuse_absent(&self, key: &str, message: impl Into<String>) {
        self.document
            .refuse_absent(self.at, &self.path_of(key), message);
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// Unknown keys are mistakes.
impl Drop for Table<'_> {
    fn drop(&mut self) {
        if self.free.get() {
            return;
        }
        let known = self.known.borrow();
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            // Whether there is room is asked first: finding the key that was meant takes time.
            if known.contains(&name) || !self.document.has_room() {
                continue;
            }
            let hint = match nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("expected {}", listed(known.iter().copied())),
            };
            self.document.refuse(
                key.span().start,
                &self.path_of(name),
                format!("is not a known key, {hint}"),
            );
        }
    }
}

/// The dotted path of a key that is given twice: of the last place up to `at` where it stands.
fn path_of_first(tree: &DeTable<'_>, key: Option<&str>, at: usize) -> String {
    let Some(key) = key else {
        return String::new();
    };
    let mut found = (0, join("", key));
    let mut tables = vec![(String::new(), tree)];
    while let Some((path, table)) = tables.pop() {
        for (name, value) in table {
            let path = join(&path, name.get_ref());
            let start = name.span().start;
            if name.get_ref() == key && (found.0..=at).contains(&start) {
                found = (start, path.clone());
            }
            match value.get_ref() {
                DeValue::Table(table) => tables.push((path, table)),
                DeValue::Array(items) => {
                    tables.extend(items.iter().enumerate().filter_map(|(index, item)| {
                        Some((format!("{path}[{index}]"), item.get_ref().as_table()?))
                    }));
                }
                _ => {}
            }
        }
    }
    found.1
}

/// A dotted path with one more key; keys that are not bare are quoted as TOML would, and cut.
fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key.len() <= 64
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if bare {
        key.to_owned()
    } else {
        super::names::quoted(key)
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// The word for a value's type.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
