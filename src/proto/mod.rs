//! Codecs: pure, incremental, fuzzed. None of them does I/O, reads a clock or panics on any input.

#[doc(hidden)]
pub mod check;
pub mod deadline;
pub mod h1;
pub mod proxy_header;
