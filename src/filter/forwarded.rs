//! What servers are told of the client: X-Forwarded-*, Forwarded (RFC 7239), Via, X-Request-Id.
//!
//! A client that is not trusted could lie in any of the fields that name clients ([`NAMING`]). A
//! server may read any of them, whatever style the listener has. So with a style other than off,
//! all of them are left out of that client's requests, and also of those of a trusted client whose
//! fields are replaced. A field that the client's Connection makes hop-by-hop is ignored.

use std::io::Write;
use std::net::IpAddr;

use crate::http::{Edits, FieldId, NAMING, RequestHead, Version};
use crate::plan::{ForwardedStyle, Listener};
use crate::proto::h1::is_token;

/// What is known of the client besides its request.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts {
    /// The client's address as the balancer sees it (after a PROXY header). `None` on Unix sockets.
    pub address: Option<IpAddr>,
    /// What the client says of other clients counts.
    pub trusted: bool,
    /// The client came over TLS.
    pub tls: bool,
    /// The number of a request id. It differs for each request of this process, and is unguessable
    /// enough to differ between processes.
    pub request_id: u128,
}

/// Writes into `edits` which fields are added and which of the client's are left out.
///
/// `x-forwarded` sets For, Proto and Host. A trusted client's value of For is extended, its Proto
/// and Host are kept, and anything else is replaced. `rfc7239` adds one `Forwarded` element
/// `for=…;host=…;proto=…` (quoted where needed) after a trusted client's elements. A value in
/// several field lines is joined in order. With `replace`, a trusted client's fields are replaced
/// like those of other clients.
pub fn apply(
    listener: &Listener,
    client: &ClientFacts,
    buffer: &[u8],
    head: &RequestHead,
    edits: &mut Edits,
) {
    // An IPv4 client of a dual-stack socket is an IPv4 client.
    let client = ClientFacts {
        address: client.address.map(|address| address.to_canonical()),
        ..*client
    };
    let believed = client.trusted && !listener.forwarded.replace;
    let request = Request {
        client,
        buffer,
        head,
    };
    match listener.forwarded.style {
        ForwardedStyle::Off => {}
        ForwardedStyle::XForwarded => request.x_forwarded(believed, edits),
        ForwardedStyle::Rfc7239 => request.rfc7239(believed, edits),
    }
    if let Some(name) = &listener.via {
        let version: &[u8] = match head.version {
            Version::Http10 => b"1.0 ",
            Version::Http11 => b"1.1 ",
        };
        edits.add("Via", &[version, name.as_bytes()]);
    }
    if listener.request_id && !request.has(FieldId::XRequestId) {
        edits.add("X-Request-Id", &[&hex(client.request_id)]);
    }
}

struct Request<'a> {
    client: ClientFacts,
    buffer: &'a [u8],
    head: &'a RequestHead,
}

impl<'a> Request<'a> {
    fn x_forwarded(&self, believed: bool, edits: &mut Edits) {
        edits.add_written("X-Forwarded-For", |out| {
            if believed {
                self.copy_list(FieldId::XForwardedFor, |_| true, out);
            }
            match self.client.address {
                Some(address) => write_address(out, address),
                None => out.extend_from_slice(b"unknown"),
            }
        });
        if !(believed && self.has(FieldId::XForwardedProto)) {
            edits.add("X-Forwarded-Proto", &[self.protocol()]);
        }
        let keeps_host = believed && self.has(FieldId::XForwardedHost);
        if !keeps_host && !self.authority().is_empty() {
            edits.add("X-Forwarded-Host", &[self.authority()]);
        }
        // The client's list is copied into the field just added.
        edits.omit(if believed {
            &[FieldId::XForwardedFor]
        } else {
            &NAMING
        });
    }

    fn rfc7239(&self, believed: bool, edits: &mut Edits) {
        edits.add_written("Forwarded", |out| {
            if believed {
                // After an open quote, our own element would be part of a string.
                self.copy_list(FieldId::Forwarded, quotes_close, out);
            }
            match self.client.address {
                Some(address @ IpAddr::V4(_)) => {
                    out.extend_from_slice(b"for=");
                    write_address(out, address);
                }
                Some(address @ IpAddr::V6(_)) => {
                    out.extend_from_slice(b"for=\"[");
                    write_address(out, address);
                    out.extend_from_slice(b"]\"");
                }
                None => out.extend_from_slice(b"for=unknown"),
            }
            if !self.authority().is_empty() {
                out.extend_from_slice(b";host=");
                write_token_or_quoted(out, self.authority());
            }
            out.extend_from_slice(b";proto=");
            out.extend_from_slice(self.protocol());
        });
        edits.omit(if believed {
            &[FieldId::Forwarded]
        } else {
            &NAMING
        });
    }

    /// Copies the client's values of this field that may be copied, each followed by a comma.
    fn copy_list(&self, id: FieldId, may_be_copied: fn(&[u8]) -> bool, out: &mut Vec<u8>) {
        for value in self.head.values(id, self.buffer) {
            if !value.is_empty() && may_be_copied(value) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
    }

    fn has(&self, id: FieldId) -> bool {
        self.head.values(id, self.buffer).next().is_some()
    }

    fn authority(&self) -> &'a [u8] {
        self.head.authority.of(self.buffer)
    }

    fn protocol(&self) -> &'static [u8] {
        if self.client.tls { b"https" } else { b"http" }
    }
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        // writing to memory cannot fail
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn write_token_or_quoted(out: &mut Vec<u8>, value: &[u8]) {
    if is_token(value) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Returns whether every quoted string in a value is closed.
fn quotes_close(value: &[u8]) -> bool {
    let mut quoted = false;
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(bytes.next()),
            _ => {}
        }
    }
    !quoted
}

fn hex(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
    }
    digits
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use crate::http::{Field, Span};
    use crate::plan::{
        Forwarded, ListenerLimit, ListenerTimeout, Peers, SocketFile, UnderscoreFields,
    };
    use crate::proto::h1::{HeadLimits, parse_request};

    use super::*;

    /// A request with its fields, in one buffer.
    struct Sent {
        buffer: Vec<u8>,
        head: RequestHead,
    }

    fn sent(fields: &[(FieldId, &str)]) -> Sent {
        let mut sent = Sent {
            buffer: Vec::new(),
            head: RequestHead::default(),
        };
        for (id, value) in fields {
            let value = sent.add(value);
            sent.head.fields.push(Field {
                id: *id,
                value,
                ..Field::default()
            });
        }
        sent.head.authority = sent.add("example.org");
        sent
    }

    impl Sent {
        fn add(&mut self, text: &str) -> Span {
            let start = self.buffer.len() as u32;
            self.buffer.extend_from_slice(text.as_bytes());
            Span {
                start,
                end: self.buffer.len() as u32,
            }
        }

        /// Returns what is added and what is left out.
        fn apply(&self, listener: &Listener, address: &str) -> (String, Vec<FieldId>) {
            self.apply_from(
                listener,
                ClientFacts {
                    address: address.parse().ok(),
                    trusted: listener.forwarded.trusted.contains(address.parse().ok()),
                    tls: false,
                    request_id: 0xabc,
                },
            )
        }

        fn apply_from(&self, listener: &Listener, client: ClientFacts) -> (String, Vec<FieldId>) {
            let mut edits = Edits::default();
            apply(listener, &client, &self.buffer, &self.head, &mut edits);
            let mut omitted = vec![FieldId::Via, FieldId::XRequestId];
            omitted.extend(NAMING);
            omitted.retain(|id| edits.omits(*id));
            (String::from_utf8(edits.lines().to_vec()).unwrap(), omitted)
        }
    }

    /// Returns the text and the head of a request with these field lines.
    pub(in crate::filter) fn parsed(fields: &str) -> (Vec<u8>, RequestHead) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let limits = HeadLimits {
            head: 8192,
            fields: 100,
            target: 8192,
        };
        let mut head = RequestHead::default();
        parse_request(&text, &limits, &mut head).unwrap();
        (text, head)
    }

    /// Returns a listener that trusts 10.0.0.0/8 and 2001:db8::/32.
    pub(crate) fn listener(style: ForwardedStyle) -> Listener {
        let second = Duration::from_secs(1);
        Listener {
            name: String::new(),
            bind: Vec::new(),
            backlog: 1,
            tls: None,
            optional: false,
            proxy_protocol: Peers::default(),
            redirect_https: None,
            sessions_per_address: 0,
            half_close_serve: false,
            health_path: None,
            error_pages: Vec::new(),
            timeout: ListenerTimeout {
                handshake: second,
                header: second,
                body: second,
                body_total: None,
                idle: second,
                write: second,
            },
            limit: ListenerLimit {
                head: 1,
                fields: 1,
                target: 1,
                body: 1,
                body_memory: 1,
                response_memory: 1,
                response_spool: 1,
                min_rate: 1,
                min_upload_rate: 1,
            },
            forwarded: Forwarded {
                style,
                replace: false,
                trusted: Peers {
                    networks: vec![
                        "10.0.0.0/8".parse().unwrap(),
                        "2001:db8::/32".parse().unwrap(),
                    ],
                    unix: false,
                },
                strip: Vec::new(),
            },
            underscore_fields: UnderscoreFields::Pass,
            socket: SocketFile::default(),
            via: None,
            request_id: false,
        }
    }

    const CLAIMS: &[(FieldId, &str)] = &[
        (FieldId::XForwardedFor, "192.0.2.1"),
        (FieldId::Forwarded, "for=192.0.2.1"),
        (FieldId::XForwardedProto, "https"),
        (FieldId::XForwardedFor, ""),
        (FieldId::XForwardedFor, "192.0.2.2, 192.0.2.3"),
        (FieldId::XForwardedHost, "public.example"),
        (FieldId::Forwarded, "for=\"[2001:db8::5]\""),
    ];

    #[test]
    fn off_touches_nothing() {
        assert_eq!(
            sent(CLAIMS).apply(&listener(ForwardedStyle::Off), "192.0.2.9"),
            (String::new(), vec![])
        );
    }

    #[test]
    fn x_forwarded_replaces_what_strangers_say() {
        let expected = "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: \
                        http\r\nX-Forwarded-Host: example.org\r\n";
        let listener = listener(ForwardedStyle::XForwarded);
        for fields in [CLAIMS, &[]] {
            assert_eq!(
                sent(fields).apply(&listener, "192.0.2.9"),
                (expected.to_owned(), NAMING.to_vec())
            );
        }
    }

    #[test]
    fn x_forwarded_goes_on_with_what_the_trusted_say() {
        let listener = listener(ForwardedStyle::XForwarded);
        let (append, omitted) = sent(CLAIMS).apply(&listener, "10.1.2.3");
        assert_eq!(
            append,
            "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, 10.1.2.3\r\n"
        );
        assert_eq!(omitted, [FieldId::XForwardedFor]);
        // Where the client names only some of the fields, the others are added.
        let (append, _) = sent(&CLAIMS[..1]).apply(&listener, "2001:db8::1");
        let expected = "X-Forwarded-For: 192.0.2.1, 2001:db8::1\r\nX-Forwarded-Proto: \
                        http\r\nX-Forwarded-Host: example.org\r\n";
        assert_eq!(append, expected);
    }

    #[test]
    fn the_trusted_can_be_replaced_too() {
        let mut listener = listener(ForwardedStyle::XForwarded);
        listener.forwarded.replace = true;
        let (append, omitted) = sent(CLAIMS).apply(&listener, "10.1.2.3");
        assert!(
            append.starts_with("X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: http\r\n"),
            "{append}"
        );
        assert_eq!(omitted, NAMING);
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let (append, omitted) =
            sent(CLAIMS).apply(&listener(ForwardedStyle::XForwarded), "::ffff:10.1.2.3");
        assert!(append.ends_with(", 10.1.2.3\r\n"), "{append}");
        assert_eq!(omitted, [FieldId::XForwardedFor]);
    }

    #[test]
    fn forwarded_names_address_host_and_protocol() {
        let listener = listener(ForwardedStyle::Rfc7239);
        let sent = sent(CLAIMS);
        let (append, omitted) = sent.apply(&listener, "192.0.2.9");
        assert_eq!(
            (&*append, &*omitted),
            (
                "Forwarded: for=192.0.2.9;host=example.org;proto=http\r\n",
                &NAMING[..]
            )
        );
        let tls = ClientFacts {
            address: "2001:dead::1".parse().ok(),
            trusted: false,
            tls: true,
            request_id: 0,
        };
        let (append, _) = sent.apply_from(&listener, tls);
        assert_eq!(
            append,
            "Forwarded: for=\"[2001:dead::1]\";host=example.org;proto=https\r\n"
        );
        let (append, _) = sent.apply_from(
            &listener,
            ClientFacts {
                address: None,
                ..tls
            },
        );
        assert_eq!(
            append,
            "Forwarded: for=unknown;host=example.org;proto=https\r\n"
        );
    }

    #[test]
    fn forwarded_goes_on_with_what_the_trusted_say() {
        let listener = listener(ForwardedStyle::Rfc7239);
        let (append, omitted) = sent(CLAIMS).apply(&listener, "10.1.2.3");
        let expected = "Forwarded: for=192.0.2.1, for=\"[2001:db8::5]\", \
                        for=10.1.2.3;host=example.org;proto=http\r\n";
        assert_eq!((&*append, &*omitted), (expected, &[FieldId::Forwarded][..]));
    }

    #[test]
    fn an_open_quote_cannot_swallow_our_element() {
        let listener = listener(ForwardedStyle::Rfc7239);
        for (value, kept) in [
            ("for=\"x", false),
            ("for=\"x\\\"", false),
            ("for=\"x\\\"\"", true),
            ("for=\"x\\", false),
        ] {
            let (append, _) = sent(&[(FieldId::Forwarded, value)]).apply(&listener, "10.1.2.3");
            let kept = if kept {
                format!("{value}, ")
            } else {
                String::new()
            };
            assert_eq!(
                append,
                format!("Forwarded: {kept}for=10.1.2.3;host=example.org;proto=http\r\n")
            );
        }
    }

    #[test]
    fn hosts_are_quoted_where_needed_and_left_out_where_there_is_none() {
        let listener = listener(ForwardedStyle::Rfc7239);
        for (authority, written) in [
            ("example.org:80", ";host=\"example.org:80\""),
            ("[::1]", ";host=\"[::1]\""),
            ("a\"b\\c;d", ";host=\"a\\\"b\\\\c;d\""),
            ("", ""),
        ] {
            let mut sent = sent(&[]);
            sent.head.authority = sent.add(authority);
            let (append, _) = sent.apply(&listener, "192.0.2.9");
            assert_eq!(
                append,
                format!("Forwarded: for=192.0.2.9{written};proto=http\r\n")
            );
        }
        let mut sent = sent(&[]);
        sent.head.authority = Span::default();
        let (append, _) = sent.apply(&self::listener(ForwardedStyle::XForwarded), "");
        assert_eq!(
            append,
            "X-Forwarded-For: unknown\r\nX-Forwarded-Proto: http\r\n"
        );
    }

    #[test]
    fn a_hop_by_hop_claim_is_not_heard() {
        let mut sent = sent(&[CLAIMS[0], CLAIMS[2], (FieldId::XRequestId, "mine")]);
        for field in &mut sent.head.fields {
            field.hop_by_hop = true;
        }
        let mut listener = listener(ForwardedStyle::XForwarded);
        listener.request_id = true;
        let (append, _) = sent.apply(&listener, "10.1.2.3");
        let expected = "X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: \
                        example.org\r\nX-Request-Id: 00000000000000000000000000000abc\r\n";
        assert_eq!(append, expected);
    }

    #[test]
    fn via_and_request_id_are_added() {
        let mut listener = listener(ForwardedStyle::Off);
        (listener.via, listener.request_id) = (Some("juggler".to_owned()), true);
        let (append, omitted) = sent(&[(FieldId::Via, "1.1 cdn")]).apply(&listener, "10.1.2.3");
        assert_eq!(
            append,
            "Via: 1.1 juggler\r\nX-Request-Id: 00000000000000000000000000000abc\r\n"
        );
        assert_eq!(omitted, []);
        let mut sent = sent(&[(FieldId::XRequestId, "mine")]);
        sent.head.version = Version::Http10;
        assert_eq!(sent.apply(&listener, "10.1.2.3").0, "Via: 1.0 juggler\r\n");
    }
}
