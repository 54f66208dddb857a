//! Margins: figures of reports against the same figures computed by another method.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds on fails the test"
)]

mod advise;
mod books;
mod headlines;
mod ledger;
mod projection;
mod reconcile;
mod reprice;
mod scenario;
mod whatif;
mod world;
