//! Addresses of servers that the configuration gives by host name.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Asks the system's resolver, which may take many seconds if name servers do not answer. Returns
/// all addresses in its order (RFC 6724), each once.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = once((host, port).to_socket_addrs()?);
    match found.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        )),
        false => Ok(found),
    }
}

/// Returns a server's addresses after its name was resolved again, or `None` if they stay. They
/// stay if `found` has the same ones in any order (resolvers rotate them), or none.
///
/// The first address is the one in use. It stays first as long as it is found at all, so that
/// connections are not made again without need.
pub fn renew(current: &[SocketAddr], found: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let mut found = once(found);
    let is_same =
        found.len() == current.len() && found.iter().all(|address| current.contains(address));
    if is_same || found.is_empty() {
        return None;
    }
    let in_use = current
        .first()
        .and_then(|first| found.iter().position(|address| address == first));
    if let Some(place) = in_use {
        found[..=place].rotate_right(1);
    }
    Some(found)
}

/// Removes repetitions; the first occurrence stays.
fn once(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    // The list is short, so a linear search is enough.
    let mut kept = Vec::new();
    for address in addresses {
        if !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns 192.0.2.N for each of `numbers`.
    fn addresses(numbers: &[u8]) -> Vec<SocketAddr> {
        numbers
            .iter()
            .map(|number| SocketAddr::from(([192, 0, 2, *number], 6901)))
            .collect()
    }

    fn renewed(current: &[u8], found: &[u8]) -> Option<Vec<SocketAddr>> {
        renew(&addresses(current), addresses(found))
    }

    #[test]
    fn addresses_resolve_to_themselves() {
        for host in ["127.0.0.1", "::1"] {
            let expected = SocketAddr::new(host.parse().unwrap(), 6901);
            assert_eq!(resolve(host, 6901).unwrap(), [expected]);
        }
    }

    #[test]
    fn names_are_looked_up() {
        let found = resolve("localhost", 80).unwrap();
        assert!(!found.is_empty());
        assert!(
            found
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 80)
        );
        assert_eq!(once(found.clone()), found);
        // Neither is a valid name, so no name server is asked.
        for wrong in ["", "a\0b"] {
            assert!(resolve(wrong, 80).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_changes_by_the_same_addresses() {
        assert_eq!(renewed(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(renewed(&[1, 2, 3], &[3, 1, 2]), None);
        assert_eq!(renewed(&[1, 2], &[2, 1, 2, 1]), None);
        assert_eq!(renewed(&[1, 2], &[]), None);
        assert_eq!(renewed(&[], &[]), None);
    }

    #[test]
    fn the_one_in_use_stays_first() {
        assert_eq!(renewed(&[1, 2], &[3, 2, 1]), Some(addresses(&[1, 3, 2])));
        assert_eq!(renewed(&[1, 2], &[1]), Some(addresses(&[1])));
        assert_eq!(
            renewed(&[1], &[2, 3, 1, 4, 2]),
            Some(addresses(&[1, 2, 3, 4]))
        );
        assert_eq!(renewed(&[1, 2], &[2, 3]), Some(addresses(&[2, 3])));
        assert_eq!(renewed(&[1, 2], &[3, 2]), Some(addresses(&[3, 2])));
        assert_eq!(renewed(&[], &[2, 1]), Some(addresses(&[2, 1])));
    }

    proptest! {
        #[test]
        fn rules_hold(
            current in prop::collection::hash_set(0u8..6, 0..6),
            found in prop::collection::vec(0u8..6, 0..8),
        ) {
            let current = addresses(&current.into_iter().collect::<Vec<_>>());
            let found = addresses(&found);
            let sorted = |addresses: &[SocketAddr]| {
                let mut sorted = once(addresses.to_vec());
                sorted.sort();
                sorted
            };
            match renew(&current, found.clone()) {
                None => prop_assert!(found.is_empty() || sorted(&found) == sorted(&current)),
                Some(renewed) => {
                    prop_assert_eq!(sorted(&renewed), sorted(&found));
                    prop_assert_eq!(once(renewed.clone()).len(), renewed.len());
                    let kept = current.first().filter(|first| found.contains(first)).copied();
                    let first = kept.or_else(|| found.first().copied());
                    prop_assert_eq!(renewed.first().copied(), first);
                    // The others keep their order.
                    let mut others = once(found);
                    others.retain(|address| Some(address) != kept.as_ref());
                    prop_assert_eq!(&renewed[usize::from(kept.is_some())..], &others[..]);
                    // A second renewal changes nothing.
                    prop_assert_eq!(renew(&renewed, renewed.clone()), None);
                }
            }
        }
    }
}
