//! Who a client is: by its address, or by what a trusted proxy in front of us says of it.

use std::net::{IpAddr, SocketAddr};

use crate::http::{FieldId, RequestHead};
use crate::plan::{ForwardedStyle, Listener};

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The client's address: that of the peer, or what a trusted peer names. `None` is a peer over a Unix socket of which
    /// nothing else is known.
    pub address: Option<IpAddr>,
    /// The peer is trusted: what its fields say of the client counts.
    pub trusted: bool,
}

/// Who sent this request over a connection from `peer` (after a PROXY header; `None` on Unix sockets).
///
/// A trusted peer names the client in the field of the listener's style (`X-Forwarded-For`, or `for` in `Forwarded`), as
/// one of a list to which each proxy adds the address that it sees. So the list is read from its end: the first address
/// that is not trusted itself is the client's, and what stands before that is its own tale. If all are trusted, it is
/// the first of the list. Behind something that is no address (`unknown`) nothing is read.
pub fn who(listener: &Listener, peer: Option<IpAddr>, buffer: &[u8], head: &RequestHead) -> Who {
    let peer = peer.map(|peer| peer.to_canonical());
    let trusted = listener.forwarded.trusted.contains(peer);
    let named = match listener.forwarded.style {
        _ if !trusted || listener.forwarded.replace => None,
        ForwardedStyle::Off => None,
        ForwardedStyle::XForwarded => named(
            listener,
            values(FieldId::XForwardedFor, buffer, head).flat_map(addresses),
        ),
        ForwardedStyle::Rfc7239 => named(listener, values(FieldId::Forwarded, buffer, head).flat_map(elements)),
    };
    Who {
        address: named.or(peer),
        trusted,
    }
}

/// The values of the lines of this field that are meant for others than the next hop.
fn values<'a>(id: FieldId, buffer: &'a [u8], head: &'a RequestHead) -> impl Iterator<Item = &'a [u8]> {
    let fields = head
        .fields
        .iter()
        .filter(move |field| field.id == id && !field.hop_by_hop);
    fields.map(|field| field.value.of(buffer))
}

/// The client among these, the one that was added last at the end; `None` in the list is no address.
fn named(listener: &Listener, list: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
    let (mut client, mut first_trusted) = (None, None);
    for address in list {
        match address {
            None => (client, first_trusted) = (None, None),
            Some(address) if listener.forwarded.trusted.contains(Some(address)) => {
                first_trusted = first_trusted.or(Some(address));
            }
            Some(_) => (client, first_trusted) = (address, None),
        }
    }
    client.or(first_trusted)
}

/// The addresses of a value of X-Forwarded-For. Empty parts are none (RFC 9110 §5.6.1).
fn addresses(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    let parts = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    parts.filter(|part| !part.is_empty()).map(address)
}

/// The addresses of a value of Forwarded, one for each element (RFC 7239 §4).
fn elements(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    split_unquoted(value, b',')
        .filter(|element| !element.is_empty())
        .map(|element| {
            let (_, value) = split_unquoted(element, b';')
                .filter_map(|pair| pair.split_at_checked(4))
                .find(|(name, _)| name.eq_ignore_ascii_case(b"for="))?;
            let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            address(quoted.unwrap_or(value))
        })
}

/// The parts between separators outside of quotes, trimmed. A quote that stays open has no part: nothing after it is said.
fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = value.split(move |&byte| {
        if escaped {
            escaped = false;
        } else if byte == b'"' {
            quoted = !quoted;
        } else if quoted && byte == b'\\' {
            escaped = true;
        }
        !quoted && byte == separator
    });
    parts.map(<[u8]>::trim_ascii)
}

/// An address, with a port or without, an IPv6 one in brackets or not.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
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
            networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            unix: true,
        };
        listener
    }

    fn told(style: ForwardedStyle, peer: Option<&str>, fields: &str) -> (Option<String>, bool) {
        let (text, head) = parsed(fields);
        let peer = peer.map(|peer| peer.parse().unwrap());
        let who = who(&trusting(style), peer, &text, &head);
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
            ("for=6.6.6.6, proto=http;FOR=192.0.2.1;by=10.0.0.1", "192.0.2.1"),
            ("for=\"192.0.2.1:80\"", "192.0.2.1"),
            ("for=\"[2001:db9::1]:80\", for=10.0.0.2", "2001:db9::1"),
            ("for=192.0.2.1;by=\"x, for=6.6.6.6\"", "192.0.2.1"),
            ("for=192.0.2.1;by=\"x\\\", for=6.6.6.6\"", "192.0.2.1"),
            ("for=6.6.6.6, proto=http", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
            ("for=\"6.6.6.6", "10.0.0.1"),
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
        let (style, found) = (ForwardedStyle::XForwarded, |address: &str| Some(address.to_owned()));
        assert_eq!(told(style, Some("198.51.100.1"), both), (found("198.51.100.1"), false));
        assert_eq!(told(style, Some("10.0.0.1"), both), (found("192.0.2.1"), true));
        assert_eq!(told(style, None, both), (found("192.0.2.1"), true));
        assert_eq!(told(style, None, ""), (None, true));
        assert_eq!(told(ForwardedStyle::Rfc7239, None, both), (found("192.0.2.2"), true));
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
            who(&listener, peer, &text, &head),
            Who {
                address: peer,
                trusted: true
            }
        );
        listener.forwarded.trusted = Peers::default();
        assert_eq!(
            who(&listener, None, &text, &head),
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
                true => (ForwardedStyle::Rfc7239, "Forwarded", "for=192.0.2.1, for=10.0.0.2"),
                false => (ForwardedStyle::XForwarded, "X-Forwarded-For", "192.0.2.1, 10.0.0.2"),
            };
            // A proxy adds a line of its own, or goes on in a line that it may go on in.
            let expected = (Some("192.0.2.1".to_owned()), true);
            let fields = format!("{name}: {tale}\r\n{name}: {ours}\r\n");
            prop_assert_eq!(&told(style, Some("10.0.0.1"), &fields), &expected);
            if !rfc {
                prop_assert_eq!(told(style, Some("10.0.0.1"), &format!("{name}: {tale}, {ours}\r\n")), expected);
            }
        }
    }
}
