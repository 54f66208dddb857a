//! The heads of requests as they are read, and of answers as they are written (RFC 9112).

use std::cell::RefCell;
use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    self, CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, TE, TRAILER,
    TRANSFER_ENCODING,
};
use http::{Method, Request, StatusCode, Uri, Version, response};
use hyper::ext::ReasonPhrase;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::http1::fields::{self, FieldError, HEADERS_MAX, Stated};
use crate::http1::framing::Framing;

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// Method, target, version and headers.
    pub request: Request<()>,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the client keeps the connection open after it.
    pub reusable: bool,
    /// Whether the client waits for a word before it sends the body (RFC 9110, 10.1.1).
    pub expects: bool,
    /// How many bytes it takes.
    pub length: usize,
}

/// A head that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP.
    #[error("the head of the request is not valid: {0}")]
    Syntax(#[from] httparse::Error),
    /// It does not end.
    #[error("the head of the request is too long")]
    Length,
    /// Its target is no URI.
    #[error("the target of the request is not valid")]
    Target,
    /// Its headers cannot be used.
    #[error("the head of the request: {0}")]
    Fields(#[from] FieldError),
}

impl HeadError {
    /// How it is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            HeadError::Length | HeadError::Syntax(httparse::Error::TooManyHeaders) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HeadError::Syntax(_) | HeadError::Target | HeadError::Fields(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// Reads the head at the start of what has come so far, of at most so many bytes. `None` when it is not all there.
///
/// # Errors
/// See [`HeadError`].
pub fn read(input: &Bytes, bytes_max: usize) -> Result<Option<Head>, HeadError> {
    let mut places = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        input,
        &mut places,
    )?;
    let length = match status {
        httparse::Status::Complete(length) if length <= bytes_max => length,
        httparse::Status::Partial if input.len() < bytes_max => return Ok(None),
        _ => return Err(HeadError::Length),
    };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| httparse::Error::Token)?;
    let target = input.slice_ref(parsed.path.unwrap_or_default().as_bytes());
    let target = Uri::from_maybe_shared(target).map_err(|_| HeadError::Target)?;
    let version = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let headers = fields::headers(input, parsed.headers, 0)?;
    let framing = match fields::stated(&headers)? {
        Stated::Nothing => Framing::Length(0),
        Stated::Length(length) => Framing::Length(length),
        // A proxy in front may have gone by the other length, and HTTP/1.0 knows no codings: what follows on this connection
        // may then be what that proxy took for the body (RFC 9112, 6.1).
        Stated::Chunks { alone } if alone && version == Version::HTTP_11 => Framing::chunked(),
        Stated::Chunks { .. } => return Err(FieldError::Framing.into()),
    };
    // What follows a CONNECT may be meant for a tunnel.
    let reusable = fields::persists(version, &headers) && method != Method::CONNECT;
    let expects = version == Version::HTTP_11
        && headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    Ok(Some(Head {
        request,
        framing,
        reusable,
        expects,
        length,
    }))
}

/// How an answer's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There is none, whatever the headers say.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunks,
    /// Everything until the connection is closed: HTTP/1.0 knows no chunks.
    UntilClose,
}

impl Sent {
    /// The framing of an answer whose body has so many bytes, if that is known.
    pub(super) fn of(status: StatusCode, length: Option<u64>, asked: &Asked) -> Sent {
        if asked.method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Sent::Nothing;
        }
        match length {
            Some(length) => Sent::Length(length),
            None if asked.version == Version::HTTP_11 => Sent::Chunks,
            None => Sent::UntilClose,
        }
    }
}

/// What of a request its answer's framing depends on.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    /// Whether the client takes headers behind the body (RFC 9110, 10.1.4).
    pub(super) trailers: bool,
}

impl Asked {
    pub(super) fn of(request: &Request<()>) -> Asked {
        Asked {
            method: request.method().clone(),
            version: request.version(),
            trailers: fields::says(request.headers(), &TE, b"trailers"),
        }
    }
}

/// The head of an answer.
pub(super) fn write(head: &response::Parts, sent: Sent, asked: &Asked, reusable: bool) -> Bytes {
    let fields: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let mut out = BytesMut::with_capacity(fields + 160);
    out.put_slice(match asked.version {
        Version::HTTP_10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    });
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(match head.extensions.get::<ReasonPhrase>() {
        Some(own) => own.as_bytes(),
        None => head
            .status
            .canonical_reason()
            .unwrap_or_default()
            .as_bytes(),
    });
    out.put_slice(b"\r\n");
    for (name, value) in &head.headers {
        // How the body ends and whether the connection goes on is said below.
        let ours = *name == CONNECTION
            || *name == TRANSFER_ENCODING
            || (*name == CONTENT_LENGTH
                && (sent != Sent::Nothing || head.status == StatusCode::NO_CONTENT));
        if !ours {
            put(&mut out, name.as_str(), value.as_bytes());
        }
    }
    match sent {
        Sent::Length(length) => put(
            &mut out,
            "content-length",
            itoa::Buffer::new().format(length).as_bytes(),
        ),
        Sent::Chunks => put(&mut out, "transfer-encoding", b"chunked"),
        Sent::Nothing | Sent::UntilClose => {}
    }
    match (reusable, asked.version) {
        (false, _) => put(&mut out, "connection", b"close"),
        (true, Version::HTTP_10) => put(&mut out, "connection", b"keep-alive"),
        (true, _) => {}
    }
    if !head.headers.contains_key(DATE) {
        put_date(&mut out);
    }
    out.put_slice(b"\r\n");
    out.freeze()
}

/// Headers that must not come behind a body: they frame it, decide who may see it, or say how it is to be read (RFC 9110,
/// 6.5.1).
const NEVER_BEHIND: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// The end of a body in chunks: those of its trailers that its head has announced.
pub(super) fn write_end(announced: &HeaderMap, trailers: &HeaderMap) -> Bytes {
    let mut out = BytesMut::from(&b"0\r\n"[..]);
    for (name, value) in trailers {
        let named = || fields::says(announced, &TRAILER, name.as_str().as_bytes());
        if !NEVER_BEHIND.contains(name) && named() {
            put(&mut out, name.as_str(), value.as_bytes());
        }
    }
    out.put_slice(b"\r\n");
    out.freeze()
}

fn put(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

thread_local! {
    /// The second that was written last, and its text: there are many answers in a second.
    static WRITTEN: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// The time, as every origin with a clock says it (RFC 9110, 6.6.1).
fn put_date(out: &mut BytesMut) {
    let second = Timestamp::now().as_second();
    WRITTEN.with_borrow_mut(|(written, text)| {
        if *written != second {
            let at = Timestamp::from_second(second).unwrap_or_default();
            let printed = DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
            *text = printed.unwrap_or_default();
            *written = second;
        }
        put(out, "date", text.as_bytes());
    });
}
