//! Field names that mean something to a balancer.

use super::fold;

/// A field name that the program acts on. All others are [`FieldId::Other`] and pass untouched.
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
    MaxForwards,
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
    /// Any other field whose name begins with `X-Forwarded-`.
    XForwarded,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRealIp,
    XRequestId,
}

/// How the names of all [`FieldId::XForwarded`] fields begin.
const X_FORWARDED: &[u8] = b"x-forwarded-";

/// The fields that name the client.
pub const NAMING: [FieldId; 6] = [
    FieldId::XForwarded,
    FieldId::XForwardedFor,
    FieldId::XForwardedProto,
    FieldId::XForwardedHost,
    FieldId::XRealIp,
    FieldId::Forwarded,
];

impl FieldId {
    /// Returns the id of the field with this name, in any case of letters.
    pub fn from_name(name: &[u8]) -> Self {
        // Length and first letter leave at most one candidate. Setting the bit maps only letters to
        // letters, and the comparison below is exact.
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
            (9, b'x') => (b"x-real-ip", Self::XRealIp),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b'k') => (b"keep-alive", Self::KeepAlive),
            (10, b'u') => (b"user-agent", Self::UserAgent),
            (12, b'm') => (b"max-forwards", Self::MaxForwards),
            (12, b'x') => (b"x-request-id", Self::XRequestId),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (15, b'x') => (b"x-forwarded-for", Self::XForwardedFor),
            (16, b'p') => (b"proxy-connection", Self::ProxyConnection),
            (16, b'x') => (b"x-forwarded-host", Self::XForwardedHost),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (17, b'x') => (b"x-forwarded-proto", Self::XForwardedProto),
            (18, b'p') => (b"proxy-authenticate", Self::ProxyAuthenticate),
            (19, b'p') => (b"proxy-authorization", Self::ProxyAuthorization),
            (_, b'x') => (b"", Self::Other),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(candidate) {
            id
        } else if first == b'x'
            && name.len() > X_FORWARDED.len()
            && name[..X_FORWARDED.len()].eq_ignore_ascii_case(X_FORWARDED)
        {
            Self::XForwarded
        } else {
            Self::Other
        }
    }

    /// Returns the id of the field that a server may take this name for, if the name
    /// [`fold::is_odd`].
    pub fn from_odd_name(name: &[u8]) -> Self {
        Self::from_name(fold::fold(name, &mut [0; fold::FOLDED_MOST]))
    }

    /// Returns whether the field decides where a message ends or is for the next hop alone. A
    /// request with a field that only looks like one of these is an attack on the server.
    pub fn is_framing(self) -> bool {
        self.is_hop_by_hop() || matches!(self, Self::ContentLength | Self::Host | Self::Trailer)
    }

    /// Returns whether the field names the client or the way that the request came.
    pub fn is_naming(self) -> bool {
        NAMING.contains(&self)
    }

    /// Returns whether a field of this name is for the next hop alone (RFC 9110 §7.6.1). Fields of
    /// authentication to a proxy (§11.7) are among them: a gateway is not the proxy that is meant.
    ///
    /// Trailer is end-to-end (RFC 9110 §6.6.2). The writer of a head drops Trailer where no
    /// trailers are sent on.
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

    /// Returns whether the field stays even if Connection names it. Fields stay that decide framing
    /// and routing, or that name the client and the way so far. Otherwise `Connection:
    /// X-Forwarded-For` would remove what a trusted proxy in front has said.
    pub fn is_kept_from_connection(self) -> bool {
        matches!(
            self,
            Self::ContentLength
                | Self::Date
                | Self::Expect
                | Self::Forwarded
                | Self::Host
                | Self::MaxForwards
                | Self::Via
                | Self::XForwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedProto
                | Self::XRealIp
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
            ("Max-Forwards", FieldId::MaxForwards),
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
            ("X-Forwarded-Anything", FieldId::XForwarded),
            ("X-Forwarded-For", FieldId::XForwardedFor),
            ("X-Forwarded-Host", FieldId::XForwardedHost),
            ("X-Forwarded-Proto", FieldId::XForwardedProto),
            ("X-Real-IP", FieldId::XRealIp),
            ("X-Request-Id", FieldId::XRequestId),
        ];
        for (name, id) in all {
            for name in [
                name.to_owned(),
                name.to_ascii_lowercase(),
                name.to_ascii_uppercase(),
            ] {
                assert_eq!(FieldId::from_name(name.as_bytes()), id, "{name}");
                assert_eq!(
                    FieldId::from_name(name.replace('-', "_").as_bytes()) == id,
                    !name.contains('-')
                );
                assert_eq!(
                    FieldId::from_odd_name(name.replace('-', "_-_").as_bytes()),
                    id
                );
                let longer = FieldId::from_name(format!("{name} ").as_bytes());
                assert_eq!(
                    longer == FieldId::Other,
                    !name.to_ascii_lowercase().starts_with("x-forwarded-")
                );
                assert_eq!(FieldId::from_name(&name.as_bytes()[1..]), FieldId::Other);
            }
        }
        for name in [
            "",
            "X",
            "Accept",
            "HosT ",
            "(ost",
            "Cookie",
            "X-Forwarded-",
            "X-Forwarde_A",
            "8-forwarded-a",
        ] {
            assert_eq!(
                FieldId::from_name(name.as_bytes()),
                FieldId::Other,
                "{name}"
            );
        }
    }
}
