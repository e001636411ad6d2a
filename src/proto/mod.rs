//! Codecs: pure, incremental, fuzzed. They do no I/O, read no clock and panic on no input.

#[doc(hidden)]
pub mod check;
pub mod deadline;
pub mod h1;
pub mod proxy_header;
