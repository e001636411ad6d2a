//! Integration tests: the real programs, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by a panic"
)]

mod aborts;
mod access_log;
mod accounts;
mod bad_servers;
mod basic;
mod buckets;
mod buffers;
mod client_keys;
mod command_line;
mod connect;
mod descriptors;
mod error_pages;
mod forwarding;
mod harness;
mod health;
mod health_states;
mod hostile;
mod hosts;
mod lane;
mod layers;
mod life;
mod logs;
mod look_alikes;
mod misplaced;
mod names;
mod numbers;
mod odd_servers;
mod overload;
#[cfg(feature = "panic_points")]
mod panics;
#[cfg(feature = "panic_points")]
mod panics_apart;
mod paths;
mod pipelining;
mod probes_apart;
mod real_clients;
mod real_servers;
mod reload;
mod requests_accepted;
mod requests_refused;
mod responses;
mod retry;
mod room;
mod scheduling;
mod settings;
mod settings_scheduling;
mod slow_clients;
mod socket_file;
mod start;
mod stopping;
mod storms;
mod style;
mod support;
mod test_servers;
mod tickets;
mod tls;
mod tls_records;
mod tunnels;
mod undelivered;
mod waiting;
mod waits;
mod weights;
mod witnesses;
