//! Integration tests: the real programs, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "that is how a test says no"
)]

mod basic;
mod forwarding;
mod harness;
mod layers;
mod life;
mod requests_accepted;
mod requests_refused;
mod responses;
mod settings;
mod start;
mod support;
mod test_servers;
mod tls;
