//! Quotas in this process.
