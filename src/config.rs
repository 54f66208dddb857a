//! One TOML file becomes domain types, once; every mistake is shown at once.
