//! A client's connection as both sides use it: its session reads, and the thread that says the
//! response of the open exchange writes. What goes out goes over the *wire*; *h1* orders whose turn
//! it is, and knows how a response looks in HTTP/1.

mod h1;
mod wire;

pub use h1::{Left, Opened, Scratch};
pub use wire::{Fed, Origin, Sent, TlsError};

pub(super) use h1::{Asked, Client, H1Reply};
pub(super) use wire::Ending;
