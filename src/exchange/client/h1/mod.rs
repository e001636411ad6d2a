//! HTTP/1 to a client: the turn of the exchanges, and how a response is written.
//!
//! One exchange is open at a time. It may be written to until its last bytes are handed in, which
//! closes it *before* they are sent, so that the client's next request never finds it open.

mod render;
mod reply;
mod scratch;
mod talk;
#[cfg(test)]
mod tests;
mod turn;

pub use scratch::Scratch;
pub use turn::{Left, Opened};

pub(in crate::exchange) use reply::{Asked, H1Reply};
pub(in crate::exchange) use talk::Client;
#[cfg(test)]
pub(in crate::exchange) use turn::Turn;
