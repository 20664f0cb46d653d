//! Stores that break one promise each, by wrapping a sound one.
