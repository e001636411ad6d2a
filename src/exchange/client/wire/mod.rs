//! The wire to one client: the stream, TLS, the outbox, and which thread may write. It knows
//! nothing of HTTP, and of exchanges only that they end when their last byte is delivered
//! ([`Ending`]).
//!
//! One lock orders everything that goes out: TLS, the outbox, and what the wire's user guards with
//! the same lock ([`Guarded`]), which is the turn. TLS is in it because reading may have to write
//! (key updates, alerts) and both must keep one order; with one lock there is no order of locks to
//! get wrong. Nothing blocks under it: sending takes only what the socket has room for, the rest
//! goes to the outbox. Bytes are even sent outside it ([`Writer`](writer::Writer)): a client that
//! has its response asks again at once, and its session is not to wait for the end of the system
//! call that sent it.

mod deliver;
mod ending;
mod marks;
mod pace;
#[cfg(test)]
pub(in crate::exchange) mod played;
mod push;
mod shared;
#[cfg(test)]
pub(in crate::exchange) mod support;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod writer;

pub use shared::{Origin, Sent};
pub use tls::{Fed, TlsError};

pub(in crate::exchange) use ending::Ending;
pub(in crate::exchange) use push::Without;
pub(in crate::exchange) use shared::{End, Guarded, Wire};
pub(in crate::exchange) use transport::Transport;
