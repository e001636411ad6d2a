//! What a worker's connection goes over. Nothing else in this folder touches a stream.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use crate::net::Stream;
use crate::net::bell::Bell;
use crate::net::stream::Peek;

/// A connection to a server, without what is spoken over it. The worker reads and writes; other
/// threads send over a link whose worker waits, end the sending side, or break the link off.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// Bytes go over the stream as they are.
    Plain(Arc<Stream>),
    /// A server that a test plays.
    #[cfg(test)]
    Played(Arc<super::played::Played>),
}

impl From<Stream> for Link {
    fn from(stream: Stream) -> Self {
        Self::Plain(Arc::new(stream))
    }
}

#[cfg(test)]
impl From<&Arc<super::played::Played>> for Link {
    fn from(played: &Arc<super::played::Played>) -> Self {
        Self::Played(Arc::clone(played))
    }
}

impl Link {
    /// Returns whether both are the same connection.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(other)) => Arc::ptr_eq(one, other),
            #[cfg(test)]
            (Self::Played(one), Self::Played(other)) => Arc::ptr_eq(one, other),
            #[cfg(test)]
            (Self::Plain(_), Self::Played(_)) | (Self::Played(_), Self::Plain(_)) => false,
        }
    }

    /// Returns whether nothing has come, and no end.
    pub(super) fn is_quiet(&self) -> bool {
        self.peek() == Peek::Nothing
    }

    /// Looks whether bytes or an end are there, and takes nothing.
    pub(super) fn peek(&self) -> Peek {
        match self {
            Self::Plain(stream) => stream.peek_now(),
            #[cfg(test)]
            Self::Played(played) => played.peek(),
        }
    }

    /// Reads, and waits for bytes as long as [`Self::set_patience`] says. 0 bytes are the end.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            #[cfg(test)]
            Self::Played(played) => played.read(into),
        }
    }

    /// Reads what is there; [`io::ErrorKind::WouldBlock`] if nothing is.
    pub(super) fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_now(into),
            #[cfg(test)]
            Self::Played(played) => played.read_now(into),
        }
    }

    /// Writes what there is room for of these pieces; [`io::ErrorKind::WouldBlock`] if there is
    /// none.
    pub(super) fn write_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, pieces) {
            (Self::Plain(stream), [only]) => stream.write_now(only),
            (Self::Plain(stream), _) => stream.write_pieces_now(pieces),
            #[cfg(test)]
            (Self::Played(played), _) => played.write_now(pieces),
        }
    }

    /// Waits until there is something to read or, if asked for, room to write. Returns (readable,
    /// writable).
    pub(super) fn wait(&self, for_room: bool, patience: Duration) -> io::Result<(bool, bool)> {
        match self {
            Self::Plain(stream) => stream.wait(for_room, patience),
            #[cfg(test)]
            Self::Played(played) => Ok(played.wait(for_room)),
        }
    }

    /// Waits until there is room to write, at most this long.
    pub(super) fn wait_for_room(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.wait_for_room(patience),
            #[cfg(test)]
            Self::Played(played) => {
                played.wait(true);
                Ok(())
            }
        }
    }

    /// Waits until `bell` is rung, or until there is something to read or an end; at most this
    /// long.
    pub(super) fn wait_or_bell(&self, bell: &Bell, patience: Duration) {
        match self {
            Self::Plain(stream) => bell.wait(Some(stream), patience),
            #[cfg(test)]
            Self::Played(_) => bell.wait(None, patience),
        }
    }

    /// From now on [`Self::read`] waits this long.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_read_timeout(patience),
            #[cfg(test)]
            Self::Played(played) => {
                played.set_patience(patience);
                Ok(())
            }
        }
    }

    /// Ends the sending side. What the server says to that is still read.
    pub(super) fn end(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends both sides at once, whatever is on its way: a worker that waits for the server goes on.
    pub(super) fn break_off(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Plain(stream) => stream.shutdown(how),
            #[cfg(test)]
            Self::Played(played) => played.shutdown(how),
        }
    }
}
