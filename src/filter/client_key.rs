//! The client of a request as a number, for turns and shares of the queue and for consistent
//! hashing. Computing a key allocates nothing.
//!
//! The two uses have different keys. What a client says of itself in a field or cookie may choose
//! its server, because the client gains nothing else by it. But clients compete for turns and
//! shares. If any client's value counted there, a client that sends a new one each time would count
//! as many clients. So for turns a value counts only if a trusted peer has sent it, and otherwise
//! the address counts.
//!
//! The hash is fixed and has no secret of this process, because consistent hashing needs that:
//! another balancer, or this one after a restart, must send a client to the same server. So a
//! client that chooses values can make keys collide. Values with one key share their turns. A
//! client that does this to itself gets less; to do it to another client it has to know that
//! client's value, and could as well send that value. But keys can also be chosen to collide in a
//! hash table, so a table of keys needs a secret of its own.

use std::net::IpAddr;

use crate::base::address;
use crate::http::RequestHead;
use crate::plan::ClientKey;

use super::who::Who;

/// The keys of a request. `None` means that the client is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The key for turns and shares of the queue.
    pub turns: Option<u64>,
    /// The key for consistent hashing.
    pub affinity: Option<u64>,
}

/// Returns the keys of a request whose head was parsed from `bytes`. `who` is called only if its
/// result matters.
///
/// If a field or cookie is missing or empty, the address counts. Of several lines of a field the
/// last one counts, because a proxy adds its line after those of its client. Of several cookies the
/// first one counts, as in servers.
pub fn client_keys(
    key: &ClientKey,
    who: impl FnOnce() -> Who,
    bytes: &[u8],
    head: &RequestHead,
) -> Keys {
    let said = match key {
        ClientKey::None => return Keys::default(),
        ClientKey::Address => None,
        ClientKey::Field(name) => head.values_named(name, bytes).next_back(),
        ClientKey::Cookie(name) => {
            let mut lines = head.values_named("cookie", bytes);
            lines.find_map(|pairs| cookie(name.as_bytes(), pairs))
        }
    };
    let who = who();
    let said = said.filter(|value| !value.is_empty()).map(hash);
    let address = who.address.map(address_key);
    Keys {
        turns: said.filter(|_| who.trusted).or(address),
        affinity: said.or(address),
    }
}

/// Returns the value of the cookie with exactly this name among `a=b; c=d` (RFC 6265 §4.2.1).
/// Quotes are part of the value.
fn cookie<'a>(name: &[u8], pairs: &'a [u8]) -> Option<&'a [u8]> {
    pairs.split(|byte| *byte == b';').find_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        (pair[..equals].trim_ascii() == name).then(|| pair[equals + 1..].trim_ascii())
    })
}

/// Returns the key of an address.
pub fn address_key(address: IpAddr) -> u64 {
    match address::of_client(address) {
        IpAddr::V4(address) => mix(u64::from(address.to_bits())),
        IpAddr::V6(address) => mix((address.to_bits() >> 64) as u64),
    }
}

/// Returns the key of a value. The hash multiplies eight bytes at a time and folds the product,
/// much as wyhash does. The length distinguishes values that end in zeros.
pub fn hash(value: &[u8]) -> u64 {
    const FACTOR: u64 = 0xa076_1d64_78bd_642f;
    let (words, rest) = value.as_chunks();
    // Of a value of eight bytes or more, the last word overlaps its predecessor: reading fewer
    // bytes would cost more.
    let last = match value.last_chunk() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest
            .iter()
            .rev()
            .fold(0, |last, byte| last << 8 | u64::from(*byte)),
    };
    let words = words
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .chain([last]);
    mix(words.fold(mix(value.len() as u64), |hash, word| {
        // The rotation makes the order of words count.
        let product = u128::from(hash.rotate_left(23) ^ word) * u128::from(FACTOR);
        (product >> 64) as u64 ^ product as u64
    }))
}

/// The last step of SplitMix64. Every bit of the number changes half of the result's bits, and no
/// two numbers have the same result.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::filter::forwarded::tests::parsed;

    use super::*;

    fn field(name: &str) -> ClientKey {
        ClientKey::Field(name.to_owned())
    }

    fn session() -> ClientKey {
        ClientKey::Cookie("session".to_owned())
    }

    fn keys_of(key: &ClientKey, peer: Option<&str>, trusted: bool, fields: &str) -> Keys {
        let (text, head) = parsed(fields);
        let who = || Who {
            address: peer.map(|address| address.parse().unwrap()),
            trusted,
        };
        client_keys(key, who, &text, &head)
    }

    /// Returns the key for both uses. The peer is trusted, so its values count for both.
    fn key_of(key: &ClientKey, peer: Option<&str>, fields: &str) -> Option<u64> {
        let keys = keys_of(key, peer, true, fields);
        assert_eq!(keys.turns, keys.affinity);
        keys.turns
    }

    fn of_address(address: &str) -> Option<u64> {
        let found = key_of(&ClientKey::Address, Some(address), "");
        assert!(found.is_some());
        found
    }

    #[test]
    fn nobody_has_no_key() {
        let fields = "X-User: anna\r\nCookie: session=1\r\n";
        assert_eq!(key_of(&ClientKey::None, Some("192.0.2.1"), fields), None);
        assert_eq!(key_of(&ClientKey::Address, None, fields), None);
        assert_eq!(key_of(&field("x-other"), None, fields), None);
        assert_eq!(
            key_of(&ClientKey::Cookie("other".to_owned()), None, fields),
            None
        );
    }

    #[test]
    fn addresses() {
        assert_ne!(of_address("192.0.2.1"), of_address("192.0.2.2"));
        assert_eq!(of_address("192.0.2.1"), of_address("::ffff:192.0.2.1"));
        assert_eq!(
            of_address("2001:db8:1:2::1"),
            of_address("2001:db8:1:2:ffff::9")
        );
        assert_ne!(of_address("2001:db8:1:2::1"), of_address("2001:db8:1:3::1"));
        let fields = "X-User: anna\r\n";
        assert_eq!(
            key_of(&ClientKey::Address, Some("192.0.2.1"), fields),
            of_address("192.0.2.1")
        );
    }

    #[test]
    fn fields() {
        let key = field("x-user");
        let anna = key_of(&key, None, "X-User: anna\r\n");
        assert!(anna.is_some());
        for same in [
            "x-USER:anna \r\n",
            "X-User: eve\r\nX-User: anna\r\nX-Users: eve\r\n",
            "X-User:\r\nX-User: anna\r\n",
            "Connection: x-user\r\nX-User: anna\r\n",
        ] {
            assert_eq!(key_of(&key, Some("192.0.2.1"), same), anna, "{same}");
        }
        assert_ne!(key_of(&key, None, "X-User: Anna\r\n"), anna);
        for nothing in [
            "",
            "X-User:\r\n",
            "X-User: anna\r\nX-User: \r\n",
            "X-Use: anna\r\n",
        ] {
            assert_eq!(
                key_of(&key, Some("192.0.2.1"), nothing),
                of_address("192.0.2.1"),
                "{nothing}"
            );
        }
        // A field with a meaning of its own can be the key too.
        assert_eq!(
            key_of(&field("host"), None, ""),
            key_of(&key, None, "X-User: a\r\n")
        );
    }

    #[test]
    fn what_an_untrusted_client_says_chooses_its_server_and_nothing_else() {
        for (key, said) in [
            (field("x-user"), "X-User: anna\r\n"),
            (session(), "Cookie: session=1\r\n"),
        ] {
            let untrusted = keys_of(&key, Some("192.0.2.1"), false, said);
            assert_eq!(untrusted.turns, of_address("192.0.2.1"));
            assert_eq!(untrusted.affinity, key_of(&key, None, said));
            assert_eq!(keys_of(&key, None, false, said).turns, None);
            let silent = keys_of(&key, Some("192.0.2.1"), false, "");
            assert_eq!(
                (silent.turns, silent.affinity),
                (untrusted.turns, of_address("192.0.2.1"))
            );
        }
    }

    #[test]
    fn cookies() {
        let one = key_of(&session(), None, "Cookie: session=1\r\n");
        assert!(one.is_some());
        for same in [
            "cookie: a=b; session=1; c=d\r\n",
            "Cookie: a=b;session=1\r\n",
            "Cookie: \tsession = 1 ; session=2\r\n",
            "Cookie: a=session; bsession=2; sessions=3; Session=4; session=1\r\n",
            "Cookie: session; session=1\r\n",
            "Cookie: a=b\r\nCookie: session=1\r\nCookie: session=2\r\n",
        ] {
            assert_eq!(key_of(&session(), Some("192.0.2.1"), same), one, "{same}");
        }
        for other in [
            "Cookie: session=\"1\"\r\n",
            "Cookie: session=1=\r\n",
            "Cookie: session=1, session=1\r\n",
        ] {
            let found = key_of(&session(), Some("192.0.2.1"), other);
            assert!(found != one && found != of_address("192.0.2.1"), "{other}");
        }
        for nothing in [
            "",
            "Cookie:\r\n",
            "Cookie: a=b\r\n",
            "Cookie: session\r\n",
            "Cookie: session=\r\n",
            "Cookie: =1;;=;\r\n",
            "X-Cookie: session=1\r\n",
        ] {
            assert_eq!(
                key_of(&session(), Some("192.0.2.1"), nothing),
                of_address("192.0.2.1"),
                "{nothing}"
            );
        }
        // Case counts, and so does every byte.
        assert_eq!(
            key_of(
                &ClientKey::Cookie("Session".to_owned()),
                None,
                "Cookie: session=1; Session=\"1\"\r\n"
            ),
            Some(hash(b"\"1\""))
        );
    }

    /// A changed hash would send every client to another server once, and two balancers would
    /// disagree until both are updated.
    #[test]
    fn the_hash_is_fixed() {
        assert_eq!(of_address("192.0.2.1"), Some(0x95e7_f1e4_1fea_861c));
        assert_eq!(of_address("2001:db8:1:2::1"), Some(0xdfb5_e65e_6f73_742d));
        assert_eq!(hash(b"a"), 0xf466_eedd_e83c_fdff);
        assert_eq!(hash(b"0123456789abcdef-long"), 0x4b91_189d_f49f_4ca5);
    }

    /// Similar values in 64 groups by any six bits: each group is near its share.
    #[test]
    fn keys_are_spread() {
        const COUNT: usize = 64 * 1000;
        type Key = fn(usize) -> u64;
        let sets: [(_, Key); 4] = [
            ("IPv4", |n| {
                address_key(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into())
            }),
            ("IPv6", |n| {
                address_key(
                    std::net::Ipv6Addr::from_bits((0x2001_0db8_0000_0000 + n as u128) << 64).into(),
                )
            }),
            ("short", |n| hash(n.to_string().as_bytes())),
            ("long", |n| {
                hash(format!("user={n:08}; and a tail that is always the same").as_bytes())
            }),
        ];
        for (name, key) in sets {
            let keys: Vec<_> = (0..COUNT).map(key).collect();
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), COUNT, "{name}");
            for shift in [0, 5, 29, 32, 58] {
                let mut buckets = [0_u32; 64];
                for key in &keys {
                    buckets[(key >> shift & 63) as usize] += 1;
                }
                // Six standard deviations.
                let range = 810..=1190;
                assert!(
                    buckets.iter().all(|count| range.contains(count)),
                    "{name}, {shift}: {buckets:?}"
                );
            }
        }
    }

    #[test]
    fn every_byte_and_its_place_counts() {
        let mut seen = HashSet::new();
        for length in 0..40 {
            // Zeros of each length, and zeros with one bit set.
            assert!(seen.insert(hash(&vec![0; length])));
            for bit in 0..length * 8 {
                let mut value = vec![0; length];
                value[bit / 8] |= 1 << (bit % 8);
                assert!(seen.insert(hash(&value)), "bit {bit} of {length} bytes");
            }
        }
        assert_ne!(hash(b"01234567abcdefgh"), hash(b"abcdefgh01234567"));
    }
}
