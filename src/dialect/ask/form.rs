//! A form with parts (RFC 7578), in which images and sound are uploaded: only the model that it names, and how many
//! answers it asks for (`n`), are read.

use memchr::memmem;

use super::found::CHOICES_MAX;
use super::{Ask, AskError, text_model};

/// RFC 2046, 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Reads a form; `None` where the content type says that it is none.
///
/// # Errors
/// When it names its model twice: the upstream might read the other one.
pub fn read(content_type: &str, body: &[u8]) -> Result<Option<Ask>, AskError> {
    let Some(boundary) = boundary(content_type) else {
        return Ok(None);
    };
    let mut ask = Ask {
        is_form: true,
        choices: 1,
        ..Ask::default()
    };
    let mut names_model = false;
    // Once through a body that holds files.
    for (name, value) in parts(body, &boundary) {
        match name.as_slice() {
            b"model" if names_model => return Err(AskError::twice("model")),
            b"model" => {
                names_model = true;
                ask.model = text_model(value).ok();
                let start = value.as_ptr().addr().checked_sub(body.as_ptr().addr());
                let span = start.map(|start| start..start + value.len());
                ask.model_span = span.filter(|_| ask.model.is_some());
            }
            b"n" => {
                let choices = std::str::from_utf8(value).ok();
                let choices = choices.and_then(|text| text.trim().parse().ok());
                ask.choices = ask.choices.max(choices.unwrap_or(1)).min(CHOICES_MAX);
            }
            _ => {}
        }
    }
    Ok(Some(ask))
}

/// What stands between the parts, where a content type is that of a form.
fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters.as_bytes(), b"boundary")?;
    let boundary = String::from_utf8(boundary).ok()?;
    (1..=BOUNDARY_BYTES_MAX)
        .contains(&boundary.len())
        .then_some(boundary)
}

/// The parts of a form with a name: the name and the content.
fn parts<'a>(body: &'a [u8], boundary: &str) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> {
    let delimiter = format!("\r\n--{boundary}");
    let first = delimiter.trim_start().as_bytes();
    let mut rest = body.strip_prefix(first).or_else(|| {
        let at = memmem::find(body, delimiter.as_bytes())?;
        body.get(at + delimiter.len()..)
    });
    std::iter::from_fn(move || {
        // What follows the last delimiter is no part.
        let part = rest.take().filter(|rest| !rest.starts_with(b"--"))?;
        let end = memmem::find(part, delimiter.as_bytes())?;
        rest = part.get(end + delimiter.len()..);
        part.get(..end)
    })
    .filter_map(|part| {
        let at = memmem::find(part, b"\r\n\r\n")?;
        let (head, content) = (part.get(..at)?, part.get(at + 4..)?);
        Some((name(head)?, content))
    })
}

/// The name of a part, out of its head.
fn name(head: &[u8]) -> Option<Vec<u8>> {
    const FIELD: &[u8] = b"content-disposition:";
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let field = line.get(..FIELD.len())?;
        let value = line.get(FIELD.len()..)?;
        field
            .eq_ignore_ascii_case(FIELD)
            .then(|| parameter(value, b"name"))?
    })
}

/// The value of a parameter (RFC 9110, 5.6.6) in a list of them, whether or not it is quoted.
fn parameter(list: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let (mut name, mut value) = (Vec::new(), None::<Vec<u8>>);
    let (mut quoted, mut escaped) = (false, false);
    for byte in list.iter().copied().chain(*b";") {
        match (byte, &mut value) {
            _ if escaped => {
                escaped = false;
                value.get_or_insert_default().push(byte);
            }
            (b'\\', Some(_)) if quoted => escaped = true,
            (b'"', Some(_)) => quoted = !quoted,
            (b';', _) if !quoted => {
                if name.trim_ascii().eq_ignore_ascii_case(wanted) {
                    return value.map(|value| value.trim_ascii().to_vec());
                }
                (name, value) = (Vec::new(), None);
            }
            (b'=', None) => value = Some(Vec::new()),
            (byte, Some(value)) => value.push(byte),
            (byte, None) => name.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"b-1\"";

    fn model(parts: &[(&str, &str)]) -> Result<Option<String>, AskError> {
        let mut body = String::new();
        for (head, content) in parts {
            body.push_str(&format!("--b-1\r\n{head}\r\n\r\n{content}\r\n"));
        }
        body.push_str("--b-1--\r\n");
        let ask = read(TYPE, body.as_bytes())?.unwrap();
        Ok(ask.model.map(|model| model.as_str().to_owned()))
    }

    #[test]
    fn the_model_is_found_where_it_stands_and_how_many_answers_are_asked_for() {
        let body = "--b-1\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n3\r\n\
            --b-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\npainter\r\n--b-1--\r\n";
        let ask = read(TYPE, body.as_bytes()).unwrap().unwrap();
        assert_eq!((ask.choices, ask.is_form), (3, true));
        assert_eq!(&body[ask.model_span.unwrap()], "painter");
    }

    #[test]
    fn the_model_is_the_part_of_that_name() {
        let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a; name=\\\"model\\\"\"\r\nContent-Type: audio/wav";
        for head in [
            "Content-Disposition: form-data; name=\"model\"",
            "content-type: text/plain\r\ncontent-disposition: form-data; NAME=model",
        ] {
            let parts = [(file, "RIFF\r\n\r\n--b"), (head, "whisper-1")];
            assert_eq!(model(&parts), Ok(Some("whisper-1".to_owned())), "{head}");
        }
        assert_eq!(model(&[(file, "gpt-4o")]), Ok(None));
    }

    #[test]
    fn a_model_named_twice_is_refused() {
        let head = "Content-Disposition: form-data; name=\"model\"";
        let error = model(&[(head, "a"), (head, "a")]).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("model"));
    }

    #[test]
    fn other_content_types_are_no_forms() {
        for content_type in [
            "application/json",
            "multipart/mixed; boundary=x",
            "multipart/form-data",
            "multipart/form-data; boundary=",
        ] {
            assert_eq!(read(content_type, b"--x"), Ok(None), "{content_type}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_other_parts_does_not_matter(content in ".*", filename in "[^\"\\\\\r\n]*") {
            prop_assume!(!content.contains("--b-1"));
            let head = "Content-Disposition: form-data; name=\"model\"";
            let file = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{filename}\"");
            prop_assert_eq!(model(&[(&file, &content), (head, "m"), (&file, &content)]), Ok(Some("m".to_owned())));
        }

        #[test]
        fn no_bytes_make_it_panic(content_type in ".*", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&content_type, &body);
            let _ = read(TYPE, &body);
        }
    }
}
