//! Juggler: a fixed-worker-pool HTTP load balancer with persistent server connections.
//!
//! Each module imports only modules of lower layers (`docs/architecture.md` lists them;
//! `tests/it/layers.rs` checks it).

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        reason = "a test chooses its own moments"
    )
)]

pub mod app;
pub mod balance;
pub mod base;
pub mod config;
pub mod exchange;
pub mod fault;
pub mod filter;
pub mod health;
pub mod http;
pub mod net;
pub mod observe;
pub mod pipeline;
pub mod plan;
pub mod proto;
pub mod retry;
pub mod route;
pub mod session;
pub mod state;
pub mod sys;
pub mod threads;
pub mod upstream;
