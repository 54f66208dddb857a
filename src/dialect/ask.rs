//! What a request asks, found without building a tree of its body.
