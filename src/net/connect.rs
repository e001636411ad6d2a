//! Connecting to servers.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::base::time::after;
use crate::plan::ServerAddress;

use super::Stream;

/// The pauses between attempts to join the backlog of a Unix socket that is full: the first one,
/// doubled each time, up to the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Connects within `timeout`.
pub fn connect(address: &ServerAddress, timeout: Duration) -> io::Result<Stream> {
    match address {
        ServerAddress::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, timeout)?;
            if stream.local_addr()? == *address {
                // A connect to a port of the ephemeral range without a listener can, rarely, reach
                // itself.
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(30))
                .with_interval(Duration::from_secs(10));
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            let stream = Stream::Tcp(stream);
            stream.set_nodelay();
            Ok(stream)
        }
        ServerAddress::Unix(path) => connect_unix(path, timeout),
        ServerAddress::Name { .. } => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name is not resolved yet",
        )),
    }
}

/// A Unix socket connects or fails at once, except where the backlog is full (unix(7)). There a
/// blocking `connect()` would wait without a limit. A nonblocking one returns
/// [`io::ErrorKind::WouldBlock`], and no event tells when there is room, so this function polls.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<Stream> {
    let until = after(Instant::now(), timeout);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    let mut pause = LOOK.0;
    loop {
        match socket.connect(&address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the backlog is full",
                    ));
                }
                std::thread::sleep(pause.min(left));
                pause = (pause * 2).min(LOOK.1);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(Stream::Unix(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backlog_is_waited_for_and_given_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let address = ServerAddress::Unix(path);
        let timeout = Duration::from_millis(60);
        let mut connected = Vec::new();
        let failure = loop {
            match connect(&address, timeout) {
                Ok(stream) => connected.push(stream),
                Err(error) => break error,
            }
            assert!(connected.len() < 10, "the backlog never fills up");
        };
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
        // A waiting connect uses room that becomes free.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| connect(&address, Duration::from_secs(20)).is_ok());
            listener.accept().unwrap();
            assert!(waiting.join().unwrap());
        });
    }
}
