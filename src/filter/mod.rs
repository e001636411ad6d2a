//! Changes to heads on their way. Pure.

pub mod forwarded;
