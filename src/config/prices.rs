//! `[prices]` and the price files: TOML to [`crate::price`]'s rows.

/// What a model without a price gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// It is served, and recorded as unpriced.
    Allow,
    /// It is refused with `unpriced_model`.
    Reject,
}
