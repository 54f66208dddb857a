//! How an error looks in each dialect.
