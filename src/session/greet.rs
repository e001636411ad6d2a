//! What comes before HTTP and TLS: the PROXY protocol header of a balancer in front of this one.

use std::net::SocketAddr;
use std::time::Instant;

use crate::net::Stream;
use crate::plan::Listener;
use crate::proto::proxy_header;

/// Larger than any header that is taken.
const ROOM: usize = 4096;

/// A client that has been greeted.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Its address, told by the PROXY header where there is one.
    pub(super) peer: Option<SocketAddr>,
    /// What came behind the header already.
    pub(super) rest: Vec<u8>,
}

/// Reads the PROXY header if one must come. `None` if it did not, or not in time.
pub(super) fn greet(
    listener: &Listener,
    stream: &Stream,
    peer: Option<SocketAddr>,
    began: Instant,
) -> Option<Greeting> {
    let expected = match peer {
        Some(peer) => listener
            .proxy_protocol
            .iter()
            .any(|network| network.contains(&peer.ip())),
        // Who may connect to a Unix socket is the file system's business.
        None => !listener.proxy_protocol.is_empty(),
    };
    if !expected {
        return Some(Greeting { peer, rest: Vec::new() });
    }
    let until = began + listener.timeout.handshake;
    let mut buffer = vec![0; ROOM];
    let mut filled = 0;
    loop {
        let left = until.checked_duration_since(Instant::now())?;
        stream.set_read_timeout(left).ok()?;
        let room = buffer.get_mut(filled..).filter(|room| !room.is_empty())?;
        match stream.read(room) {
            Ok(0) | Err(_) => return None,
            Ok(read) => filled += read,
        }
        match proxy_header::parse(&buffer[..filled]) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let peer = header.addresses.map_or(peer, |(source, _)| Some(source));
                return Some(Greeting {
                    peer,
                    rest: buffer[header.length..filled].to_vec(),
                });
            }
            Err(_) => {
                log::info!(
                    "{}: {peer:?} sent no PROXY header, though it should have",
                    listener.name
                );
                return None;
            }
        }
    }
}
