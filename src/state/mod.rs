//! What outlives a restart: the servers that are kept out of use.

pub mod held;
mod keeper;

pub use keeper::Keeper;
