//! HTTP/2 to a client: hyper's, with bounds on clients that say nothing or take nothing.

mod activity;
mod streams;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Bytes};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use self::activity::{Activity, TimedIo, Tracked};
use self::streams::Streams;
use super::stream::ClientStream;
use super::{Bounds, ClientBody, FIRST_REQUEST};

/// The bound on streams of one connection; more of them wait for their turn.
const STREAMS_MAX: u32 = 256;
/// How often a client is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Serves the streams of a connection, of which something may have come already, until the client closes it or it is told
/// to stop.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn serve<H, F, B>(
    stream: ClientStream,
    came: Bytes,
    bounds: &Bounds,
    stop: &CancellationToken,
    handle: H,
) -> Result<(), hyper::Error>
where
    H: Fn(Request<ClientBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(TimedIo::new(stream, came, Arc::clone(&activity), bounds));
    let serving = Arc::clone(&activity);
    let service = service_fn(move |request: Request<_>| {
        let request_active = Activity::begin(&serving);
        // hyper moves a request's future about before it polls it: a pointer moves faster than all of its states.
        let response = Box::pin(handle(request.map(ClientBody::Http2)));
        async move {
            let response = response.await;
            Ok::<_, Infallible>(response.map(|body| Tracked::new(body, request_active)))
        }
    });
    let mut builder = http2::Builder::new(Streams {
        idle_timeout: bounds.idle_timeout,
    });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        // A connection that was just accepted has a request on its way: told to stop now, it would be closed before that is
        // read.
        () = async {
            stop.cancelled().await;
            activity.first_request(FIRST_REQUEST).await;
        } => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
