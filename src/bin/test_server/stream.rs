//! Sockets: TCP or Unix.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::system::named;

/// A socket that accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

impl Listener {
    /// Binds `HOST:PORT` or `unix:/path`.
    pub(crate) fn bind(address: &str) -> io::Result<Self> {
        // The backlog of std (128) would lose connections when thousands come at once.
        const BACKLOG: i32 = 16384;
        let bound = || -> io::Result<Self> {
            if let Some(path) = address.strip_prefix("unix:") {
                // A killed server leaves a socket file without a listener.
                if UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
                {
                    std::fs::remove_file(path)?;
                }
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                socket.listen(BACKLOG)?;
                return Ok(Self::Unix(socket.into(), path.to_owned()));
            }
            let address = std::net::ToSocketAddrs::to_socket_addrs(address)?
                .next()
                .ok_or_else(|| io::Error::other("the name has no address"))?;
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(Self::Tcp(socket.into()))
        };
        bound().map_err(|problem| named(&address, &problem))
    }

    /// Returns where the listener is bound.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "?".into(), |address| address.to_string()),
            Self::Unix(_, path) => format!("unix:{path}"),
        }
    }

    /// Accepts the next connection.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Makes the following close reset the connection.
    pub(crate) fn reset_on_close(&self) {
        // A Unix socket has no reset, only the close.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    /// Ends the sending side.
    pub(crate) fn shut(&self, how: Shutdown) {
        // Fails when the other side was faster.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    /// Limits how long a read may take.
    pub(crate) fn read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Unix(stream) => stream.set_read_timeout(limit),
        }
    }

    /// Waits for bytes to read, or for the other side to leave.
    pub(crate) fn wait(&self, limit: Duration) -> Waited {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.as_fd(), PollFlags::POLLIN | LEFT)];
        if poll(&mut polled, limit).unwrap_or(0) == 0 {
            return Waited::Nothing;
        }
        if is_gone(&polled[0]) {
            Waited::Gone
        } else {
            Waited::Bytes
        }
    }
}

/// The other side will send no more. Nix has no name for this event.
const LEFT: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

fn is_gone(polled: &PollFd<'_>) -> bool {
    // `None` is an event that nix does not know, so it is that one.
    polled
        .revents()
        .is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Nothing,
    Bytes,
    Gone,
}

/// Returns how many of these streams the other side has left.
pub(crate) fn count_gone<'a>(streams: impl Iterator<Item = &'a Stream>) -> usize {
    let mut polled: Vec<_> = streams
        .map(|stream| PollFd::new(stream.as_fd(), LEFT))
        .collect();
    if poll(&mut polled, PollTimeout::ZERO).unwrap_or(0) == 0 {
        return 0;
    }
    polled.iter().filter(|one| is_gone(one)).count()
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
