//! An answer's body on its way from the upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::http1;

/// The bytes of an answer, by the protocol that brings them.
#[derive(Debug)]
pub enum UpstreamBody {
    /// By a connection of its own.
    Http1(http1::Http1Body),
    /// By a stream of a shared connection.
    Http2(Incoming),
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// On a connection of its own.
    #[error(transparent)]
    Http1(#[from] http1::ReadError),
    /// On a stream of a shared connection.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            UpstreamBody::Http1(body) => body.poll_frame(cx).map_err(BodyError::Http1),
            UpstreamBody::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Http1(body) => body.is_end_stream(),
            UpstreamBody::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Http1(body) => body.size_hint(),
            UpstreamBody::Http2(body) => body.size_hint(),
        }
    }
}
