//! Field names that mean something to a balancer.

/// A field name that is looked at somewhere; all others are [`FieldId::Other`] and pass untouched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the field of that name")]
pub enum FieldId {
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    KeepAlive,
    #[default]
    Other,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Referer,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRequestId,
}

impl FieldId {
    /// The id of this name, in any case of letters.
    pub fn from_name(name: &[u8]) -> Self {
        // Length and first letter leave one candidate at most. Setting the bit maps only letters to letters, and the
        // comparison afterwards is exact.
        let first = name.first().map_or(0, |byte| byte | 0x20);
        let (candidate, id): (&[u8], Self) = match (name.len(), first) {
            (2, b't') => (b"te", Self::Te),
            (3, b'v') => (b"via", Self::Via),
            (4, b'd') => (b"date", Self::Date),
            (4, b'h') => (b"host", Self::Host),
            (6, b'e') => (b"expect", Self::Expect),
            (7, b'r') => (b"referer", Self::Referer),
            (7, b't') => (b"trailer", Self::Trailer),
            (7, b'u') => (b"upgrade", Self::Upgrade),
            (9, b'f') => (b"forwarded", Self::Forwarded),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b'k') => (b"keep-alive", Self::KeepAlive),
            (10, b'u') => (b"user-agent", Self::UserAgent),
            (12, b'x') => (b"x-request-id", Self::XRequestId),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (15, b'x') => (b"x-forwarded-for", Self::XForwardedFor),
            (16, b'p') => (b"proxy-connection", Self::ProxyConnection),
            (16, b'x') => (b"x-forwarded-host", Self::XForwardedHost),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (17, b'x') => (b"x-forwarded-proto", Self::XForwardedProto),
            (18, b'p') => (b"proxy-authenticate", Self::ProxyAuthenticate),
            (19, b'p') => (b"proxy-authorization", Self::ProxyAuthorization),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(candidate) {
            id
        } else {
            Self::Other
        }
    }

    /// Whether a field of this name is for the next hop alone (RFC 9110 §7.6.1; for authentication to a proxy
    /// §11.7, since a gateway is not the proxy that is meant).
    ///
    /// Trailer is end-to-end (RFC 9110 §6.6.2); who writes a head drops it where no trailers are sent on.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether it stays even if Connection names it: what decides framing and routing, and what tells of the client and
    /// the way so far. Else `Connection: X-Forwarded-For` would take away what a trusted proxy in front said.
    pub fn is_kept_from_connection(self) -> bool {
        matches!(
            self,
            Self::ContentLength
                | Self::Date
                | Self::Expect
                | Self::Forwarded
                | Self::Host
                | Self::Via
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedProto
                | Self::XRequestId
        )
    }
}

#[cfg(test)]
mod tests {
    use super::FieldId;

    #[test]
    fn names_in_any_case() {
        let all = [
            ("Connection", FieldId::Connection),
            ("Content-Length", FieldId::ContentLength),
            ("Date", FieldId::Date),
            ("Expect", FieldId::Expect),
            ("Forwarded", FieldId::Forwarded),
            ("Host", FieldId::Host),
            ("Keep-Alive", FieldId::KeepAlive),
            ("Proxy-Authenticate", FieldId::ProxyAuthenticate),
            ("Proxy-Authorization", FieldId::ProxyAuthorization),
            ("Proxy-Connection", FieldId::ProxyConnection),
            ("Referer", FieldId::Referer),
            ("TE", FieldId::Te),
            ("Trailer", FieldId::Trailer),
            ("Transfer-Encoding", FieldId::TransferEncoding),
            ("Upgrade", FieldId::Upgrade),
            ("User-Agent", FieldId::UserAgent),
            ("Via", FieldId::Via),
            ("X-Forwarded-For", FieldId::XForwardedFor),
            ("X-Forwarded-Host", FieldId::XForwardedHost),
            ("X-Forwarded-Proto", FieldId::XForwardedProto),
            ("X-Request-Id", FieldId::XRequestId),
        ];
        for (name, id) in all {
            for name in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                assert_eq!(FieldId::from_name(name.as_bytes()), id, "{name}");
                assert_eq!(
                    FieldId::from_name(name.replace('-', "_").as_bytes()) == id,
                    !name.contains('-')
                );
                assert_eq!(FieldId::from_name(format!("{name} ").as_bytes()), FieldId::Other);
                assert_eq!(FieldId::from_name(&name.as_bytes()[1..]), FieldId::Other);
            }
        }
        for name in ["", "X", "Accept", "HosT ", "(ost", "Cookie"] {
            assert_eq!(FieldId::from_name(name.as_bytes()), FieldId::Other, "{name}");
        }
    }
}
