//! One request and its response, the client's side that the response goes out on, and what both
//! share.

mod answer;
mod body;
mod client;
mod courier;
#[allow(
    clippy::module_inception,
    reason = "the room is called by what it is for"
)]
mod exchange;
mod hub;
mod listener;
mod lost;
mod outbox;
mod places;
#[cfg(test)]
pub(crate) mod played;
mod registry;
mod reply;
mod request;
mod rescue;
mod say;
mod service;
mod spool;
mod state;
mod switch;

pub use answer::Answer;
pub use body::{Body, Piece};
pub use client::{Fed, Left, Opened, Origin, Scratch, Sent, TlsError};
pub use courier::Couriers;
pub use exchange::{Client, Exchange};
pub use hub::{Hub, HubSettings};
pub use listener::OpenListener;
pub use places::Permit;
pub use registry::{Holds, Registry, Short};
pub use request::Request;
pub use service::{Admission, Pass, Promise, Service};
pub use spool::Spool;
pub use state::{Destination, State, Times};
pub use switch::{Decision, FarEnd, Switched, Switching, switch};
