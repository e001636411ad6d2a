//! PROXY protocol v1 and v2 (HAProxy's `proxy-protocol.txt`), the receiving side.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The number of bytes of the header.
    pub length: usize,
    /// The addresses of the client and of the socket that it connected to. `None` for LOCAL and
    /// UNKNOWN, and for other protocols than TCP (Unix sockets).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The connection is the balancer's in front (LOCAL), with no client behind it.
    pub is_local: bool,
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadProxyHeader {
    /// The bytes do not begin a header.
    Missing,
    /// The bytes begin a header, and then break the rules.
    Malformed,
    /// The header announces, or has, more than this number of bytes.
    TooLong(usize),
}

/// Parses the header at the start of `buffer`. Returns `None` if more bytes are needed.
///
/// A v1 header has at most 107 bytes; a v2 header above [`LONGEST`] is refused. More bytes never
/// change a result other than `None`.
///
/// # Errors
///
/// Each kind of [`BadProxyHeader`]. The first kind found stays.
pub fn parse(buffer: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    match buffer.first() {
        None => Ok(None),
        Some(b'P') => parse_v1(buffer),
        Some(_) => parse_v2(buffer),
    }
}

/// The longest line of v1, including its CRLF.
const V1_LONGEST: usize = 107;
const V1_START: &[u8] = b"PROXY ";

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// Addresses and TLVs. The TLVs that balancers send (including a client certificate) have a few
/// thousand bytes.
const V2_LONGEST: usize = 16 * 1024;

/// The longest accepted header in bytes.
pub const LONGEST: usize = V2_FIXED + V2_LONGEST;

fn parse_v1(buffer: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let buffer = &buffer[..buffer.len().min(V1_LONGEST)];
    let start = buffer.len().min(V1_START.len());
    if buffer[..start] != V1_START[..start] {
        return Err(BadProxyHeader::Missing);
    }
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        return match v1_may_begin(buffer) {
            false => Err(BadProxyHeader::Malformed),
            true if buffer.len() == V1_LONGEST => Err(BadProxyHeader::TooLong(V1_LONGEST)),
            true => Ok(None),
        };
    };
    let line = buffer[..end]
        .strip_suffix(b"\r")
        .ok_or(BadProxyHeader::Malformed)?;
    let text = line
        .get(V1_START.len()..)
        .ok_or(BadProxyHeader::Malformed)?;
    if !text.iter().all(|byte| is_text(*byte)) {
        return Err(BadProxyHeader::Malformed);
    }
    let text = std::str::from_utf8(text).map_err(|_| BadProxyHeader::Malformed)?;
    let (protocol, rest) = text.split_once(' ').unwrap_or((text, ""));
    let addresses = match protocol {
        "TCP4" => Some(v1_addresses::<Ipv4Addr>(rest)?),
        "TCP6" => Some(v1_addresses::<Ipv6Addr>(rest)?),
        // What follows is ignored.
        "UNKNOWN" => None,
        _ => return Err(BadProxyHeader::Malformed),
    };
    Ok(Some(ProxyHeader {
        length: end + 1,
        addresses,
        is_local: false,
    }))
}

/// Returns whether a line without its end can still become a header.
fn v1_may_begin(buffer: &[u8]) -> bool {
    let start = buffer.len().min(V1_START.len());
    // Only the last byte may be the CR, and a line ends only behind a whole protocol.
    let rest = &buffer[start..];
    let (rest, ended) = rest
        .strip_suffix(b"\r")
        .map_or((rest, false), |rest| (rest, true));
    match rest {
        [b'U', ..] => {
            let name = b"UNKNOWN ";
            let common = rest.len().min(name.len());
            rest[..common] == name[..common]
                && (!ended || rest.len() + 1 >= name.len())
                && rest.iter().all(|byte| is_text(*byte))
        }
        _ => {
            let (name, addresses) = rest.split_at(rest.len().min(5));
            let is_name = [b"TCP4 ", b"TCP6 "]
                .iter()
                .any(|known| known.starts_with(name));
            is_name
                && (!ended || !addresses.is_empty())
                && addresses
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || b".: ".contains(byte))
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

/// Parses `source destination source-port destination-port`.
fn v1_addresses<A: FromStr>(text: &str) -> Result<(SocketAddr, SocketAddr), BadProxyHeader>
where
    std::net::IpAddr: From<A>,
{
    let mut parts = text.split(' ');
    let mut part = || parts.next().ok_or(BadProxyHeader::Malformed);
    let (source, destination) = (part()?, part()?);
    let (source_port, destination_port) = (v1_port(part()?)?, v1_port(part()?)?);
    if part().is_ok() {
        return Err(BadProxyHeader::Malformed);
    }
    let address = |text: &str| A::from_str(text).map_err(|_| BadProxyHeader::Malformed);
    Ok((
        SocketAddr::new(address(source)?.into(), source_port),
        SocketAddr::new(address(destination)?.into(), destination_port),
    ))
}

/// Parses digits without leading zeros and signs, which `parse` accepts.
fn v1_port(text: &str) -> Result<u16, BadProxyHeader> {
    let canonical =
        text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if !canonical {
        return Err(BadProxyHeader::Malformed);
    }
    text.parse().map_err(|_| BadProxyHeader::Malformed)
}

fn parse_v2(buffer: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let start = buffer.len().min(V2_SIGNATURE.len());
    if buffer[..start] != V2_SIGNATURE[..start] {
        return Err(BadProxyHeader::Missing);
    }
    // Each byte is judged as soon as it is there.
    let Some(command) = buffer.get(12) else {
        return Ok(None);
    };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadProxyHeader::Malformed),
    };
    let Some(&family) = buffer.get(13) else {
        return Ok(None);
    };
    let least = match family {
        // The family and the addresses of LOCAL are ignored.
        _ if local => 0,
        // AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX, each with SOCK_STREAM.
        0x00 | 0x01 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(BadProxyHeader::Malformed),
    };
    let Some(length) = buffer.get(14..V2_FIXED) else {
        return Ok(None);
    };
    let length = usize::from(u16(length));
    if length < least {
        return Err(BadProxyHeader::Malformed);
    }
    if length > V2_LONGEST {
        return Err(BadProxyHeader::TooLong(LONGEST));
    }
    // Behind the addresses there may be TLVs, up to the length.
    let Some(block) = buffer.get(V2_FIXED..V2_FIXED + length) else {
        return Ok(None);
    };
    if least > 0 && !are_tlvs(&block[least..]) {
        return Err(BadProxyHeader::Malformed);
    }
    let addresses = match family {
        _ if local => None,
        0x11 => v2_addresses::<4>(block),
        0x21 => v2_addresses::<16>(block),
        _ => None,
    };
    Ok(Some(ProxyHeader {
        length: V2_FIXED + length,
        addresses,
        is_local: local,
    }))
}

/// Returns whether the block consists of whole TLVs: a type, two bytes of length, and that number
/// of bytes.
fn are_tlvs(mut block: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = block {
        match rest.get(usize::from(u16(&[*high, *low]))..) {
            Some(after) => block = after,
            None => return false,
        }
    }
    block.is_empty()
}

/// Parses source, destination, source port, destination port.
fn v2_addresses<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    std::net::IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_at_checked(2)?;
    let destination_port = rest.get(..2)?;
    Some((
        SocketAddr::new((*source).into(), u16(source_port)),
        SocketAddr::new((*destination).into(), u16(destination_port)),
    ))
}

fn u16(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | u16::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::BadProxyHeader::{Malformed, Missing, TooLong};
    use super::*;

    fn addresses(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().unwrap(), destination.parse().unwrap()))
    }

    /// Makes a v2 header with this command and family.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((block.len() as u16).to_be_bytes());
        header.extend(block);
        header
    }

    /// Checks a header followed by other bytes, and every prefix of it.
    fn check(header: &[u8], addresses: Option<(SocketAddr, SocketAddr)>) {
        let length = header.len();
        let is_local = header.get(12) == Some(&0x20) && header[0] == V2_SIGNATURE[0];
        let expected = ProxyHeader {
            length,
            addresses,
            is_local,
        };
        let whole = [header, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(
            parse(&whole),
            Ok(Some(expected)),
            "{}",
            header.escape_ascii()
        );
        for end in 0..length {
            assert_eq!(
                parse(&header[..end]),
                Ok(None),
                "{}",
                header[..end].escape_ascii()
            );
        }
    }

    #[test]
    fn v1_is_understood() {
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            addresses("192.0.2.1:56324", "198.51.100.7:443"),
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 65535\r\n",
            addresses("[2001:db8::1]:0", "[::ffff:192.0.2.1]:65535"),
        );
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN whatever 1 2\r\n", None);
        let f = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        check(
            format!("PROXY UNKNOWN {f} {f} 65535 65535\r\n").as_bytes(),
            None,
        );
    }

    #[test]
    fn v1_is_strict() {
        let bad: &[&[u8]] = &[
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
            b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY UNKNOWN \0\r\n",
            b"PROXY UNKNOWN \r \r\n",
            b"proxy UNKNOWN\r\n",
        ];
        for header in bad {
            assert!(
                matches!(parse(header), Err(Malformed | Missing)),
                "{}",
                header.escape_ascii()
            );
        }
        let line =
            |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
        check(&line(107), None);
        assert_eq!(parse(&line(108)), Err(TooLong(107)));
        // Refused before the line's end.
        assert_eq!(parse(&line(108)[..106]), Ok(None));
        assert_eq!(parse(&line(108)[..107]), Err(TooLong(107)));
    }

    #[test]
    fn what_cannot_be_a_header_is_refused_at_once() {
        for byte in 0..=u8::MAX {
            let expected = if byte == b'P' || byte == b'\r' {
                Ok(None)
            } else {
                Err(Missing)
            };
            assert_eq!(parse(&[byte]), expected);
        }
        for start in ["PR_", "PROXYTCP", "POST ", "\r\nX"] {
            assert_eq!(parse(start.as_bytes()), Err(Missing), "{start}");
        }
        for start in [
            "PROXY X",
            "PROXY TCP5",
            "PROXY TCP4 GET",
            "PROXY \r",
            "PROXY UNK\r",
            "PROXY TCP4 1\r1",
        ] {
            assert_eq!(parse(start.as_bytes()), Err(Malformed), "{start}");
        }
        assert_eq!(parse(b"\r\n\r\nG"), Err(Missing));
        assert_eq!(parse(&v2(0x11, 0, b"")[..13]), Err(Malformed));
        assert_eq!(parse(&v2(0x22, 0, b"")[..13]), Err(Malformed));
        assert_eq!(parse(&v2(0x21, 0x12, &[0; 12])[..14]), Err(Malformed));
    }

    #[test]
    fn v2_is_understood() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];
        let expected = addresses("192.0.2.1:56324", "198.51.100.7:443");
        check(&v2(0x21, 0x11, &v4), expected);
        // With a TLV behind the addresses.
        check(
            &v2(0x21, 0x11, &[&v4[..], &[0x04, 0, 2, 7, 7]].concat()),
            expected,
        );
        // LOCAL: its addresses do not count.
        check(&v2(0x20, 0x11, &v4), None);
        check(&v2(0x20, 0x00, b""), None);
        check(&v2(0x21, 0x00, b""), None);
        check(&v2(0x21, 0x31, &[b'/'; 216]), None);
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
        check(&v2(0x21, 0x21, &v6), addresses("[::1]:3", "[::2]:4"));
        check(&v2(0x20, 0x00, &[0; V2_LONGEST]), None);
        let long = [&v4[..], &[0xe0, 0x10, 0x00], &[7; 0x1000], &[0x04, 0, 0]].concat();
        check(&v2(0x21, 0x11, &long), expected);
    }

    #[test]
    fn v2_is_strict() {
        let bad = [
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x10, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x11, &[&[0; 12][..], &[0x04, 0]].concat()),
            v2(0x21, 0x11, &[&[0; 12][..], &[0x04, 0, 1]].concat()),
            v2(
                0x21,
                0x11,
                &[&[0; 12][..], &[0x04, 0xff, 0xff, 1, 2, 3]].concat(),
            ),
            v2(0x21, 0x11, &[&[0; 12][..], &[0x04, 0, 1, 1, 0x04]].concat()),
            v2(0x22, 0x11, &[0; 12]),
        ];
        for header in bad {
            assert_eq!(parse(&header), Err(Malformed), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn v2_has_a_longest() {
        let header = v2(0x20, 0x00, &[0; V2_LONGEST + 1]);
        assert_eq!(parse(&header), Err(TooLong(LONGEST)));
        // Refused as soon as the length says so.
        assert_eq!(parse(&header[..V2_FIXED]), Err(TooLong(LONGEST)));
    }

    /// Returns bytes near a header: one with a byte changed.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let whole = prop_oneof![
            Just(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".to_vec()),
            Just(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec()),
            Just(b"PROXY UNKNOWN 1 2\r\nmore".to_vec()),
            (
                0x1fu8..0x23,
                0u8..0x32,
                prop::collection::vec(any::<u8>(), 0..40)
            )
                .prop_map(|(command, family, block)| v2(command, family, &block)),
        ];
        (
            whole,
            any::<prop::sample::Index>(),
            any::<u8>(),
            any::<bool>(),
        )
            .prop_map(|(mut bytes, place, byte, change)| {
                let place = place.index(bytes.len());
                if change {
                    bytes[place] = byte;
                }
                bytes
            })
    }

    proptest! {
        #[test]
        fn written_headers_are_read(
            source: SocketAddr,
            port: u16,
            tlvs in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..4),
        ) {
            let destination = SocketAddr::new(source.ip(), port);
            // The generator's `SocketAddr`s have scopes and flow labels, which headers do not have.
            let source = SocketAddr::new(source.ip(), source.port());
            let (name, family) = if source.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
            let ip = source.ip();
            let line = format!("PROXY {name} {ip} {ip} {} {port}\r\n", source.port());
            check(line.as_bytes(), Some((source, destination)));
            let ip = match ip {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let length = |value: &Vec<u8>| (value.len() as u16).to_be_bytes();
            let tlv = |value: &Vec<u8>| [&[0xe0][..], &length(value), value].concat();
            let tlv = tlvs.iter().flat_map(tlv).collect::<Vec<_>>();
            let ports = [source.port().to_be_bytes(), port.to_be_bytes()].concat();
            let block = [&ip[..], &ip[..], &ports, &tlv].concat();
            check(&v2(0x21, family, &block), Some((source, destination)));
        }

        #[test]
        fn an_answer_is_never_taken_back(bytes in damaged()) {
            let mut answer = Ok(None);
            for end in 0..=bytes.len() {
                let next = parse(&bytes[..end]);
                prop_assert!(answer == Ok(None) || next == answer);
                answer = next;
            }
        }

        #[test]
        fn no_input_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
