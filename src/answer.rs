//! The answer on its way to the client: the upstream's bytes, read by the meter as they pass.
//!
//! An answer ends exactly once: complete, broken off by the upstream, or left by the client. Whichever comes first
//! settles the request; the last bytes are held until its entry is in the journal.

mod alarm;
mod deadline;
mod followed;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::task::TaskTracker;

use crate::admit::Room;
use crate::exchange::{Exchange, OpenSettlement, Settled, Settlement};
use crate::ledger::Outcome;
use crate::meter::{End, Meter};
use crate::upstream::{BodyError, UpstreamBody};
use alarm::Alarm;
use deadline::Deadline;
use followed::Followed;

/// What arrived together leaves together, up to so many bytes in one write.
const COALESCED_BYTES: usize = 64 * 1024;

/// The body of an answer to a client.
#[derive(Debug)]
pub struct AnswerBody(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Passing(Box<Passing>),
}

/// Why an answer broke off. The client sees its connection (or stream) end without the body's proper end.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The upstream broke off.
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] BodyError),
    /// The upstream said nothing for too long, or the whole call took too long.
    #[error("the upstream took longer than {0:?}")]
    Timeout(Duration),
}

impl AnswerBody {
    /// A body that is all there.
    pub fn whole(body: impl Into<Bytes>) -> AnswerBody {
        AnswerBody(Kind::Whole(
            Some(body.into()).filter(|body| !body.is_empty()),
        ))
    }

    /// An upstream's body as it passes.
    pub fn passing(passing: Box<Passing>) -> AnswerBody {
        AnswerBody(Kind::Passing(passing))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.0 {
            Kind::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Kind::Passing(passing) => passing.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(body) => body.is_none(),
            Kind::Passing(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Kind::Passing(passing) => passing.size_hint(),
        }
    }
}

/// An answer that passes from the upstream to the client.
pub struct Passing {
    upstream: Option<UpstreamBody>,
    meter: Option<Box<Meter>>,
    exchange: Option<Box<Exchange>>,
    /// For a stream that is held to its reservation as it passes.
    followed: Option<Box<Followed>>,
    /// The settlement, while it is not done (tokens are being counted).
    settling: Option<OpenSettlement>,
    settled: Option<Settled>,
    /// Bytes for the client.
    ready: Ready,
    trailers: Option<HeaderMap>,
    ended: Option<Result<(), AnswerError>>,
    /// Whether the connection had a turn to write before an error.
    flushed: bool,
    deadline: Deadline,
    alarm: Alarm,
    /// All that it waits for was asked, and nothing is there.
    waits: bool,
    /// Whether the body's length is the upstream's own, so that it may be promised to the client.
    unchanged: bool,
    tasks: TaskTracker,
}

/// Bytes that wait to be handed on: one chunk as it came, or several as one.
#[derive(Debug, Default)]
enum Ready {
    #[default]
    Empty,
    One(Bytes),
    Several(BytesMut),
}

impl Ready {
    fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        *self = match std::mem::take(self) {
            Ready::Empty => Ready::One(bytes),
            Ready::One(first) => {
                let mut several =
                    BytesMut::with_capacity((first.len() + bytes.len()).max(16 * 1024));
                several.extend_from_slice(&first);
                several.extend_from_slice(&bytes);
                Ready::Several(several)
            }
            Ready::Several(mut several) => {
                several.extend_from_slice(&bytes);
                Ready::Several(several)
            }
        };
    }

    fn len(&self) -> usize {
        match self {
            Ready::Empty => 0,
            Ready::One(bytes) => bytes.len(),
            Ready::Several(bytes) => bytes.len(),
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Ready::Empty => None,
            Ready::One(bytes) => Some(bytes),
            Ready::Several(bytes) => Some(bytes.freeze()),
        }
    }
}

impl std::fmt::Debug for Passing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passing")
            .field("ready", &self.ready.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Passing {
    /// The body of an answer whose head has come.
    pub fn new(
        upstream: UpstreamBody,
        mut meter: Box<Meter>,
        mut exchange: Box<Exchange>,
        unchanged: bool,
    ) -> Passing {
        let followed = Followed::begin(&mut meter, &mut exchange);
        let deadline = Deadline::new(exchange.timeouts(), exchange.started());
        let tasks = exchange.tasks();
        Passing {
            upstream: Some(upstream),
            meter: Some(meter),
            exchange: Some(exchange),
            followed,
            settling: None,
            settled: None,
            ready: Ready::Empty,
            trailers: None,
            ended: None,
            flushed: false,
            deadline,
            alarm: Alarm::default(),
            waits: false,
            unchanged,
            tasks,
        }
    }

    /// Waits for the whole answer, if it is no longer than `bytes_max`, so that its cost is known before its head is sent.
    /// Returns the settlement when the answer is all there; it is then settled.
    /// Its record is then put down; whoever sends the head writes it first.
    pub async fn collect(&mut self, bytes_max: usize) -> Option<Settled> {
        self.in_company(true);
        let collected = std::future::poll_fn(|cx| {
            loop {
                if self.ready.len() > bytes_max {
                    return Poll::Ready(None);
                }
                match self.poll_upstream(cx) {
                    Poll::Ready(()) if self.ended.is_some() => {
                        return Poll::Ready(self.settled.take());
                    }
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        self.in_company(false);
        collected
    }

    fn in_company(&mut self, is_in_company: bool) {
        if let Some(exchange) = &mut self.exchange {
            exchange.in_company = is_in_company;
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Some(waker) = self.alarm.waker(cx, self.waits) else {
            return Poll::Pending;
        };
        let cx = &mut Context::from_waker(&waker);
        loop {
            let polled = if self.ended.is_none() || self.settling.is_some() {
                self.poll_upstream(cx)
            } else {
                Poll::Ready(())
            };
            self.waits = polled.is_pending();
            if self.settling.is_none()
                && (polled.is_pending()
                    || self.ended.is_some()
                    || self.ready.len() >= COALESCED_BYTES)
            {
                if let Some(bytes) = self.ready.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                match self.ended.take() {
                    // What came before is written out first: on HTTP/2 what is not written is lost when a body fails.
                    Some(Err(error)) if !self.flushed => {
                        self.flushed = true;
                        self.ended = Some(Err(error));
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(Err(error)) => {
                        self.ended = Some(Ok(()));
                        return Poll::Ready(Some(Err(error)));
                    }
                    Some(Ok(())) => {
                        self.ended = Some(Ok(()));
                        return Poll::Ready(
                            self.trailers
                                .take()
                                .map(|trailers| Ok(Frame::trailers(trailers))),
                        );
                    }
                    None => {}
                }
            }
            if polled.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes one frame from the upstream, or goes on with the settlement. Ready when something changed.
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(settling) = &mut self.settling {
            let Poll::Ready(settled) = settling.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            self.settling = None;
            self.settled(settled);
            return Poll::Ready(());
        }
        if self.followed.is_some()
            && let Some(polled) = self.poll_followed(cx)
        {
            return polled;
        }
        let Some(upstream) = &mut self.upstream else {
            self.ended.get_or_insert(Ok(()));
            return Poll::Ready(());
        };
        match Pin::new(&mut *upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.deadline.progress();
                let at_end = upstream.is_end_stream();
                match frame.into_data() {
                    Ok(data) => self.take(data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                }
                if self.followed.is_some() {
                    self.go_on_following(at_end.then_some(Ok(())), cx);
                } else if at_end {
                    self.end(Ok(()), cx);
                } else if self.meter.as_deref().is_some_and(Meter::is_complete) {
                    self.settle(End::Complete, Outcome::Completed, cx);
                }
                Poll::Ready(())
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended_upstream(Err(error.into()), cx);
                Poll::Ready(())
            }
            Poll::Ready(None) => {
                self.ended_upstream(Ok(()), cx);
                Poll::Ready(())
            }
            Poll::Pending => match self.deadline.poll(cx) {
                Poll::Ready(bound) => {
                    self.ended_upstream(Err(AnswerError::Timeout(bound)), cx);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// Shows a chunk to the meter and puts what it leaves into line for the client.
    fn take(&mut self, data: Bytes) {
        if let Some(followed) = &mut self.followed {
            return followed.add(data);
        }
        let Some(meter) = &mut self.meter else {
            self.ready.push(data);
            return;
        };
        self.ready.push(meter.push(data));
        if let Some(exchange) = self.exchange.as_mut().filter(|_| meter.saw_first_output()) {
            exchange.first_token();
        }
    }

    /// The upstream has nothing more to say, but some of what it said may still be here.
    fn ended_upstream(&mut self, result: Result<(), AnswerError>, cx: &mut Context<'_>) {
        if self.followed.is_some() {
            self.go_on_following(Some(result), cx);
        } else {
            self.end(result, cx);
        }
    }

    /// The upstream has nothing more to say.
    fn end(&mut self, result: Result<(), AnswerError>, cx: &mut Context<'_>) {
        self.upstream = None;
        if let Some(meter) = &mut self.meter {
            self.ready.push(meter.held());
        }
        let (end, outcome) = match &result {
            Ok(()) => (End::Complete, Outcome::Completed),
            Err(error) => {
                if let Some(exchange) = &self.exchange {
                    exchange.broke_off(error);
                }
                (End::Aborted, Outcome::UpstreamFailed)
            }
        };
        self.ended = Some(result);
        self.settle(end, outcome, cx);
    }

    /// Settles, once. Most settlements are done within this call; one that counts tokens is polled further.
    fn settle(&mut self, end: End, outcome: Outcome, cx: &mut Context<'_>) {
        let (Some(exchange), Some(mut meter)) = (self.exchange.take(), self.meter.take()) else {
            return;
        };
        // After the dialect's end mark the rest passes unread; bytes held back until then come first.
        self.ready.push(meter.held());
        match exchange.settle(meter.finish(end), outcome) {
            Settlement::Done(settled) => self.settled(settled),
            Settlement::Open(mut settling) => match settling.as_mut().poll(cx) {
                Poll::Ready(settled) => self.settled(settled),
                Poll::Pending => self.settling = Some(settling),
            },
        }
    }

    /// The settlement is done: what was to be said after it can be said.
    fn settled(&mut self, settled: Settled) {
        if let Some(end) = self
            .followed
            .take()
            .and_then(|followed| followed.last_words(&settled))
        {
            self.ready.push(end);
        }
        self.settled = Some(settled);
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upstream {
            Some(upstream) if self.unchanged => {
                let ready = self.ready.len() as u64;
                match upstream.size_hint().exact() {
                    Some(left) => SizeHint::with_exact(left + ready),
                    None => SizeHint::default(),
                }
            }
            // Of an answer that broke off no length may be promised: the client would take what there is for all of it.
            None if self.trailers.is_none() && !matches!(self.ended, Some(Err(_))) => {
                SizeHint::with_exact(self.ready.len() as u64)
            }
            _ => SizeHint::default(),
        }
    }
}

/// The client went away: read on for a while to get the provider's own figure, then settle with what was seen.
impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(settling) = self.settling.take() {
            self.tasks.spawn(settling);
        }
        let (Some(mut exchange), Some(mut meter)) = (self.exchange.take(), self.meter.take())
        else {
            return;
        };
        exchange.in_company = false;
        let upstream = self.upstream.take();
        if let Some(followed) = self.followed.take() {
            exchange.allowance = followed.into_allowance(&mut meter);
        }
        self.tasks.spawn(async move {
            let time = exchange.drain_after_close();
            let end = match upstream {
                Some(upstream) => read_on(upstream, &mut meter, &mut exchange, time).await,
                None => End::Complete,
            };
            let outcome = exchange.abandoned();
            exchange.settle(meter.finish(end), outcome).done().await;
        });
    }
}

/// Reads an answer that nobody waits for, for a bounded time, and no further than it has reserved.
pub async fn read_on(
    mut upstream: UpstreamBody,
    meter: &mut Meter,
    exchange: &mut Exchange,
    time: Duration,
) -> End {
    let mut allowance = exchange.allowance.take();
    let mut cut = None;
    let reading = async {
        while let Some(frame) = upstream.frame().await {
            let Ok(frame) = frame else {
                return End::Aborted;
            };
            if let Ok(data) = frame.into_data() {
                meter.push(data);
            }
            if meter.is_complete() {
                break;
            }
            if let (Some(allowance), Some(output)) = (&mut allowance, meter.output())
                && allowance.look(output) == Room::Out
            {
                cut = Some(allowance.cut_unseen());
                return End::Aborted;
            }
        }
        End::Complete
    };
    let end = tokio::time::timeout(time, reading)
        .await
        .unwrap_or(End::Aborted);
    exchange.cut = cut;
    end
}
