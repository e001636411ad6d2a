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
        let _ = name;
        todo!()
    }
}
