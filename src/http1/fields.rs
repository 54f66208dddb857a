//! Header fields, and what they say about the body and the connection.

use bytes::Bytes;
use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};

/// How many headers a head may have.
pub const HEADERS_MAX: usize = 100;

/// Headers that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A header that HTTP has no room for.
    #[error("a header is not valid")]
    Header,
    /// They say in two ways, or in none that is known, where the body ends.
    #[error("the headers do not say clearly where the body ends")]
    Framing,
}

/// Where a body ends, as its headers state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stated {
    /// They state nothing.
    Nothing,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunks {
        /// Whether nothing else is stated beside it, nor the same twice: who does that may read connections otherwise.
        alone: bool,
    },
}

/// Headers whose values are slices of the block that they were read from, in a map with room for so many more.
///
/// # Errors
/// [`FieldError::Header`].
pub(crate) fn headers(
    block: &Bytes,
    fields: &[httparse::Header<'_>],
    more: usize,
) -> Result<HeaderMap, FieldError> {
    let mut headers = HeaderMap::with_capacity(fields.len() + more);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| FieldError::Header)?;
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value))
            .map_err(|_| FieldError::Header)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Where the body ends.
///
/// # Errors
/// [`FieldError::Framing`].
pub(crate) fn stated(headers: &HeaderMap) -> Result<Stated, FieldError> {
    let length = content_length(headers)?;
    let codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (mut count, mut chunked) = (0, true);
    for coding in codings {
        count += 1;
        chunked &= coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    }
    match (count, length) {
        (0, None) => Ok(Stated::Nothing),
        (0, Some(length)) => Ok(Stated::Length(length)),
        // A coding beside chunks would have to be undone, and nobody asked for one.
        _ if !chunked => Err(FieldError::Framing),
        _ => Ok(Stated::Chunks {
            alone: count == 1 && length.is_none(),
        }),
    }
}

/// The stated length: several times only if it is the same each time.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, FieldError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let stated: u64 = std::str::from_utf8(text)
                .ok()
                .filter(|_| digits)
                .and_then(|text| text.parse().ok())
                .ok_or(FieldError::Framing)?;
            if length.is_some_and(|length| length != stated) {
                return Err(FieldError::Framing);
            }
            length = Some(stated);
        }
    }
    Ok(length)
}

/// Whether the sender keeps the connection open (RFC 9112, 9.3).
pub(crate) fn persists(version: Version, headers: &HeaderMap) -> bool {
    let says = |option| says(headers, &CONNECTION, option);
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

/// Whether a header that lists words has this one among them.
pub(crate) fn says(headers: &HeaderMap, header: &HeaderName, word: &[u8]) -> bool {
    let values = headers.get_all(header).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|said| said.trim_ascii().eq_ignore_ascii_case(word))
}
