//! A server that a test plays, without a socket and without a clock: what it says comes in the
//! pieces that the test gives, and it takes as much as the test allows.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::net::stream::Peek;

/// What comes from the server next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// Bytes, in one piece.
    Bytes(Vec<u8>),
    /// Nothing, for as long as one read waits.
    Pause,
    /// The end of its sending side.
    End,
    /// A reset.
    Reset,
}

/// The server's side. Where nothing is said to come, the server is silent.
#[derive(Debug, Default)]
pub(super) struct Played(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    coming: VecDeque<Coming>,
    sent: Vec<u8>,
    /// Bytes that the server takes before it is asked to wait.
    room: usize,
    /// Bytes that it takes after each wait for room.
    grants: VecDeque<usize>,
    patience: Vec<Duration>,
    shutdown: Option<Shutdown>,
}

impl Played {
    /// A server that says these things and takes everything.
    pub(super) fn saying(coming: impl IntoIterator<Item = Coming>) -> Arc<Self> {
        Self::taking(usize::MAX, [], coming)
    }

    /// A server that takes `room` bytes, and so many more after each wait for room.
    pub(super) fn taking(
        room: usize,
        grants: impl IntoIterator<Item = usize>,
        coming: impl IntoIterator<Item = Coming>,
    ) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            coming: coming.into_iter().collect(),
            room,
            grants: grants.into_iter().collect(),
            ..State::default()
        })))
    }

    /// Something more comes.
    pub(super) fn say(&self, coming: Coming) {
        self.0.lock().coming.push_back(coming);
    }

    /// It takes so many bytes more after the next wait for room.
    pub(super) fn grant(&self, bytes: usize) {
        self.0.lock().grants.push_back(bytes);
    }

    /// What was sent to it.
    pub(super) fn sent(&self) -> Vec<u8> {
        self.0.lock().sent.clone()
    }

    /// How long reads were to wait, in the order in which that was set.
    pub(super) fn patience(&self) -> Vec<Duration> {
        self.0.lock().patience.clone()
    }

    /// How the link was ended, if it was.
    pub(super) fn how_ended(&self) -> Option<Shutdown> {
        self.0.lock().shutdown
    }

    pub(super) fn peek(&self) -> Peek {
        let state = self.0.lock();
        match state.coming.front() {
            _ if state.shutdown == Some(Shutdown::Both) => Peek::Ended,
            Some(Coming::Bytes(_)) => Peek::Bytes,
            Some(Coming::End | Coming::Reset) => Peek::Ended,
            Some(Coming::Pause) | None => Peek::Nothing,
        }
    }

    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.shutdown == Some(Shutdown::Both) {
            return Ok(0);
        }
        match state.coming.pop_front() {
            Some(Coming::Bytes(mut bytes)) => {
                let part = bytes.len().min(into.len());
                into[..part].copy_from_slice(&bytes[..part]);
                if part < bytes.len() {
                    state
                        .coming
                        .push_front(Coming::Bytes(bytes.split_off(part)));
                }
                Ok(part)
            }
            Some(Coming::End) => {
                state.coming.push_front(Coming::End);
                Ok(0)
            }
            Some(Coming::Reset) => {
                state.coming.push_front(Coming::Reset);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Coming::Pause) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        match self.peek() {
            Peek::Nothing => Err(io::ErrorKind::WouldBlock.into()),
            Peek::Bytes | Peek::Ended => self.read(into),
        }
    }

    pub(super) fn write_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.shutdown.is_some() || state.coming.front() == Some(&Coming::Reset) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = 0;
        for piece in pieces {
            let part = piece.len().min(state.room);
            state.sent.extend_from_slice(&piece[..part]);
            state.room -= part;
            written += part;
        }
        Ok(written)
    }

    pub(super) fn wait(&self, for_room: bool) -> (bool, bool) {
        let readable = self.peek() != Peek::Nothing;
        let mut state = self.0.lock();
        if for_room
            && state.room == 0
            && let Some(more) = state.grants.pop_front()
        {
            state.room = more;
        }
        (readable, for_room && state.room > 0)
    }

    pub(super) fn set_patience(&self, patience: Duration) {
        self.0.lock().patience.push(patience);
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        self.0.lock().shutdown = Some(how);
    }
}
