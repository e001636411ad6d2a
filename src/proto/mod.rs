//! Codecs: pure, incremental, fuzzed. None of them does I/O, reads a clock or panics on any input.

pub mod h1;
pub mod proxy_header;
