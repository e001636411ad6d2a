//! A client that a test plays, without a clock: its socket takes as many bytes as the test allows,
//! and fails when it is told to.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::net::Stream;

/// What a write meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exchange) enum Meets {
    /// Room for so many bytes, none of which are left for the next write.
    Room(usize),
    /// No room.
    Full,
    /// The connection is broken.
    Broken,
}

/// The client's side. Where nothing is said of a write, the socket takes everything.
#[derive(Debug)]
pub(in crate::exchange) struct Played {
    state: Mutex<State>,
    /// A socket to be watched, which is always ready. Nothing is sent over it.
    stream: Stream,
    _other_end: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    writes: VecDeque<Meets>,
    /// What a write meets once there are no others.
    then: Option<Meets>,
    received: Vec<u8>,
    /// How many bytes the kernel has that the client has not taken.
    queued: u64,
    shutdowns: Vec<Shutdown>,
    is_reset: bool,
    waits: usize,
}

impl Played {
    /// A client whose socket meets these writes, and takes everything afterwards.
    pub(in crate::exchange) fn meeting(writes: impl IntoIterator<Item = Meets>) -> Arc<Self> {
        let (stream, other_end) = UnixStream::pair().unwrap();
        Arc::new(Self {
            state: Mutex::new(State {
                writes: writes.into_iter().collect(),
                ..State::default()
            }),
            stream: Stream::Unix(stream),
            _other_end: other_end,
        })
    }

    /// From now on, writes of which nothing else is said meet this.
    pub(in crate::exchange) fn then(&self, meets: Meets) {
        self.state.lock().then = Some(meets);
    }

    /// The next writes meet these.
    pub(in crate::exchange) fn meet(&self, writes: impl IntoIterator<Item = Meets>) {
        self.state.lock().writes.extend(writes);
    }

    /// What it has received.
    pub(in crate::exchange) fn received(&self) -> Vec<u8> {
        self.state.lock().received.clone()
    }

    /// How its connection was ended, in order.
    pub(in crate::exchange) fn shutdowns(&self) -> Vec<Shutdown> {
        self.state.lock().shutdowns.clone()
    }

    /// Returns whether its connection is reset once it is closed.
    pub(in crate::exchange) fn is_reset(&self) -> bool {
        self.state.lock().is_reset
    }

    /// How often a thread waited for room.
    pub(in crate::exchange) fn waits(&self) -> usize {
        self.state.lock().waits
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn write_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let meets = state.writes.pop_front().or(state.then);
        let room = match meets {
            None => usize::MAX,
            Some(Meets::Room(room)) if room > 0 => room,
            Some(Meets::Room(_) | Meets::Full) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(Meets::Broken) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut written = 0;
        for piece in pieces {
            let part = piece.len().min(room - written);
            state.received.extend_from_slice(&piece[..part]);
            written += part;
        }
        Ok(written)
    }

    pub(super) fn wait_for_room(&self) -> io::Result<()> {
        self.state.lock().waits += 1;
        Ok(())
    }

    pub(super) fn queued(&self) -> Option<u64> {
        Some(self.state.lock().queued)
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        self.state.lock().shutdowns.push(how);
    }

    pub(super) fn reset_on_close(&self) {
        self.state.lock().is_reset = true;
    }
}
