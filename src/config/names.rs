//! Names: which are taken, which exist, and which one was probably meant.

use std::collections::HashMap;

use super::value::Value;

/// The names of one kind of thing in a file, each with the place where it was given.
pub(super) struct Names {
    kind: &'static str,
    section: &'static str,
    lines: HashMap<String, usize>,
}

impl Names {
    /// No names yet; `kind` is the word for one ("plan"), `section` where it is given ("[[plans]]").
    pub(super) fn of(kind: &'static str, section: &'static str) -> Names {
        Names {
            kind,
            section,
            lines: HashMap::new(),
        }
    }

    /// Names that are known from elsewhere.
    pub(super) fn known<'n>(
        kind: &'static str,
        section: &'static str,
        names: impl Iterator<Item = &'n str>,
    ) -> Names {
        Names {
            lines: names.map(|name| (name.to_owned(), 0)).collect(),
            ..Names::of(kind, section)
        }
    }

    /// Takes a name; a second time is a mistake. Returns whether it was free.
    pub(super) fn declare(&mut self, value: &Value<'_>, name: &str) -> bool {
        let line = value.line();
        match self.lines.get(name) {
            Some(first) => {
                value.refuse(format!(
                    "is {} like another {} (line {first}), expected a name of its own",
                    quoted(name),
                    self.kind
                ));
                false
            }
            None => {
                self.lines.insert(name.to_owned(), line);
                true
            }
        }
    }

    /// Checks that a name exists.
    pub(super) fn refer(&self, value: &Value<'_>, name: &str) -> bool {
        if self.lines.contains_key(name) {
            return true;
        }
        let hint = match nearest(name, self.lines.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("expected one under {}", self.section),
        };
        value.refuse_absent(format!(
            "there is no {} {}, {hint}",
            self.kind,
            quoted(name)
        ));
        false
    }
}

/// The name that was probably meant: the one with the fewest slips, if they are few for its length.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let written = name.to_ascii_lowercase();
    if written.len() > COMPARED_BYTES_MAX {
        return None;
    }
    known
        .filter(|candidate| candidate.len().abs_diff(written.len()) <= 3)
        .map(|candidate| (slips(&written, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(slips, candidate)| *slips <= (candidate.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`
pub(super) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    names.sort();
    names.dedup();
    match names.split_last() {
        None => "nothing here".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// A bad value as it is shown: quoted, control characters escaped, cut to a length that a terminal holds.
pub(super) fn quoted(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut two_up: Vec<usize> = Vec::new();
    let mut up: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let replaced = cell(&up, j) + usize::from(x != y);
            let mut least = replaced.min(cell(&up, j + 1) + 1).min(cell(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(cell(&two_up, j - 1) + 1);
            }
            row.push(least);
        }
        two_up = std::mem::replace(&mut up, row);
    }
    up.last().copied().unwrap_or(a.len())
}

/// Longer names are not compared: the comparison is quadratic.
const COMPARED_BYTES_MAX: usize = 64;
const SHOWN_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted_once_each() {
        for (a, b, count) in [
            ("", "", 0),
            ("plan", "plan", 0),
            ("lisen", "listen", 1),
            ("lsiten", "listen", 1),
            ("mont", "month", 1),
            ("abc", "", 3),
        ] {
            assert_eq!(slips(a, b), count, "{a} {b}");
        }
    }

    #[test]
    fn a_name_is_suggested_only_when_few_slips_explain_it() {
        let known = ["listen", "tls", "token"];
        assert_eq!(nearest("lisen", known.into_iter()), Some("listen"));
        assert_eq!(nearest("TLS", known.into_iter()), Some("tls"));
        assert_eq!(nearest("certificate", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(100_000), known.into_iter()), None);
    }
}
