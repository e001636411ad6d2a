//! Connecting to servers.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::plan::ServerAddress;

use super::Stream;

/// Connects, within `timeout` over TCP. (A Unix socket connects or fails at once, but for a full backlog, which
/// the timeouts of the kernel bound.)
pub fn connect(address: &ServerAddress, timeout: Duration) -> io::Result<Stream> {
    match address {
        ServerAddress::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, timeout)?;
            if stream.local_addr()? == *address {
                // A port of the ephemeral range that nobody listens on can, rarely, be connected to itself.
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
        ServerAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        ServerAddress::Name { .. } => Err(io::Error::new(io::ErrorKind::NotFound, "the name is not resolved yet")),
    }
}
