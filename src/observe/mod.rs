//! What can be seen from outside: counters and the access log.

pub mod access;
pub mod counters;
pub mod sink;
