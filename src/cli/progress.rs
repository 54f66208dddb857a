//! A progress bar on a terminal, and nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows on standard error how much of the ledger has been read. It is gone when dropped.
pub(super) struct Reading(ProgressBar);

impl Reading {
    /// A bar that appears only where standard error is a terminal.
    pub(super) fn new() -> Reading {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) =
            ProgressStyle::with_template("reading the ledger {wide_bar} {percent} % {eta}")
        {
            bar.set_style(style);
        }
        Reading(bar)
    }

    /// Moves the bar: so much of so much has been read.
    pub(super) fn show(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }
}

impl Default for Reading {
    fn default() -> Reading {
        Reading::new()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
