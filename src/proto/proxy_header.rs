//! PROXY protocol v1 and v2 (HAProxy's `proxy-protocol.txt`), the receiving side.

use std::net::SocketAddr;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes that it took.
    pub length: usize,
    /// Who the client is and where it came in; `None` for LOCAL and UNKNOWN.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadProxyHeader;

/// Parses the header at the start of `buffer`; `None` if more bytes are needed.
///
/// v1 takes 107 bytes at most, v2 is refused above 16 + 2048 bytes.
pub fn parse(buffer: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let _ = buffer;
    todo!()
}
