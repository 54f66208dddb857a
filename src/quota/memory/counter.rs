//! One counter: what each of its windows holds.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use crate::period::WindowSpan;
use crate::plan::Window;
use crate::quota::chain::Rule;
use crate::quota::{CounterState, Denied};

/// What one limit's counter holds, by window; for a rolling window, by its parts.
#[derive(Debug)]
pub(super) struct Counter {
    /// The rule that touched it last.
    rule: Arc<Rule>,
    /// The cell of the latest start, which nearly every call is about: it lies here and not behind a pointer.
    newest: Option<Cell>,
    /// The others, ascending by their start.
    older: VecDeque<Cell>,
}

/// A window, or a part of a rolling one.
#[derive(Debug)]
struct Cell {
    span: WindowSpan,
    used: i128,
    reserved: i128,
    /// The most that the whole window held when use was booked here: marks up to there were given.
    peak: i128,
    /// Reservations that will be settled here.
    holds: u32,
}

impl Counter {
    pub(super) fn new(rule: &Arc<Rule>) -> Counter {
        Counter {
            rule: Arc::clone(rule),
            newest: None,
            older: VecDeque::new(),
        }
    }

    /// Whether this is the counter of a rule: told by the pointers, so that an equal rule of another snapshot is not known.
    pub(super) fn is_of(&self, rule: &Arc<Rule>) -> bool {
        Arc::ptr_eq(&self.rule, rule) || Arc::ptr_eq(&self.rule.counter, &rule.counter)
    }

    pub(super) fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    pub(super) fn set_rule(&mut self, rule: &Arc<Rule>) {
        if rule.counts && !Arc::ptr_eq(&self.rule, rule) {
            self.rule = Arc::clone(rule);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none() && self.older.is_empty()
    }

    /// What a window holds.
    pub(super) fn sum(&self, window: WindowSpan) -> CounterState {
        let mut state = CounterState::default();
        for cell in self.within(window) {
            state.used = state.used.saturating_add(cell.used);
            state.reserved = state.reserved.saturating_add(cell.reserved);
        }
        state
    }

    /// The most that a window has held so far, as far as marks were looked at.
    pub(super) fn peak(&self, window: WindowSpan) -> i128 {
        self.within(window).map(|cell| cell.peak).max().unwrap_or(0)
    }

    /// Notes what the window holds now as its peak, in the cell where it was booked.
    pub(super) fn mark_peak(&mut self, window: WindowSpan, cell: WindowSpan) {
        let used = self.sum(window).used;
        if let Some(cell) = self.find(cell) {
            cell.peak = cell.peak.max(used);
        }
    }

    /// Why `need` more does not fit, if it does not.
    pub(super) fn refusal(
        &self,
        bound: usize,
        window: WindowSpan,
        rule: &Rule,
        state: CounterState,
        need: i128,
    ) -> Option<Denied> {
        let max = rule.max.units();
        let settled = state.used.saturating_add(need);
        let wanted = settled.saturating_add(state.reserved);
        (wanted > max).then(|| Denied {
            bound,
            settled: settled > max,
            retry_at: self.free_at(window, wanted - max, need > max),
        })
    }

    /// When at least `excess` will have left the window.
    fn free_at(&self, window: WindowSpan, excess: i128, never: bool) -> Option<Timestamp> {
        let at_ms = match self.rule.per {
            _ if never => None,
            None => None,
            Some(Window::Rolling(_)) => {
                let length_ms = self.rule.rolling_ms();
                let mut left: i128 = 0;
                self.within(window).find_map(|cell| {
                    left = left.saturating_add(cell.used).saturating_add(cell.reserved);
                    (left >= excess).then(|| cell.span.end_ms.saturating_add(length_ms))
                })
            }
            Some(_) => Some(window.end_ms),
        };
        at_ms.and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok())
    }

    /// Books a new reservation.
    pub(super) fn hold(&mut self, cell: WindowSpan, units: i128) {
        self.book(cell, |cell| {
            cell.reserved = cell.reserved.saturating_add(units);
            cell.holds = cell.holds.saturating_add(1);
        });
    }

    /// Changes what an open reservation holds.
    pub(super) fn hold_more(&mut self, cell: WindowSpan, units: i128) {
        self.book(cell, |cell| {
            cell.reserved = cell.reserved.saturating_add(units);
        });
    }

    /// Ends a reservation: what it held goes, what was used comes.
    pub(super) fn end(&mut self, cell: WindowSpan, held: i128, used: i128) {
        self.book(cell, |cell| {
            cell.reserved = cell.reserved.saturating_sub(held);
            cell.used = cell.used.saturating_add(used);
            cell.holds = cell.holds.saturating_sub(1);
        });
    }

    /// Books use that no reservation stands for.
    pub(super) fn add(&mut self, cell: WindowSpan, used: i128) {
        self.book(cell, |cell| cell.used = cell.used.saturating_add(used));
    }

    /// Drops windows that are over. Each is kept for as long again as it lasted (a rolling window's part for twice the
    /// window), so that a clock may step back, and for as long as a reservation will be settled there.
    pub(super) fn retire(&mut self, now_ms: i64) {
        let rolling_ms = self.rule.rolling_ms();
        let is_over = |cell: &Cell| {
            let kept_ms = match rolling_ms {
                0 => cell.span.duration_ms(),
                length_ms => length_ms.saturating_mul(2),
            };
            let over = cell.span.end_ms.saturating_add(kept_ms) <= now_ms
                || cell.span == WindowSpan::ALWAYS;
            cell.holds == 0 && over
        };
        while self.older.front().is_some_and(is_over) {
            self.older.pop_front();
        }
        if self.older.is_empty() && self.newest.as_ref().is_some_and(is_over) {
            self.newest = None;
        }
    }

    /// Forgets one cell, or all.
    pub(super) fn forget(&mut self, cell: Option<WindowSpan>) {
        let goes = |other: &Cell| cell.is_none_or(|span| other.span == span);
        self.older.retain(|cell| !goes(cell));
        if self.newest.as_ref().is_some_and(goes) {
            self.newest = self.older.pop_back();
        }
    }

    /// The cells that count in a window: exactly that one, or of a rolling window those that are not wholly older.
    fn within(&self, window: WindowSpan) -> impl Iterator<Item = &Cell> {
        let rolling = self.rule.is_rolling();
        self.older.iter().chain(&self.newest).filter(move |cell| {
            if rolling {
                cell.span.end_ms > window.start_ms
            } else {
                cell.span == window
            }
        })
    }

    /// Changes a cell, which is made if it is new.
    fn book(&mut self, span: WindowSpan, change: impl FnOnce(&mut Cell)) {
        if let Some(cell) = self.find(span) {
            return change(cell);
        }
        let mut cell = Cell {
            span,
            used: 0,
            reserved: 0,
            peak: 0,
            holds: 0,
        };
        change(&mut cell);
        match &mut self.newest {
            Some(newest) if newest.span > span => {
                let at = self.older.partition_point(|cell| cell.span < span);
                self.older.insert(at, cell);
            }
            newest => self.older.extend(newest.replace(cell)),
        }
    }

    /// The newest cells are asked for most.
    fn find(&mut self, span: WindowSpan) -> Option<&mut Cell> {
        let mut cells = self.newest.iter_mut().chain(self.older.iter_mut().rev());
        cells.find(|cell| cell.span == span)
    }
}
