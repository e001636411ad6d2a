//! Keeps fields from servers that a server may take for others, or that only a trusted client may
//! send.
//!
//! The parser has already refused fields that look like framing, whatever the listener's settings.

use crate::fault::Fault;
use crate::http::{FieldId, RequestHead, fold};
use crate::plan::{ForwardedStyle, Listener, UnderscoreFields};

/// Marks the fields that are not sent on as if they were for this hop alone. `trusted` says whether
/// the client is one of `forwarded.trusted`.
///
/// # Errors
///
/// [`Fault::BadRequest`], if the listener refuses such names.
pub fn keep_back(
    listener: &Listener,
    trusted: bool,
    buffer: &[u8],
    head: &mut RequestHead,
) -> Result<(), Fault> {
    if !head.has_odd_field && (trusted || listener.forwarded.strip.is_empty()) {
        return Ok(());
    }
    for field in &mut head.fields {
        match judge(listener, trusted, field.name.of(buffer), field.odd) {
            Verdict::Pass => {}
            Verdict::Drop => field.hop_by_hop = true,
            Verdict::Refuse => return Err(Fault::BadRequest),
        }
    }
    Ok(())
}

/// Removes the trailer lines (each with its CRLF) that are not sent on.
///
/// # Errors
///
/// [`Fault::BadRequest`], if the listener refuses such names.
pub fn keep_back_trailers(
    listener: &Listener,
    trusted: bool,
    trailers: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut place = 0;
    while let Some(end) = memchr::memchr(b'\n', trailers.get(place..).unwrap_or_default()) {
        let next = place + end + 1;
        let line = &trailers[place..next];
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        match judge(listener, trusted, name, fold::is_odd(name)) {
            Verdict::Pass => place = next,
            Verdict::Drop => drop(trailers.drain(place..next)),
            Verdict::Refuse => return Err(Fault::BadRequest),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Verdict {
    Pass,
    Drop,
    Refuse,
}

fn judge(listener: &Listener, trusted: bool, name: &[u8], odd: bool) -> Verdict {
    if !odd {
        let is_stripped = || {
            listener
                .forwarded
                .strip
                .iter()
                .any(|strip| name.eq_ignore_ascii_case(strip.as_bytes()))
        };
        return if !trusted && is_stripped() {
            Verdict::Drop
        } else {
            Verdict::Pass
        };
    }
    let mut room = [0; fold::FOLDED_MOST];
    let folded = fold::fold(name, &mut room);
    let id = FieldId::from_name(folded);
    let is_ours = match id {
        FieldId::XRequestId => listener.request_id,
        id => id.is_naming() && listener.forwarded.style != ForwardedStyle::Off,
    };
    // A trusted client has no reason for an odd spelling.
    if is_ours
        || listener
            .forwarded
            .strip
            .iter()
            .any(|strip| folded == strip.as_bytes())
    {
        return Verdict::Drop;
    }
    match listener.underscore_fields {
        UnderscoreFields::Pass => Verdict::Pass,
        UnderscoreFields::Drop => Verdict::Drop,
        UnderscoreFields::Refuse => Verdict::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::filter::forwarded::tests::{listener, parsed};

    use super::*;

    /// Returns the names of the fields that stay.
    fn kept(listener: &Listener, trusted: bool, fields: &str) -> Result<Vec<String>, Fault> {
        let (text, mut head) = parsed(fields);
        keep_back(listener, trusted, &text, &mut head)?;
        let mut trailers = fields.as_bytes().to_vec();
        keep_back_trailers(listener, trusted, &mut trailers)?;
        let stay = head
            .fields
            .iter()
            .filter(|field| !field.hop_by_hop && field.id != FieldId::Host);
        let names: Vec<_> = stay
            .map(|field| String::from_utf8_lossy(field.name.of(&text)).into_owned())
            .collect();
        let in_trailers = String::from_utf8(trailers).unwrap();
        let in_trailers: Vec<_> = in_trailers
            .lines()
            .map(|line| line.split(':').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names, in_trailers);
        Ok(names)
    }

    #[test]
    fn doubles_of_what_is_told_go() {
        let fields = "X_Forwarded_For: a\r\nX-B: b\r\nX_C: c\r\nX.Real.IP: d\r\nX_Request_ID: \
                      e\r\nX_FORWARDED-Anything: f\r\n";
        let mut on = listener(ForwardedStyle::Rfc7239);
        for trusted in [false, true] {
            assert_eq!(
                kept(&on, trusted, fields).unwrap(),
                ["X-B", "X_C", "X_Request_ID"]
            );
        }
        on.request_id = true;
        assert_eq!(kept(&on, true, fields).unwrap(), ["X-B", "X_C"]);
        on.underscore_fields = UnderscoreFields::Drop;
        assert_eq!(kept(&on, false, fields).unwrap(), ["X-B"]);
        on.underscore_fields = UnderscoreFields::Refuse;
        assert_eq!(kept(&on, false, fields), Err(Fault::BadRequest));
        assert_eq!(
            kept(&on, false, "X_Forwarded_For: a\r\n").unwrap(),
            [""; 0],
            "dropped, not refused"
        );
        assert_eq!(
            kept(&listener(ForwardedStyle::Off), false, fields)
                .unwrap()
                .len(),
            6
        );
    }

    #[test]
    fn what_is_stripped_comes_from_the_trusted_alone() {
        let mut off = listener(ForwardedStyle::Off);
        off.forwarded.strip = vec!["x-client-cert".to_owned(), "user-agent".to_owned()];
        let fields = "X-Client-Cert: a\r\nX_CLIENT_CERT: b\r\nUser-Agent: c\r\nUser_Agent: \
                      d\r\nX-Client-Certs: e\r\n";
        assert_eq!(kept(&off, false, fields).unwrap(), ["X-Client-Certs"]);
        assert_eq!(
            kept(&off, true, fields).unwrap(),
            ["X-Client-Cert", "User-Agent", "X-Client-Certs"]
        );
    }

    proptest! {
        /// No spelling that folds to a field of ours is sent on.
        #[test]
        fn no_spelling_gets_through(
            signs in prop::collection::vec("[-!#$%&'*+.^_`|~]{1,3}", 2),
            upper in any::<bool>(),
        ) {
            let name = format!("x{}real{}ip", signs[0], signs[1]);
            let name = if upper { name.to_ascii_uppercase() } else { name };
            let on = listener(ForwardedStyle::XForwarded);
            let odd = fold::is_odd(name.as_bytes());
            prop_assert!(!odd || matches!(judge(&on, true, name.as_bytes(), odd), Verdict::Drop));
            prop_assert_eq!(FieldId::from_odd_name(name.as_bytes()), FieldId::XRealIp);
        }
    }
}
