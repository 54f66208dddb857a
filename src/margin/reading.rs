//! Which rows a report reads: daily sums for whole days, hourly ones for the hours at a range's edges, single entries
//! for what is left of an hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use jiff::Timestamp;

use super::By;
use super::assemble::Frame;
use super::books::Books;
use super::days::{DAY_MS, HOUR_MS, day_number, day_start, timestamp_of};
use super::forecast::LOOK_BACK_DAYS;
use super::tally::Part;
use crate::ledger::store::{EntryFilter, Grain, RollupRow, Store, StoreError, TimeRange};
use crate::period::WindowSpan;

/// Told how much of the time to be read is done, and how much there is, both in milliseconds.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// A name and a value that a caller attributes a request to.
pub(super) type Tag = (Arc<str>, Arc<str>);

/// How a stretch of time is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Rollup(Grain),
    Entries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    source: Source,
    part: Part,
    span: WindowSpan,
}

impl Segment {
    fn len_ms(&self) -> u64 {
        self.span.duration_ms().unsigned_abs()
    }
}

/// How a report is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reads {
    /// How fine the rows must be.
    pub(super) grain: Grain,
    /// Whether the range is read entry by entry: tags are in no sum.
    pub(super) entries: bool,
    /// How far back rows before the range are wanted.
    pub(super) from_ms: i64,
}

impl Reads {
    /// What a report needs.
    pub(super) fn of(books: &Books, frame: &Frame, by: By) -> Reads {
        Reads {
            grain: match by {
                By::Key | By::Upstream => Grain::Hour,
                By::Plan | By::Account | By::Model | By::Tag | By::Day => Grain::Day,
            },
            entries: by == By::Tag,
            from_ms: history_start(books, frame),
        }
    }
}

/// Reads all rows of a report, and those before it that rates and quotas need, on a few threads: each has a state of its
/// own, made by `fresh`, and takes what it reads with `take`; it hears from `next_stretch` when it goes on with another stretch
/// of time. The states are given back, to be put together.
#[expect(
    clippy::too_many_arguments,
    reason = "what is read, and what is done with it, each in its place"
)]
pub(super) fn read<S: Send>(
    store: &dyn Store,
    frame: &Frame,
    reads: Reads,
    now: Timestamp,
    progress: Progress<'_>,
    fresh: impl Fn() -> S + Sync,
    next_stretch: impl Fn(&mut S) + Sync,
    take: impl Fn(&mut S, &RollupRow, Option<&[Tag]>, Part) + Sync,
) -> Result<Vec<S>, StoreError> {
    let pieces = pieces(frame, reads, now);
    let total: u64 = pieces.iter().map(Segment::len_ms).sum();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    // Whoever is free takes the next piece. The first error empties the queue.
    let work = |shown: &dyn Fn(u64)| -> Result<S, StoreError> {
        let mut state = fresh();
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            next_stretch(&mut state);
            let read = read_piece(store, piece, &mut |row, tags| {
                take(&mut state, row, tags, piece.part);
            });
            if let Err(error) = read {
                next.store(pieces.len(), Ordering::Relaxed);
                return Err(error);
            }
            shown(done.fetch_add(piece.len_ms(), Ordering::Relaxed) + piece.len_ms());
        }
        Ok(state)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let helpers = threads.min(pieces.len()).min(THREADS_MAX).saturating_sub(1);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers)
            .map(|_| scope.spawn(|| work(&|_| {})))
            .collect();
        let own = work(&|done| progress(done, total));
        let states = helpers.into_iter().map(|helper| match helper.join() {
            Ok(state) => state,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(own).chain(states).collect()
    })
}

/// Threads that read at once: a store serves about four readers, and others want to read too.
const THREADS_MAX: usize = 3;

/// What has to be read, cut into pieces of days.
fn pieces(frame: &Frame, reads: Reads, now: Timestamp) -> Vec<Segment> {
    let before = WindowSpan {
        start_ms: reads.from_ms,
        end_ms: frame.passed.start_ms,
    };
    let mut segments = Vec::new();
    cut(before, reads.grain, Part::Before, &mut segments);
    let mut within = frame.passed;
    if reads.entries {
        segments.push(Segment {
            source: Source::Entries,
            part: Part::Within,
            span: within,
        });
    } else {
        if within.end_ms >= now.as_millisecond() {
            // Nothing has started after now, so the running day's (or hour's) sums may be taken whole.
            within.end_ms = ceil(within.end_ms, unit(reads.grain));
        }
        cut(within, reads.grain, Part::Within, &mut segments);
    }
    let total: i64 = segments
        .iter()
        .map(|segment| segment.span.duration_ms())
        .sum();
    segments
        .into_iter()
        .flat_map(|segment| {
            chunks(segment.span, total).map(move |span| Segment { span, ..segment })
        })
        .collect()
}

fn read_piece(
    store: &dyn Store,
    piece: &Segment,
    each: &mut dyn FnMut(&RollupRow, Option<&[Tag]>),
) -> Result<(), StoreError> {
    let range = TimeRange {
        since: timestamp_of(piece.span.start_ms),
        until: timestamp_of(piece.span.end_ms),
    };
    match piece.source {
        Source::Rollup(grain) => store.rollup(grain, range, &mut |row| each(row, None)),
        Source::Entries => {
            let filter = EntryFilter {
                since: Some(range.since),
                until: Some(range.until),
                ..EntryFilter::default()
            };
            store.scan(&filter, &mut |entry| {
                each(&RollupRow::of(&entry), Some(&entry.tags));
                true
            })
        }
    }
}

/// Long stretches are read in whole days, about thirty pieces in all: so progress can be shown and threads share them.
fn chunks(span: WindowSpan, total_ms: i64) -> impl Iterator<Item = WindowSpan> {
    let step = ceil(total_ms / 32, DAY_MS).max(DAY_MS);
    let mut at = span.start_ms;
    std::iter::from_fn(move || {
        let start_ms = at;
        at = span.end_ms.min(at.saturating_add(step));
        (start_ms < at).then_some(WindowSpan {
            start_ms,
            end_ms: at,
        })
    })
}

/// How far back a report must look: to the days that rates are taken from, and to the start of the billing periods
/// whose quota is charged beyond.
fn history_start(books: &Books, frame: &Frame) -> i64 {
    let since = frame.passed.start_ms;
    let rates = day_start(day_number(frame.passed.end_ms).saturating_sub(LOOK_BACK_DAYS));
    let quotas = books
        .accounts()
        .iter()
        .flat_map(|book| &book.tenures)
        .filter(|tenure| tenure.plan.overage.is_some())
        .filter(|tenure| tenure.span.intersection(frame.passed).duration_ms() > 0)
        .map(|tenure| tenure.period(since.max(tenure.span.start_ms)).start_ms);
    quotas.fold(rates.min(since), i64::min)
}

fn unit(grain: Grain) -> i64 {
    match grain {
        Grain::Day => DAY_MS,
        Grain::Hour => HOUR_MS,
    }
}

/// Cuts a stretch of time into what can be read at the grain, and the finer pieces at its edges.
fn cut(span: WindowSpan, grain: Grain, part: Part, segments: &mut Vec<Segment>) {
    let whole = WindowSpan {
        start_ms: ceil(span.start_ms, unit(grain)),
        end_ms: floor(span.end_ms, unit(grain)),
    };
    let finer = |start_ms, end_ms, segments: &mut Vec<Segment>| {
        let span = WindowSpan { start_ms, end_ms };
        match grain {
            _ if span.duration_ms() == 0 => {}
            Grain::Day => cut(span, Grain::Hour, part, segments),
            Grain::Hour => segments.push(Segment {
                source: Source::Entries,
                part,
                span,
            }),
        }
    };
    if whole.duration_ms() == 0 {
        finer(span.start_ms, span.end_ms, segments);
        return;
    }
    finer(span.start_ms, whole.start_ms, segments);
    segments.push(Segment {
        source: Source::Rollup(grain),
        part,
        span: whole,
    });
    finer(whole.end_ms, span.end_ms, segments);
}

fn floor(ms: i64, unit: i64) -> i64 {
    ms.div_euclid(unit).saturating_mul(unit)
}

fn ceil(ms: i64, unit: i64) -> i64 {
    floor(ms.saturating_add(unit - 1), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn cut_within(span: WindowSpan) -> Vec<Segment> {
        let mut segments = Vec::new();
        cut(span, Grain::Day, Part::Within, &mut segments);
        segments
    }

    #[test]
    fn edges_of_a_range_are_read_finer_than_its_whole_days() {
        let span = WindowSpan {
            start_ms: at("2025-03-01T22:30:00Z"),
            end_ms: at("2025-03-04T01:00:00Z"),
        };
        let read: Vec<(Source, String)> = cut_within(span)
            .into_iter()
            .map(|segment| {
                let span = segment.span;
                let text = |ms| timestamp_of(ms).to_string()[8..16].to_owned();
                (
                    segment.source,
                    format!("{} {}", text(span.start_ms), text(span.end_ms)),
                )
            })
            .collect();
        let expected = [
            (Source::Entries, "01T22:30 01T23:00"),
            (Source::Rollup(Grain::Hour), "01T23:00 02T00:00"),
            (Source::Rollup(Grain::Day), "02T00:00 04T00:00"),
            (Source::Rollup(Grain::Hour), "04T00:00 04T01:00"),
        ];
        let expected: Vec<(Source, String)> = expected
            .into_iter()
            .map(|(source, text)| (source, text.to_owned()))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_range_within_an_hour_is_read_by_the_entry() {
        let span = WindowSpan {
            start_ms: at("2025-03-01T22:30:00Z"),
            end_ms: at("2025-03-01T22:45:00Z"),
        };
        let read = cut_within(span);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].source, read[0].span), (Source::Entries, span));
    }
}
