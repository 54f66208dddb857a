//! Reading a request's body whole: it must be found out what it asks before it can go anywhere.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use crate::config::Server;
use crate::dialect::error_body::Code;
use crate::meter::ContentEncoding;
use crate::refuse::Refusal;

/// A request's body.
pub(crate) struct RequestBody {
    /// The client's bytes, as they came.
    pub(crate) raw: Bytes,
    /// The same, decoded where the client compressed them.
    pub(crate) plain: Bytes,
    /// Whether the client compressed it: then a changed body is sent plain.
    pub(crate) encoded: bool,
}

/// Reads the body, within the configured size and never slower than a piece in each `body_timeout`.
///
/// # Errors
/// `request_too_large`, at once where `Content-Length` tells; `request_timeout`; `invalid_request` for a body that breaks
/// off or cannot be decoded.
pub(super) async fn read(
    head: &Parts,
    body: Incoming,
    bounds: &Server,
) -> Result<RequestBody, Refusal> {
    let most = bounds.request_bytes_max;
    let promised = body.size_hint().lower();
    if promised > most {
        return Err(too_large(most));
    }
    let raw = collect(body, promised, most, bounds.body_timeout).await?;
    let encoding = head
        .headers
        .get(CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("unknown"));
    let Some(encoding) = encoding.and_then(ContentEncoding::of_header) else {
        return Ok(RequestBody {
            plain: raw.clone(),
            raw,
            encoded: false,
        });
    };
    let plain = decode(&raw, encoding, most)?;
    Ok(RequestBody {
        raw,
        plain,
        encoded: true,
    })
}

async fn collect(
    mut body: Incoming,
    promised: u64,
    most: u64,
    pause: Duration,
) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(pause, body.frame())
            .await
            .map_err(|_| {
                Refusal::new(
                    Code::RequestTimeout,
                    format!("No further piece of the request body came within {pause:?}."),
                )
            })?;
        let Some(frame) = frame else {
            return Ok(whole.freeze());
        };
        let frame = frame.map_err(|error| {
            Refusal::new(Code::InvalidRequest, "The request body broke off.")
                .detail(error.to_string())
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.is_empty() && body.is_end_stream() {
            // The usual case: one piece holds it all, and nothing is copied.
            return if data.len() as u64 <= most {
                Ok(data)
            } else {
                Err(too_large(most))
            };
        }
        if (whole.len() as u64).saturating_add(data.len() as u64) > most {
            return Err(too_large(most));
        }
        if whole.is_empty() {
            whole.reserve(usize::try_from(promised).unwrap_or(0).max(data.len()));
        }
        whole.extend_from_slice(&data);
    }
}

/// Decodes within the size that a plain body may have, so that a small body cannot become a huge one.
fn decode(raw: &Bytes, encoding: ContentEncoding, most: u64) -> Result<Bytes, Refusal> {
    let unknown = || {
        Refusal::new(
            Code::InvalidRequest,
            "The request's Content-Encoding is not one of gzip, deflate, br, zstd.",
        )
    };
    let reader: Box<dyn Read + '_> = match encoding {
        ContentEncoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&raw[..])),
        ContentEncoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(&raw[..])),
        ContentEncoding::Brotli => Box::new(brotli_decompressor::Decompressor::new(&raw[..], 4096)),
        ContentEncoding::Zstd => {
            Box::new(zstd::stream::read::Decoder::new(&raw[..]).map_err(|_| unknown())?)
        }
        ContentEncoding::Unknown => return Err(unknown()),
    };
    let mut plain = Vec::new();
    reader
        .take(most.saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(|error| {
            Refusal::new(
                Code::InvalidRequest,
                "The request body is not what its Content-Encoding says.",
            )
            .detail(error.to_string())
        })?;
    if plain.len() as u64 > most {
        return Err(too_large(most));
    }
    Ok(plain.into())
}

fn too_large(most: u64) -> Refusal {
    Refusal::new(
        Code::RequestTooLarge,
        format!(
            "The request body is larger than {most} bytes, which is the most that is accepted."
        ),
    )
}
