//! A connected stream, TCP or Unix. The reading and the writing thread share it by reference.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use socket2::SockRef;

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// The event that the other side sends nothing more.
const ENDED: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// What a look at a connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Bytes are there to be read.
    Bytes,
    /// The other side has ended or broken the connection.
    Ended,
    /// Neither bytes nor an end.
    Nothing,
}

impl Stream {
    /// Reads, and waits for bytes up to the read timeout.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => (&*stream).read(into),
                Self::Unix(stream) => (&*stream).read(into),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads the bytes that are there. Returns [`io::ErrorKind::WouldBlock`] if there are none.
    pub fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        recv(self.fd(), into, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
    }

    /// Looks for bytes or an end without consuming them.
    pub fn peek_now(&self) -> Peek {
        let mut byte = [0];
        match recv(
            self.fd(),
            &mut byte,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK,
        ) {
            Ok(0) => Peek::Ended,
            Ok(_) => Peek::Bytes,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Peek::Nothing,
            Err(_) => Peek::Ended,
        }
    }

    /// Returns whether the other side has ended or broken the connection, even if bytes are still
    /// to be read before the end.
    pub fn has_ended(&self) -> bool {
        let mut entry = [PollFd::new(self.as_fd(), ENDED)];
        // `revents()` returns `None` for an event that nix has no name for, such as `POLLRDHUP`.
        poll(&mut entry, PollTimeout::ZERO).is_ok_and(|found| found > 0)
            && entry[0]
                .revents()
                .is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    /// Writes, and waits for room up to the write timeout.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => (&*stream).write(bytes),
                Self::Unix(stream) => (&*stream).write(bytes),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Writes as many bytes as there is room for. Returns [`io::ErrorKind::WouldBlock`] if there is
    /// no room.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        send(
            self.fd(),
            bytes,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        )
        .map_err(io::Error::from)
    }

    /// [`Self::write_now`] for several pieces in one system call.
    pub fn write_pieces_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.fd(), pieces, &[], flags, None).map_err(io::Error::from)
    }

    /// Waits for bytes to read or, if `for_room`, for room to write. Returns (readable, writable).
    pub fn wait(&self, for_room: bool, timeout: Duration) -> io::Result<(bool, bool)> {
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, for_room);
        let mut entry = [PollFd::new(self.as_fd(), wanted)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut entry, timeout) {
            Ok(_) => {}
            // The caller finds out by writing whether there is room.
            Err(nix::Error::EINTR) => return Ok((false, for_room)),
            Err(error) => return Err(error.into()),
        }
        let found = entry[0].revents().unwrap_or(PollFlags::empty());
        // The next read reports an error or a hang-up.
        let readable =
            found.intersects(PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP);
        Ok((readable, found.contains(PollFlags::POLLOUT)))
    }

    /// Returns the number of bytes that the kernel has taken and the other side has not, or `None`
    /// if the system does not tell.
    pub fn queued(&self) -> Option<u64> {
        crate::sys::queued(self.as_fd())
    }

    /// Waits for room to write, whether or not there are bytes to read.
    pub fn wait_for_room(&self, timeout: Duration) -> io::Result<()> {
        let mut entry = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut entry, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets how long [`Self::read`] waits.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Sets how long [`Self::write`] waits.
    pub fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Ends one side or both. An end before this call is not an error.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    /// Makes the following close reset the connection, so that a truncated message cannot look like
    /// a whole one.
    pub fn reset_on_close(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO)); // Unix has no reset
    }

    /// Sends small writes at once.
    pub fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true); // without the option it is only slower
        }
    }

    fn fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Returns whether a timeout of `set_read_timeout` or `set_write_timeout` has passed.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
