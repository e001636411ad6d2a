//! What can be seen from outside: accounts, counters and the access log.

pub mod access;
pub mod account;
pub mod counters;
pub mod sink;
