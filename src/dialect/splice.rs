//! The smallest change of a request body that a rule asks for.
