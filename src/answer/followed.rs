//! A stream that has less reserved than it may need: counted event by event, its reservation extended as it goes, and ended
//! with its dialect's `length` stop where its limits have no more room.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::{AnswerError, Passing};
use crate::admit::{Allowance, Extending, Room};
use crate::dialect::length_stop::LengthStop;
use crate::exchange::{Exchange, Settled};
use crate::ledger::Outcome;
use crate::meter::{End, Meter};

/// What is kept of a stream that is followed.
pub(super) struct Followed {
    allowance: Box<Allowance>,
    /// Whole events that were not looked at yet.
    waiting: VecDeque<Bytes>,
    /// The beginning of an event.
    begun: BytesMut,
    /// An event that needs more than is reserved.
    held_back: Option<Bytes>,
    extending: Option<Extending>,
    /// How the upstream ended, while events wait.
    ended: Option<Result<(), AnswerError>>,
    /// Set when the stream is cut: what ends it.
    last: Option<(LengthStop, bool)>,
}

/// A longer event is passed on in pieces.
const EVENT_BYTES_MAX: usize = 1 << 20;

impl Followed {
    /// Takes the allowance of an exchange whose answer can be followed.
    pub(super) fn begin(meter: &mut Meter, exchange: &mut Exchange) -> Option<Box<Followed>> {
        if exchange.entry.status >= 400 {
            return None;
        }
        let allowance = exchange.allowance.take()?;
        if !meter.prepare_stop(&exchange.question.endpoint) {
            return None;
        }
        Some(Box::new(Followed {
            allowance,
            waiting: VecDeque::new(),
            begun: BytesMut::new(),
            held_back: None,
            extending: None,
            ended: None,
            last: None,
        }))
    }

    /// Takes bytes of the upstream, cut into events.
    pub(super) fn add(&mut self, mut data: Bytes) {
        while let Some(end) = event_end(&self.begun, &data) {
            let rest = data.split_off(end);
            let event = if self.begun.is_empty() {
                data
            } else {
                self.begun.extend_from_slice(&data);
                self.begun.split().freeze()
            };
            self.waiting.push_back(event);
            data = rest;
        }
        self.begun.extend_from_slice(&data);
        if self.begun.len() > EVENT_BYTES_MAX {
            self.waiting.push_back(self.begun.split().freeze());
        }
    }

    /// What the client is told at the end, if the stream was cut.
    pub(super) fn last_words(self, settled: &Settled) -> Option<Bytes> {
        let (stop, shows_usage) = self.last?;
        Some(stop.end(&settled.usage, shows_usage).into())
    }

    /// For an answer that nobody takes any more. What waits here was sent by the upstream.
    pub(super) fn into_allowance(mut self, meter: &mut Meter) -> Option<Box<Allowance>> {
        for event in self.waiting.drain(..) {
            meter.push(event);
        }
        meter.push(self.begun.freeze());
        Some(self.allowance)
    }
}

impl Passing {
    /// Goes on with what waits. `None` when the upstream is to be asked for more.
    pub(super) fn poll_followed(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let mut moved = false;
        loop {
            let (Some(followed), Some(meter), Some(exchange)) =
                (&mut self.followed, &mut self.meter, &mut self.exchange)
            else {
                return moved.then_some(Poll::Ready(()));
            };
            let mut refused = false;
            if let Some(extending) = &mut followed.extending
                && let Poll::Ready(extended) = extending.as_mut().poll(cx)
            {
                followed.extending = None;
                refused = !followed.allowance.extended(extended);
            }
            let event = match followed.held_back.take() {
                Some(event) => event,
                None => match followed.waiting.pop_front() {
                    Some(event) => {
                        let out = meter.push(event);
                        if meter.saw_first_output() {
                            exchange.first_token();
                        }
                        out
                    }
                    None => break,
                },
            };
            let room = match meter.output() {
                Some(output) if !meter.is_complete() => followed.allowance.look(output),
                _ => Room::Enough,
            };
            if room == Room::Out && refused {
                self.cut(cx);
                return Some(Poll::Ready(()));
            }
            if room != Room::Enough
                && followed.extending.is_none()
                && let Some(output) = meter.output()
            {
                followed.extending = Some(followed.allowance.extend(&exchange.gateway, output));
            }
            if room == Room::Out {
                let waits = followed
                    .extending
                    .as_mut()
                    .map(|extending| extending.as_mut().poll(cx));
                followed.held_back = Some(event);
                match waits {
                    Some(Poll::Ready(extended)) => {
                        followed.extending = None;
                        if !followed.allowance.extended(extended) {
                            self.cut(cx);
                            return Some(Poll::Ready(()));
                        }
                        continue;
                    }
                    _ => {
                        return Some(if moved {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        });
                    }
                }
            }
            moved = true;
            self.ready.push(event);
        }
        self.nothing_waits(cx).or(moved.then_some(Poll::Ready(())))
    }

    /// Takes note that the upstream has ended, if it has, and goes on with what waits.
    pub(super) fn go_on_following(
        &mut self,
        ended: Option<Result<(), AnswerError>>,
        cx: &mut Context<'_>,
    ) {
        if let Some(followed) = &mut self.followed
            && ended.is_some()
        {
            followed.ended = ended;
            let begun = followed.begun.split().freeze();
            followed
                .waiting
                .extend(Some(begun).filter(|begun| !begun.is_empty()));
            self.upstream = None;
        }
        // Where it has to wait, its own waker goes on.
        let _ = self.poll_followed(cx);
    }

    /// All that came has been passed on: the stream may be over.
    fn nothing_waits(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let followed = self.followed.as_mut()?;
        if let Some(result) = followed.ended.take() {
            self.followed = None;
            self.end(result, cx);
            return Some(Poll::Ready(()));
        }
        if self.meter.as_deref().is_some_and(Meter::is_complete) {
            self.followed = None;
            self.settle(End::Complete, Outcome::Completed, cx);
            return Some(Poll::Ready(()));
        }
        None
    }

    /// Ends the stream before the event that is held back; the upstream is told to stop by losing its connection.
    fn cut(&mut self, cx: &mut Context<'_>) {
        self.upstream = None;
        if let (Some(followed), Some(meter), Some(exchange)) =
            (&mut self.followed, &mut self.meter, &mut self.exchange)
        {
            followed.waiting.clear();
            followed.held_back = None;
            followed.extending = None;
            exchange.cut = Some(followed.allowance.cut(&exchange.gateway));
            let shows_usage = exchange.question.ask.asks_usage();
            followed.last = meter.take_stop().map(|stop| (stop, shows_usage));
        }
        self.ended = Some(Ok(()));
        self.settle(End::Aborted, Outcome::Completed, cx);
    }
}

/// Where the first event ends in `data`, which follows on `begun`.
fn event_end(begun: &[u8], data: &[u8]) -> Option<usize> {
    // A blank line may be cut in two: its beginning is in what came before.
    let before = begun
        .get(begun.len().saturating_sub(3)..)
        .unwrap_or_default();
    if !before.is_empty() {
        let mut seam = before.to_vec();
        seam.extend_from_slice(data.get(..data.len().min(3)).unwrap_or_default());
        if let Some(end) = blank_line(&seam)
            && end > before.len()
        {
            return Some(end - before.len());
        }
    }
    blank_line(data)
}

/// The end of the first blank line: lines end with LF, CR LF, or CR.
fn blank_line(data: &[u8]) -> Option<usize> {
    let mut end = memmem::find(data, b"\n\n").map(|at| at + 2);
    for blank in [b"\n\r\n".as_slice(), b"\r\r"] {
        let until = end.unwrap_or(data.len());
        let other = memmem::find(data.get(..until)?, blank).map(|at| at + blank.len());
        end = other.or(end);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_is_found_wherever_the_network_cuts_it() {
        let stream = b"data: a\n\ndata: b\r\n\r\n: c\n\ndata: d\r\rrest";
        let expected = [
            "data: a\n\n",
            "data: b\r\n\r\n",
            ": c\n\n",
            "data: d\r\r",
            "rest",
        ];
        for size in 1..stream.len() {
            let (mut begun, mut events) = (BytesMut::new(), Vec::new());
            for chunk in stream.chunks(size) {
                let mut data = Bytes::copy_from_slice(chunk);
                while let Some(end) = event_end(&begun, &data) {
                    let rest = data.split_off(end);
                    begun.extend_from_slice(&data);
                    events.push(begun.split().freeze());
                    data = rest;
                }
                begun.extend_from_slice(&data);
            }
            events.push(begun.freeze());
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}
