//! The hash map of what every request looks up.

/// A map with a quick hash, seeded at random in each process, so that clients cannot choose keys that collide. The standard
/// library's takes four times as long for keys of a few bytes, and a request looks up some thirty.
pub type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
