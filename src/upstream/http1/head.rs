//! The heads of requests as they are sent, and of answers as they are read (RFC 9112).

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use crate::http1::fields::{self, FieldError, HEADERS_MAX, Stated};
use crate::http1::framing::Framing;

/// How many headers the gateway adds to an answer: a map that grows on the way is built twice.
const OWN_HEADERS: usize = 7;
/// The longest head that is read.
pub const HEAD_BYTES_MAX: usize = 128 * 1024;

/// The head of a request whose body has so many bytes.
pub fn write(method: &Method, path: &PathAndQuery, headers: &HeaderMap, body_len: u64) -> Bytes {
    let fields: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let mut head = BytesMut::with_capacity(fields + path.as_str().len() + 64);
    head.put_slice(method.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(path.as_str().as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    // A request without a body says so where one would be expected (RFC 9110, 8.6).
    if body_len > 0 || matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        head.put_slice(b"content-length: ");
        head.put_slice(itoa::Buffer::new().format(body_len).as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
    head.freeze()
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status and headers.
    pub response: Response<()>,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the connection may be used again after it.
    pub reusable: bool,
    /// How many bytes it takes.
    pub length: usize,
}

/// A head that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP.
    #[error("the head of the answer is not valid: {0}")]
    Syntax(#[from] httparse::Error),
    /// It does not end.
    #[error("the head of the answer is longer than {HEAD_BYTES_MAX} bytes")]
    Length,
    /// Its headers cannot be used.
    #[error("the head of the answer: {0}")]
    Fields(#[from] FieldError),
}

/// Reads the head at the start of what has come so far, to a request with that method. `None` when it is not all there.
///
/// # Errors
/// See [`HeadError`].
pub fn read(input: &Bytes, method: &Method) -> Result<Option<Head>, HeadError> {
    let mut places = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        input,
        &mut places,
    )?;
    let httparse::Status::Complete(length) = status else {
        return if input.len() < HEAD_BYTES_MAX {
            Ok(None)
        } else {
            Err(HeadError::Length)
        };
    };
    let status = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(httparse::Error::Status)?;
    let headers = fields::headers(input, parsed.headers, OWN_HEADERS)?;
    let version = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let (framing, clear) = framing(status, &headers, method)?;
    // HTTP/1.0 knows no codings (RFC 9112, 6.1): who sends one all the same may read the connection otherwise.
    let clear = clear && (version == Version::HTTP_11 || !headers.contains_key(TRANSFER_ENCODING));
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    let reusable = clear
        && status != StatusCode::SWITCHING_PROTOCOLS
        && !matches!(framing, Framing::UntilClose)
        && fields::persists(version, &headers);
    *response.headers_mut() = headers;
    let reason = parsed.reason.unwrap_or_default();
    if !reason.is_empty()
        && status.canonical_reason() != Some(reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    Ok(Some(Head {
        response,
        framing,
        reusable,
        length,
    }))
}

/// Where the body ends, and whether only one thing says so.
fn framing(
    status: StatusCode,
    headers: &HeaderMap,
    method: &Method,
) -> Result<(Framing, bool), HeadError> {
    if *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok((Framing::Length(0), true));
    }
    Ok(match fields::stated(headers)? {
        Stated::Nothing => (Framing::UntilClose, true),
        Stated::Length(length) => (Framing::Length(length), true),
        Stated::Chunks { alone } => (Framing::chunked(), alone),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderValue;

    fn head(text: &str) -> Result<Head, HeadError> {
        let head = read(&Bytes::copy_from_slice(text.as_bytes()), &Method::POST)?;
        Ok(head.expect("the head is whole"))
    }

    #[test]
    fn a_request_is_written_as_rfc_9112_has_it() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("api.example.com"));
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let path = PathAndQuery::from_static("/v1/chat/completions?a=b");
        let post = write(&Method::POST, &path, &headers, 12);
        assert_eq!(
            post,
            "POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: api.example.com\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 12\r\n\r\n"
        );
        let none = HeaderMap::new();
        let path = PathAndQuery::from_static("/");
        assert_eq!(
            write(&Method::GET, &path, &none, 0),
            "GET / HTTP/1.1\r\n\r\n"
        );
        assert_eq!(
            write(&Method::POST, &path, &none, 0),
            "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_head_is_read_when_it_is_all_there() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
        let end = text.len() - 2;
        for length in 0..end {
            let part = Bytes::copy_from_slice(&text.as_bytes()[..length]);
            assert!(read(&part, &Method::POST).unwrap().is_none(), "{length}");
        }
        let head = head(text).unwrap();
        assert_eq!(head.length, end);
        assert_eq!(head.response.status(), 200);
        assert_eq!(head.response.headers()["content-type"], "text/plain");
        assert!(matches!(head.framing, Framing::Length(2)));
        assert!(head.reusable);
    }

    #[test]
    fn a_reason_of_its_own_is_kept() {
        let own = head("HTTP/1.1 529 Site Is Overloaded\r\nContent-Length: 0\r\n\r\n").unwrap();
        let reason = own.response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Site Is Overloaded");
        let usual = head("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(usual.response.extensions().is_empty());
    }

    #[test]
    fn a_connection_is_used_again_only_where_both_ends_agree() {
        let reusable = |text: &str| head(text).unwrap().reusable;
        assert!(reusable("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!reusable(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n"
        ));
        assert!(!reusable("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(reusable(
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        ));
        assert!(!reusable("HTTP/1.1 200 OK\r\n\r\n"), "until it is closed");
        assert!(!reusable("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
        assert!(!reusable(
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, close\r\n\r\n"
        ));
        assert!(!reusable(
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
        ));
        assert!(!reusable(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(
            !reusable("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "two ends"
        );
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for status in ["204 No Content", "304 Not Modified", "103 Early Hints"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
            assert!(head(&text).unwrap().framing.is_end(), "{status}");
        }
        let text = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let head = read(&text, &Method::HEAD).unwrap().unwrap();
        assert!(head.framing.is_end());
    }

    #[test]
    fn an_answer_must_say_in_one_way_where_it_ends() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 6",
            "Content-Length: +5",
            "Content-Length: ",
            "Content-Length: 5,",
            "Content-Length: 18446744073709551616",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(
                head(&text).unwrap_err(),
                HeadError::Fields(FieldError::Framing),
                "{fields}"
            );
        }
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n";
        assert!(matches!(head(twice).unwrap().framing, Framing::Length(5)));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "HTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        ] {
            assert!(matches!(head(text), Err(HeadError::Syntax(_))), "{text:?}");
        }
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
        let error = HeadError::Syntax(httparse::Error::TooManyHeaders);
        assert_eq!(head(&many).unwrap_err(), error);
        let long = Bytes::from(format!(
            "HTTP/1.1 200 OK\r\na: {}",
            "b".repeat(HEAD_BYTES_MAX)
        ));
        assert_eq!(read(&long, &Method::POST).unwrap_err(), HeadError::Length);
    }
}
