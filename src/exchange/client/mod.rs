//! A client's connection as both sides use it: its session reads, and the thread that says the
//! response of the open exchange writes. What goes out goes over the *wire*; *h1* orders whose turn
//! it is, and knows how a response looks in HTTP/1.

mod h1;
mod wire;

pub use h1::{Left, Opened, Scratch};
pub use wire::{Fed, Origin, Sent, TlsError};

pub(super) use h1::{Asked, Client, H1Reply};
pub(super) use wire::Ending;

/// What tests of exchanges need of a client.
#[cfg(test)]
pub(super) mod played {
    use std::sync::Arc;
    use std::time::Instant;

    use crate::exchange::hub::Hub;

    use super::h1::{Client, Turn};
    use super::wire::{Ending, Transport, Wire, support::origin};

    pub(in crate::exchange) use super::wire::played::{Meets, Played};
    pub(in crate::exchange) use super::wire::support::{Limits, hub};

    /// A client over a played wire.
    pub(in crate::exchange) fn over<E: Ending>(
        played: &Arc<Played>,
        hub: &Arc<Hub>,
        limits: Limits,
    ) -> Arc<Client<E>> {
        let transport = Transport::Played(Arc::clone(played));
        let now = Instant::now();
        Wire::over(transport, hub, origin(limits), None, Turn::Free, now)
    }
}
