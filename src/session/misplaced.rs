//! A client that speaks the protocol of the other kind of listener: plain HTTP to HTTPS, TLS to
//! plain HTTP.

/// Longest method by which plain HTTP is recognised (`UPDATEREDIRECTREF` has 17 letters).
const METHOD: usize = 20;

/// Returns whether bytes that begin a connection are TLS: a handshake record (RFC 8446 §5.1), whose
/// type begins no method.
pub(super) fn is_tls(first: &[u8]) -> bool {
    first.first() == Some(&0x16)
}

/// Returns whether bytes that begin a connection are plain HTTP/1, as far as they have come. All
/// registered methods consist of upper-case letters and hyphens, which are no types of TLS records.
pub(super) fn is_http(first: &[u8]) -> bool {
    let method = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    method.first().is_some_and(u8::is_ascii_uppercase)
        && method.len() <= METHOD
        && method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_recognised_by_its_first_bytes() {
        for http in [
            "G",
            "GET",
            "GET ",
            "GET / HTTP/1.1\r\n",
            "M-SEARCH * HTTP/1.1",
            "POST /\n",
        ] {
            assert!(
                is_http(http.as_bytes()) && !is_tls(http.as_bytes()),
                "{http}"
            );
        }
        for tls in [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01"] {
            assert!(is_tls(tls) && !is_http(tls), "{tls:?}");
        }
        for other in [
            &b""[..],
            b" ",
            b"-GET ",
            b"\x80\x2e\x01",
            b"SSH-2.0-x",
            b"get / HTTP/1.1",
            b"AAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(!is_http(other) && !is_tls(other), "{other:?}");
        }
    }
}
