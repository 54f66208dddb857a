//! Counting tokens where the provider does not report them: answers that were cut off, servers that send no usage, and the
//! reservation of a request before it is sent.
//!
//! A provider's own report always wins over a count. What was counted says so in the ledger (`usage_source`): `counted`
//! where the model's tokenizer is known and the request is plain text in a known framing, `estimated` where a part of it
//! (an image, a tool's schema, another provider's vocabulary) could only be guessed.

mod answer;
mod chat;
mod claude;
mod counter;
mod encoding;
mod extent;
mod json;
mod media;
mod request;
mod running;
mod tally;
mod tools;

use answer::estimate_output;
pub use answer::output_tokens;
pub use counter::{Counter, CounterSettings};
pub use encoding::{Encoding, Tokenizer, warm_up};
pub use extent::Extent;
pub(crate) use media::{COMMON_BYTES_A_SECOND, LEAST_BYTES_A_SECOND, sound_seconds};
pub use request::{INLINE_BYTES_MAX, input_tokens, upper_bound_input};
pub use running::Running;

use crate::tokens::UsageSource;

/// Text beyond this is estimated by its length: no request or answer costs more than about half a second of one core.
pub const COUNTED_BYTES_MAX: usize = 8 << 20;

/// A number of tokens, and whether it is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The tokens.
    pub tokens: u64,
    /// [`UsageSource::Counted`] or [`UsageSource::Estimated`].
    pub source: UsageSource,
}
