//! What a wire sends over.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Duration;

use crate::net::Stream;

/// A client's connection, without what is said over it. Each method of the writing side is at most
/// one system call.
#[derive(Debug)]
pub(in crate::exchange) enum Transport {
    /// A socket.
    Socket(Stream),
    /// A client that a test plays.
    #[cfg(test)]
    Played(std::sync::Arc<super::played::Played>),
}

impl Transport {
    /// The socket, for the reading side and for the courier that watches it.
    pub(super) fn stream(&self) -> &Stream {
        match self {
            Self::Socket(stream) => stream,
            #[cfg(test)]
            Self::Played(played) => played.stream(),
        }
    }

    /// Sends what there is room for; [`io::ErrorKind::WouldBlock`] if there is none.
    pub(in crate::exchange) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.write_now(bytes),
            #[cfg(test)]
            Self::Played(played) => played.write_now(&[IoSlice::new(bytes)]),
        }
    }

    /// [`Self::write_now`] for several pieces at once.
    pub(super) fn write_pieces_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.write_pieces_now(pieces),
            #[cfg(test)]
            Self::Played(played) => played.write_now(pieces),
        }
    }

    /// Waits until there is room.
    pub(super) fn wait_for_room(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Socket(stream) => stream.wait_for_room(patience),
            #[cfg(test)]
            Self::Played(played) => played.wait_for_room(),
        }
    }

    /// Bytes that the kernel has taken and the client has not; `None` if the system does not tell.
    pub(super) fn queued(&self) -> Option<u64> {
        match self {
            Self::Socket(stream) => stream.queued(),
            #[cfg(test)]
            Self::Played(played) => played.queued(),
        }
    }

    /// Ends one side or both.
    pub(super) fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Socket(stream) => stream.shutdown(how),
            #[cfg(test)]
            Self::Played(played) => played.shutdown(how),
        }
    }

    /// Makes the close reset the connection, so that a part cannot look like the whole.
    pub(super) fn reset_on_close(&self) {
        match self {
            Self::Socket(stream) => stream.reset_on_close(),
            #[cfg(test)]
            Self::Played(played) => played.reset_on_close(),
        }
    }
}
