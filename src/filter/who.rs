//! The client's identity: by its address, or by what a trusted proxy in front of us says of it.

use std::net::{IpAddr, SocketAddr};

use crate::http::{FieldId, RequestHead};
use crate::plan::{ForwardedStyle, Listener};

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The client's address: that of the peer, or what a trusted peer names. `None` is a peer over
    /// a Unix socket of which nothing else is known.
    pub address: Option<IpAddr>,
    /// The peer is trusted: what its fields say of the client counts.
    pub trusted: bool,
}

/// Returns the sender of this request over a connection from `peer` (after a PROXY header; `None`
/// on Unix sockets), which is `trusted` or not.
///
/// A trusted peer names the client in the field of the listener's style (`X-Forwarded-For`, or
/// `for` in `Forwarded`), as one of a list to which each proxy adds the address that it sees. So
/// the list is read from its end: the first address that is not trusted itself is the client's, and
/// what stands before that is its own tale. If all are trusted, it is the first of the list. Behind
/// something that is no address (`unknown`) nothing is read.
pub fn who(
    listener: &Listener,
    peer: Option<IpAddr>,
    trusted: bool,
    buffer: &[u8],
    head: &RequestHead,
) -> Who {
    let lines = |id| head.values(id, buffer).rev();
    let named = match listener.forwarded.style {
        _ if !trusted || listener.forwarded.replace => None,
        ForwardedStyle::Off => None,
        ForwardedStyle::XForwarded => {
            named(listener, lines(FieldId::XForwardedFor).flat_map(addresses))
        }
        ForwardedStyle::Rfc7239 => named(listener, lines(FieldId::Forwarded).flat_map(elements)),
    };
    Who {
        address: named.or_else(|| peer.map(|peer| peer.to_canonical())),
        trusted,
    }
}

/// The client among these, of which the one that was added last comes first; `None` in the list is
/// no address.
fn named(listener: &Listener, list: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
    let mut first = None;
    for address in list {
        let Some(address) = address else { break };
        first = Some(address);
        if !listener.forwarded.trusted.contains(first) {
            break;
        }
    }
    first
}

/// The addresses of a value of X-Forwarded-For, from its end. Empty parts are none (RFC 9110
/// §5.6.1).
fn addresses(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    let parts = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    parts.filter(|part| !part.is_empty()).map(address)
}

/// The addresses of a value of Forwarded, one for each element (RFC 7239 §4), from its end.
fn elements(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    split_unquoted(value, b',')
        .filter(|element| !element.is_empty())
        .map(|element| {
            let (_, value) = split_unquoted(element, b';')
                .filter_map(|pair| pair.split_at_checked(4))
                .find(|(name, _)| name.eq_ignore_ascii_case(b"for="))?;
            let quoted = value
                .strip_prefix(b"\"")
                .and_then(|rest| rest.strip_suffix(b"\""));
            address(quoted.unwrap_or(value))
        })
}

/// The parts between separators outside of quotes, trimmed, the last one first.
///
/// Quotes too are read from the end. Where they close it makes no difference; but a client that
/// leaves one open could else make what its proxies add a part of its own string.
fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let mut quoted = false;
        let place = (0..bytes.len()).rev().find(|&place| {
            match bytes[place] {
                b'"' if !quoted => quoted = true,
                b'"' => quoted = is_escaped(bytes, place),
                byte => return !quoted && byte == separator,
            }
            false
        });
        let part = place.map_or(bytes, |place| &bytes[place + 1..]);
        rest = place.map(|place| &bytes[..place]);
        Some(part.trim_ascii())
    })
}

/// Whether the byte at this place of a quoted string stands for itself: behind backslashes that do
/// not escape each other.
fn is_escaped(bytes: &[u8], place: usize) -> bool {
    let backslashes = bytes[..place]
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\\');
    backslashes.count() % 2 == 1
}

/// An address, with a port or without, an IPv6 one in brackets or not.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let plain = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    let address = plain.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::filter::forwarded::tests::{listener, parsed};
    use crate::plan::Peers;

    use super::*;

    fn trusting(style: ForwardedStyle) -> Listener {
        let mut listener = listener(style);
        listener.forwarded.trusted = Peers {
            networks: vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ],
            unix: true,
        };
        listener
    }

    fn told(style: ForwardedStyle, peer: Option<&str>, fields: &str) -> (Option<String>, bool) {
        let (text, head) = parsed(fields);
        let peer = peer.map(|peer| peer.parse().unwrap());
        let listener = trusting(style);
        let who = who(
            &listener,
            peer,
            listener.forwarded.trusted.contains(peer),
            &text,
            &head,
        );
        (who.address.map(|address| address.to_string()), who.trusted)
    }

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_clients() {
        for (list, client) in [
            ("", "10.0.0.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1, 10.0.0.2, 2001:db8::1", "192.0.2.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.1,,10.0.0.2,", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db9::1]:4711, [2001:db8::1]", "2001:db9::1"),
            ("2001:db9::1", "2001:db9::1"),
            ("::ffff:192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1"),
            ("unknown", "10.0.0.1"),
            ("192.0.2.1, unknown", "10.0.0.1"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, nonsense, 192.0.2.2", "192.0.2.2"),
            ("192.0.2.256", "10.0.0.1"),
        ] {
            let expected = (Some(client.to_owned()), true);
            let field = format!("X-Forwarded-For: {list}\r\n");
            assert_eq!(
                told(ForwardedStyle::XForwarded, Some("10.0.0.1"), &field),
                expected,
                "{list}"
            );
            // In several lines it is the same list.
            let lines: String = list
                .split(',')
                .map(|part| format!("X-Forwarded-For: {part}\r\n"))
                .collect();
            assert_eq!(
                told(ForwardedStyle::XForwarded, Some("10.0.0.1"), &lines),
                expected,
                "{list}"
            );
        }
    }

    #[test]
    fn forwarded_is_read_by_element() {
        for (list, client) in [
            ("for=192.0.2.1", "192.0.2.1"),
            (
                "for=6.6.6.6, proto=http;FOR=192.0.2.1;by=10.0.0.1",
                "192.0.2.1",
            ),
            ("for=\"192.0.2.1:80\"", "192.0.2.1"),
            ("for=\"[2001:db9::1]:80\", for=10.0.0.2", "2001:db9::1"),
            ("for=192.0.2.1;by=\"x, for=6.6.6.6\"", "192.0.2.1"),
            ("for=192.0.2.1;by=\"x\\\", for=6.6.6.6\"", "192.0.2.1"),
            ("for=6.6.6.6, proto=http", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
            ("for=\"6.6.6.6", "10.0.0.1"),
            // A quote that the client leaves open, and what its proxies add.
            ("for=\", for=192.0.2.1", "192.0.2.1"),
            ("for=\", for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            (
                "for=\"6.6.6.6, for=\"[2001:db9::1]:80\";by=\"[2001:db8::1]\"",
                "2001:db9::1",
            ),
            ("for=\"\\, for=192.0.2.1;by=\"a\\\"b\\\\\"", "192.0.2.1"),
            ("\", for=10.0.0.2", "10.0.0.2"),
            ("xfor=6.6.6.6", "10.0.0.1"),
        ] {
            let field = format!("Forwarded: {list}\r\n");
            let expected = (Some(client.to_owned()), true);
            assert_eq!(
                told(ForwardedStyle::Rfc7239, Some("10.0.0.1"), &field),
                expected,
                "{list}"
            );
        }
    }

    #[test]
    fn only_a_trusted_peer_names_anybody_and_in_one_field_alone() {
        let both = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n";
        let (style, found) = (ForwardedStyle::XForwarded, |address: &str| {
            Some(address.to_owned())
        });
        assert_eq!(
            told(style, Some("198.51.100.1"), both),
            (found("198.51.100.1"), false)
        );
        assert_eq!(
            told(style, Some("10.0.0.1"), both),
            (found("192.0.2.1"), true)
        );
        assert_eq!(told(style, None, both), (found("192.0.2.1"), true));
        assert_eq!(told(style, None, ""), (None, true));
        assert_eq!(
            told(ForwardedStyle::Rfc7239, None, both),
            (found("192.0.2.2"), true)
        );
        assert_eq!(
            told(ForwardedStyle::Off, Some("10.0.0.1"), both),
            (found("10.0.0.1"), true)
        );
        assert_eq!(
            told(style, Some("10.0.0.1"), "X_Forwarded_For: 192.0.2.1\r\n"),
            (found("10.0.0.1"), true)
        );
        let (text, head) = parsed(both);
        let mut listener = trusting(style);
        listener.forwarded.replace = true;
        let peer = "10.0.0.1".parse().ok();
        assert_eq!(
            who(&listener, peer, true, &text, &head),
            Who {
                address: peer,
                trusted: true
            }
        );
        assert_eq!(
            who(&listener, None, false, &text, &head),
            Who {
                address: None,
                trusted: false
            }
        );
    }

    proptest! {
        /// Whatever a client says, what the proxies behind it have added decides.
        #[test]
        fn a_clients_own_tale_changes_nothing(tale in "[ -~]{0,40}", rfc in any::<bool>()) {
            let (style, name, ours) = match rfc {
                true => (ForwardedStyle::Rfc7239, "Forwarded", "for=\"192.0.2.1:80\";by=\"a\\\"b\", for=10.0.0.2"),
                false => (ForwardedStyle::XForwarded, "X-Forwarded-For", "192.0.2.1, 10.0.0.2"),
            };
            // A proxy adds a line of its own, or goes on in the client's.
            let expected = (Some("192.0.2.1".to_owned()), true);
            let fields = format!("{name}: {tale}\r\n{name}: {ours}\r\n");
            prop_assert_eq!(&told(style, Some("10.0.0.1"), &fields), &expected);
            prop_assert_eq!(told(style, Some("10.0.0.1"), &format!("{name}: {tale}, {ours}\r\n")), expected);
        }
    }
}
