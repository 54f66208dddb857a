//! Reading a request's body whole: it must be found out what it asks before it can go anywhere.

use std::future::Future;
use std::io::Read;
use std::time::Duration;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::Server;
use crate::dialect::error_body::Code;
use crate::listen::{ClientBody, ClientBodyError};
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

/// Smaller bodies are not counted in the memory of all bodies: the number of requests in flight bounds them.
const UNCOUNTED_BYTES: u64 = 64 * 1024;
/// What a client must send in a second, on average, once `body_timeout` is over.
const SLOWEST_BYTES: u64 = 1024;

/// The memory for bodies, in KiB: at least what one body may have.
pub(crate) fn memory_kib(bounds: &Server) -> usize {
    let bytes = bounds.body_memory_max.max(bounds.request_bytes_max);
    usize::try_from(bytes.div_ceil(1024))
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// Reads the body, within the configured size and never slower than a piece in each `body_timeout`. It is counted in
/// `memory` for as long as anybody holds it.
///
/// # Errors
/// `request_too_large`, at once where `Content-Length` tells; `request_timeout`; `overloaded` when all bodies together are
/// too large; `invalid_request` for a body that breaks off or cannot be decoded.
pub(super) async fn read(
    head: &Parts,
    body: &mut ClientBody,
    bounds: &Server,
    memory: &Arc<Semaphore>,
) -> Result<RequestBody, Refusal> {
    let most = bounds.request_bytes_max;
    let promised = body.size_hint().lower();
    if promised > most {
        return Err(too_large(most));
    }
    let mut room = Room::new(memory);
    let raw = collect(body, promised, most, bounds.body_timeout, &mut room).await?;
    let raw = room.hold(raw);
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
    // A few bytes may become a great many, and take the time that these take: not on a thread that others wait for.
    let mut room = Room::new(memory);
    room.grow(most)?;
    let packed = raw.clone();
    let unpacking = tokio::task::spawn_blocking(move || decode(&packed, encoding, most));
    let plain = unpacking
        .await
        .map_err(|_| Refusal::new(Code::Internal, "The gateway is stopping."))??;
    room.shrink(plain.len() as u64);
    let plain = room.hold(plain);
    Ok(RequestBody {
        raw,
        plain,
        encoded: true,
    })
}

async fn collect(
    body: &mut ClientBody,
    promised: u64,
    most: u64,
    pause: Duration,
    room: &mut Room<'_>,
) -> Result<Bytes, Refusal> {
    room.grow(promised)?;
    let mut pace = Pace::new(pause);
    let first = pace.keep(0, body.frame()).await?.transpose();
    let first = match first.map_err(broke_off)?.map(Frame::into_data) {
        Some(Ok(data)) => data,
        Some(Err(_)) | None => Bytes::new(),
    };
    if first.len() as u64 > most {
        return Err(too_large(most));
    }
    if body.is_end_stream() {
        // The usual case: one piece holds it all.
        return Ok(first);
    }
    let mut whole = BytesMut::new();
    whole.reserve(usize::try_from(promised).unwrap_or(0).max(first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    loop {
        room.grow(whole.len() as u64)?;
        let bytes = pace.keep(whole.len(), body.read_into(&mut whole)).await?;
        if bytes.map_err(broke_off)? == 0 {
            return Ok(whole.freeze());
        }
        if whole.len() as u64 > most {
            return Err(too_large(most));
        }
    }
}

fn broke_off(error: ClientBodyError) -> Refusal {
    Refusal::new(Code::InvalidRequest, "The request body broke off.").detail(error.to_string())
}

/// How slowly a body may come: with no longer pauses than that, and with [`SLOWEST_BYTES`] a second on average. A byte now and
/// then keeps each pause short, so the whole is bounded too.
struct Pace {
    pause: Duration,
    started: Instant,
    waits_since: Instant,
}

impl Pace {
    fn new(pause: Duration) -> Pace {
        let started = Instant::now();
        Pace {
            pause,
            started,
            waits_since: started,
        }
    }

    /// Waits for the next piece of a body of which so many bytes have come.
    async fn keep<T>(
        &mut self,
        bytes: usize,
        piece: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let earned = Duration::from_secs(bytes as u64 / SLOWEST_BYTES);
        let pause = self.pause;
        let deadline = (self.waits_since + pause).min(self.started + pause + earned);
        let piece = tokio::time::timeout_at(deadline, piece).await.map_err(|_| {
            Refusal::new(
                Code::RequestTimeout,
                format!("The request body came too slowly: nothing within {pause:?}, or less than {SLOWEST_BYTES} bytes a second."),
            )
        })?;
        self.waits_since = Instant::now();
        Ok(piece)
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
    let reader = || -> Result<Box<dyn Read + '_>, Refusal> {
        Ok(match encoding {
            ContentEncoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&raw[..])),
            ContentEncoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(&raw[..])),
            ContentEncoding::Brotli => {
                Box::new(brotli_decompressor::Decompressor::new(&raw[..], 4096))
            }
            ContentEncoding::Zstd => {
                Box::new(zstd::stream::read::Decoder::new(&raw[..]).map_err(|_| unknown())?)
            }
            ContentEncoding::Unknown => return Err(unknown()),
        })
    };
    let wrong = |error: std::io::Error| {
        Refusal::new(
            Code::InvalidRequest,
            "The request body is not what its Content-Encoding says.",
        )
        .detail(error.to_string())
    };
    // The first time only counts: what is too large takes no memory, and what is not takes no more than it needs.
    let mut counted = reader()?.take(most.saturating_add(1));
    let length = std::io::copy(&mut counted, &mut std::io::sink()).map_err(wrong)?;
    if length > most {
        return Err(too_large(most));
    }
    let mut plain = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    reader()?
        .take(most)
        .read_to_end(&mut plain)
        .map_err(wrong)?;
    Ok(plain.into())
}

/// Reads what is left of the body of a refused request, within bounds. A connection that is closed with bytes unread is
/// reset, and a client that is still sending would then see that and not the refusal.
pub(super) async fn read_off(head_expects: bool, body: &mut ClientBody) {
    // Who asked before sending has not begun to.
    if head_expects {
        return;
    }
    let reading = async {
        let mut left = READ_OFF_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else {
                return;
            };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(READ_OFF_TIME, reading).await;
}

/// How much of a refused request's body is read off, and for how long.
const READ_OFF_BYTES: usize = 64 << 20;
const READ_OFF_TIME: Duration = Duration::from_secs(2);

/// A body's part of the memory for all bodies.
struct Room<'a> {
    memory: &'a Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Room<'_> {
    fn new(memory: &Arc<Semaphore>) -> Room<'_> {
        Room { memory, held: None }
    }

    /// Sees to it that so many bytes are counted.
    fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= UNCOUNTED_BYTES {
            return Ok(());
        }
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX);
        let Some(more) = wanted.checked_sub(held).filter(|more| *more > 0) else {
            return Ok(());
        };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = Arc::clone(self.memory)
            .try_acquire_many_owned(more)
            .map_err(|_| {
                Refusal::new(
                    Code::Overloaded,
                    "The requests in flight are as large as the gateway takes.",
                )
                .retry_after(Duration::from_secs(1))
            })?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }

    /// Gives back what a body of so many bytes does not need.
    fn shrink(&mut self, bytes: u64) {
        let needed = if bytes <= UNCOUNTED_BYTES {
            0
        } else {
            usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX)
        };
        if let Some(held) = &mut self.held {
            let surplus = held.num_permits().saturating_sub(needed);
            drop(held.split(surplus));
        }
    }

    /// Ties the count to the bytes: it is given back when the last clone of them is gone.
    fn hold(self, bytes: Bytes) -> Bytes {
        match self.held {
            Some(permit) if permit.num_permits() > 0 => Bytes::from_owner(Held {
                bytes,
                _permit: permit,
            }),
            _ => bytes,
        }
    }
}

/// Bytes and their part of the memory.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn too_large(most: u64) -> Refusal {
    Refusal::new(
        Code::RequestTooLarge,
        format!(
            "The request body is larger than {most} bytes, which is the most that is accepted."
        ),
    )
}
