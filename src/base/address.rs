//! Addresses as names of clients.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A peer, as shown in messages. `None` is a client of a Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(out),
            None => out.write_str("a client of the Unix socket"),
        }
    }
}

/// Returns the part of an address that tells clients apart. Of an IPv6 address these are the first
/// 64 bits, and the others become zero, because a client chooses the others itself and changes them
/// often (RFC 8981). An IPv4 address that is mapped into IPv6 counts as IPv4.
pub fn of_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_is_one_client() {
        for (address, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            assert_eq!(
                of_client(address.parse().unwrap()),
                client.parse::<IpAddr>().unwrap(),
                "{address}"
            );
        }
    }
}
