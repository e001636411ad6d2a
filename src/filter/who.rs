//! The client's identity: its address, or what a trusted proxy in front says of it.

use std::net::{IpAddr, SocketAddr};

use crate::http::{FieldId, RequestHead};
use crate::plan::{ForwardedStyle, Listener};

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The address of the peer, or the one that a trusted peer names. `None` is a peer over a Unix
    /// socket that names no address.
    pub address: Option<IpAddr>,
    /// The peer is trusted, so what its fields say of the client counts.
    pub trusted: bool,
}

/// Returns the sender of this request over a connection from `peer` (after a PROXY header; `None`
/// on Unix sockets), which is `trusted` or not.
///
/// A trusted peer names the client in the field of the listener's style (`X-Forwarded-For`, or
/// `for` in `Forwarded`). The field is a list to which each proxy adds the address that it sees. So
/// the list is read from its end: the first address that is not trusted is the client's, and the
/// client may have invented what stands before. If all addresses are trusted, the client is the
/// first one of the list. Reading stops at an entry that is not an address (`unknown`).
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

/// Returns the client among `list`, which begins with the address that was added last. `None` in
/// the list is an entry without an address.
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

/// Returns the addresses of a value of X-Forwarded-For, from its end. Empty parts are skipped (RFC
/// 9110 §5.6.1).
fn addresses(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    let parts = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    parts.filter(|part| !part.is_empty()).map(address)
}

/// Returns the addresses of a value of Forwarded, one for each element (RFC 7239 §4), from its end.
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

/// Returns the parts between separators outside quotes, trimmed, the last one first.
///
/// Quotes too are read from the end. Where all are closed this makes no difference. But read from
/// the beginning, a client that leaves one open could make what its proxies add a part of its own
/// string.
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

/// Returns whether the byte at this place of a quoted string is escaped: an odd number of
/// backslashes stands before it.
fn is_escaped(bytes: &[u8], place: usize) -> bool {
    let backslashes = bytes[..place]
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\\');
    backslashes.count() % 2 == 1
}

/// Parses an address, with or without a port, an IPv6 address with or without brackets.
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
            // The same list in several lines.
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
            // The client leaves a quote open, and its proxies add their elements.
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
        /// What the proxies behind the client have added decides, whatever the client says.
        #[test]
        fn a_clients_own_tale_changes_nothing(tale in "[ -~]{0,40}", rfc in any::<bool>()) {
            let (style, name, ours) = match rfc {
                true => (
                    ForwardedStyle::Rfc7239,
                    "Forwarded",
                    "for=\"192.0.2.1:80\";by=\"a\\\"b\", for=10.0.0.2",
                ),
                false => (ForwardedStyle::XForwarded, "X-Forwarded-For", "192.0.2.1, 10.0.0.2"),
            };
            // A proxy adds a line of its own, or extends the client's.
            let expected = (Some("192.0.2.1".to_owned()), true);
            let fields = format!("{name}: {tale}\r\n{name}: {ours}\r\n");
            prop_assert_eq!(&told(style, Some("10.0.0.1"), &fields), &expected);
            let fields = format!("{name}: {tale}, {ours}\r\n");
            prop_assert_eq!(told(style, Some("10.0.0.1"), &fields), expected);
        }
    }
}
