//! What comes before HTTP and TLS: the PROXY protocol header of a balancer in front of this one.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crate::base::address::Peer;
use crate::base::time::after;
use crate::net::Stream;
use crate::net::stream::is_timeout;
use crate::plan::Listener;
use crate::proto::proxy_header::{self, BadProxyHeader, LONGEST};

/// Bytes of room for a header. Nearly every one fits; for longer ones more room is made.
const ROOM: usize = 4096;

/// A client that has been greeted.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Its address, told by the PROXY header where there is one.
    pub(super) peer: Option<SocketAddr>,
    /// The client is behind another balancer that does not tell its address: `peer` is that
    /// balancer's.
    pub(super) is_of_unknown: bool,
    /// The bytes that came behind the header already.
    pub(super) first: Vec<u8>,
}

impl Greeting {
    /// Returns whether what this client says of others counts. What an unknown client says does
    /// not, even if the other balancer is trusted: few balancers that send a PROXY header read
    /// HTTP, so the requests are not theirs.
    pub(super) fn is_trusted(&self, listener: &Listener) -> bool {
        !self.is_of_unknown
            && listener
                .forwarded
                .trusted
                .contains(self.peer.map(|peer| peer.ip()))
    }
}

/// Reads the PROXY header if one must come. `None` if none came in time, which is logged.
pub(super) fn greet(
    listener: &Listener,
    stream: &Stream,
    peer: Option<SocketAddr>,
    began: Instant,
) -> Option<Greeting> {
    if !listener.proxy_protocol.contains(peer.map(|peer| peer.ip())) {
        return Some(Greeting {
            peer,
            is_of_unknown: false,
            first: Vec::new(),
        });
    }
    match read_header(listener, stream, peer, began) {
        Ok(greeting) => Some(greeting),
        Err(problem) => {
            // Some monitors connect and leave, to see whether a port is open.
            let level = if problem.is_silence() {
                log::Level::Debug
            } else {
                log::Level::Info
            };
            log::log!(level, "{}: {} {problem}", listener.name, Peer(peer));
            None
        }
    }
}

fn read_header(
    listener: &Listener,
    stream: &Stream,
    peer: Option<SocketAddr>,
    began: Instant,
) -> Result<Greeting, Problem> {
    let until = after(began, listener.timeout.handshake);
    let mut buffer = vec![0; ROOM];
    let mut filled = 0;
    loop {
        let ended = |late| Problem::Ended { filled, late };
        let left = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero());
        let left = left.ok_or_else(|| ended(true))?;
        stream.set_read_timeout(left).map_err(|_| ended(false))?;
        if filled == buffer.len() {
            // A longer header is refused before this is full.
            buffer.resize(LONGEST, 0);
        }
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(ended(false)),
            Err(error) => return Err(ended(is_timeout(&error))),
            Ok(read) => filled += read,
        }
        if let Some(header) = proxy_header::parse(&buffer[..filled]).map_err(Problem::Bad)? {
            let peer = header.addresses.map_or(peer, |(source, _)| Some(source));
            return Ok(Greeting {
                peer,
                is_of_unknown: header.addresses.is_none() && !header.is_local,
                first: buffer[header.length..filled].to_vec(),
            });
        }
    }
}

/// Why there is no header.
#[derive(Clone, Copy, Debug)]
enum Problem {
    Bad(BadProxyHeader),
    /// Nothing more came.
    Ended {
        /// Bytes that came before.
        filled: usize,
        /// The time was up.
        late: bool,
    },
}

impl Problem {
    /// The client left and had said nothing.
    fn is_silence(self) -> bool {
        matches!(
            self,
            Self::Ended {
                filled: 0,
                late: false
            }
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bad(BadProxyHeader::Missing)
            | Self::Ended {
                filled: 0,
                late: false,
            } => out.write_str("sent no PROXY header, though it should have"),
            Self::Bad(BadProxyHeader::Malformed) => {
                out.write_str("sent a PROXY header that is malformed")
            }
            Self::Bad(BadProxyHeader::TooLong(most)) => {
                write!(
                    out,
                    "sent a PROXY header that is too long: more than {most} bytes"
                )
            }
            Self::Ended {
                filled: 0,
                late: true,
            } => out
                .write_str("sent no PROXY header within timeout.handshake, though it should have"),
            Self::Ended { filled, late } => {
                let how = if late {
                    " within timeout.handshake"
                } else {
                    ""
                };
                write!(
                    out,
                    "sent a PROXY header that is not whole{how}: {filled} bytes"
                )
            }
        }
    }
}
