//! The body of a client's request as it comes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::http1::{Received, WireError};

/// The bytes of a request, by the protocol that brings them.
#[derive(Debug)]
pub enum ClientBody {
    /// By a connection of its own.
    Http1(Received),
    /// By a stream of a shared connection.
    Http2(Incoming),
}

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum ClientBodyError {
    /// On a connection of its own.
    #[error(transparent)]
    Http1(#[from] WireError),
    /// On a stream of a shared connection.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

/// Up to this size a piece is copied out of an HTTP/2 connection's read buffer: bodies are kept until the answer's end, and
/// would keep the whole buffer as well.
const COPIED_BYTES: usize = 4 * 1024;

impl ClientBody {
    /// Puts what comes next behind what is there, without a copy in between where the client has said how long the body is.
    /// Gives how many bytes came; none at the end.
    ///
    /// # Errors
    /// When the body breaks off.
    pub async fn read_into(&mut self, whole: &mut BytesMut) -> Result<usize, ClientBodyError> {
        match self {
            ClientBody::Http1(body) => Ok(poll_fn(|cx| body.poll_into(whole, cx)).await?),
            ClientBody::Http2(body) => loop {
                let Some(frame) = body.frame().await.transpose()? else {
                    return Ok(0);
                };
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    whole.extend_from_slice(&data);
                    return Ok(data.len());
                }
            },
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match &mut *self {
            ClientBody::Http1(body) => body.poll_frame(cx).map_err(ClientBodyError::Http1),
            ClientBody::Http2(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx)).transpose()?;
                Poll::Ready(frame.map(|frame| {
                    Ok(frame.map_data(|data| match data.len() {
                        ..=COPIED_BYTES => Bytes::copy_from_slice(&data),
                        _ => data,
                    }))
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ClientBody::Http1(body) => body.is_end_stream(),
            ClientBody::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ClientBody::Http1(body) => body.size_hint(),
            ClientBody::Http2(body) => body.size_hint(),
        }
    }
}
