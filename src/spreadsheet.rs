//! Lines of comma-separated values that a spreadsheet may open.

use std::io;

/// Writes lines; every CSV that Weir gives out is written here.
///
/// Spreadsheets run a cell that begins like a formula, quoted or not, and clients choose names that stand in cells: models,
/// end users, tags. Such a text gets a single quote before it (OWASP, "CSV Injection", seen 2026-11), by which spreadsheets
/// know a text. Numbers stay as they are, negative ones too.
#[derive(Debug)]
pub(crate) struct Sheet<W: io::Write>(csv::Writer<W>);

impl<W: io::Write> Sheet<W> {
    pub(crate) fn new(out: W) -> Sheet<W> {
        Sheet(csv::Writer::from_writer(out))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Those of what is written to, and a line that is not as long as the first.
    pub(crate) fn line<C: AsRef<str>>(
        &mut self,
        cells: impl IntoIterator<Item = C>,
    ) -> io::Result<()> {
        for cell in cells {
            let cell = cell.as_ref();
            let written = match is_formula(cell) {
                true => self.0.write_field(format!("'{cell}")),
                false => self.0.write_field(cell),
            };
            written.map_err(io_error)?;
        }
        self.0.write_record(None::<&[u8]>).map_err(io_error)
    }

    /// Sees to it that all of it is written.
    ///
    /// # Errors
    /// Those of what is written to.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sheet<Vec<u8>> {
    /// The text of a sheet in memory.
    pub(crate) fn into_text(self) -> String {
        let bytes = self.0.into_inner().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Whether a spreadsheet would take a text for a formula. East Asian ones know the signs in full width, too.
fn is_formula(cell: &str) -> bool {
    match cell.chars().next() {
        Some('=' | '+' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => true,
        Some('-') => !is_negative_number(cell),
        _ => false,
    }
}

/// As Weir writes them: digits, and a decimal point among them.
fn is_negative_number(cell: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    cell.strip_prefix('-').is_some_and(|number| {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        is_digits(whole) && is_digits(fraction)
    })
}

/// csv's own conversion forgets which error it was (a broken pipe is no failure).
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of one line, as they are read again.
    fn written(cells: &[&str]) -> Vec<String> {
        let mut sheet = Sheet::new(Vec::new());
        sheet.line(cells).unwrap();
        let text = sheet.into_text();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(text.as_bytes());
        let line = reader.records().next().unwrap().unwrap();
        line.iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_text_that_begins_like_a_formula_is_marked_as_a_text() {
        for text in [
            "=HYPERLINK(\"http://x\",\"y\")",
            "=1+2\";=1+2",
            "+1",
            "@SUM(A1)",
            "-1+cmd|' /C calc'!A0",
            "--1",
            "-",
            "-1.",
            "-.5",
            "-inf",
            "\t=1",
            "\r=1",
            "\n=1",
            "＝1",
        ] {
            assert_eq!(written(&[text, "x"]), [format!("'{text}"), "x".into()]);
        }
    }

    #[test]
    fn numbers_and_other_texts_stay_as_they_are() {
        for text in [
            "-849.1572131",
            "-7",
            "0.00",
            "",
            "gpt-4o",
            "{\"a\":\"=1\"}",
            "a=b",
            " =1",
            "'quoted'",
            "x\ny",
        ] {
            assert_eq!(written(&[text, "x"]), [text, "x"]);
        }
    }
}
