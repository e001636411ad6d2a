//! What can be seen from outside: counters, the access log, and what survives a restart.

pub mod access;
pub mod counters;
pub mod held;
pub mod sink;
