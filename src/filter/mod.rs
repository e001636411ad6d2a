//! What is changed in heads on their way, and what is read from them. Pure.

pub mod client_key;
pub mod forwarded;
pub mod look_alikes;
pub mod who;
