//! A worker: one thread, one server, one connection at a time.
//!
//! Its *life* is to connect before it is needed, to serve one exchange after the other, and to
//! connect anew when the connection is not good any more. An *attempt* sends one request and reads
//! the head of its response. The *relay* gives the response to the client. The *outcome* of a
//! failed attempt is judged by [`crate::retry`] alone. A *batch* is several attempts over one
//! connection, one turn after the other.

mod attempt;
mod batch;
mod batching;
mod connect;
mod learn;
mod life;
mod outcome;
mod probe;
mod relay;
mod state;
#[cfg(test)]
mod tests;

pub(super) use connect::is_our_own;
pub(super) use state::{Worker, limits};
