//! Heads on their way: what is changed in them, and what is read from them. Pure.

pub mod client_key;
pub mod forwarded;
