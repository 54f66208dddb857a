//! What both ends of an HTTP/1.1 connection do alike (RFC 9112): header fields, where a body ends, reading and writing without
//! buffers of a connection's own.

pub mod fields;
pub mod framing;
mod reading;
mod writing;

pub(crate) use reading::{joined, poll_read};
pub(crate) use writing::Pieces;
