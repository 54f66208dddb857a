//! The ledger: one entry for each request, handed to the operating system before the client sees the end.

pub mod entry;
pub mod store;

pub use entry::{Entry, Outcome};
