//! Field names as some servers see them.
//!
//! CGI and its descendants (WSGI, PHP, Rack) make variables of fields: `X-Forwarded-For` becomes
//! `HTTP_X_FORWARDED_FOR`, and so does `X_Forwarded_For`. Other servers drop or replace further
//! signs. So a server may take two names for the same one if they differ only in signs that are
//! neither letters nor digits.

/// The longest folded name that is compared whole. Longer names are compared by their beginning.
pub const FOLDED_MOST: usize = 64;

/// Returns whether a server may take this name for another one: the name has signs other than
/// letters, digits and single hyphens.
pub fn is_odd(name: &[u8]) -> bool {
    name.windows(2).any(|pair| pair == b"--")
        || !name
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns the folded name, or its first [`FOLDED_MOST`] bytes: small letters and digits, and one
/// hyphen for each run of other bytes.
pub fn fold<'a>(name: &[u8], room: &'a mut [u8; FOLDED_MOST]) -> &'a [u8] {
    let mut length = 0;
    for &byte in name {
        let folded = if byte.is_ascii_alphanumeric() {
            byte.to_ascii_lowercase()
        } else {
            b'-'
        };
        if folded == b'-' && length > 0 && room[length - 1] == b'-' {
            continue;
        }
        if length == room.len() {
            break;
        }
        room[length] = folded;
        length += 1;
    }
    &room[..length]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(name: &str) -> String {
        let mut room = [0; FOLDED_MOST];
        String::from_utf8(fold(name.as_bytes(), &mut room).to_vec()).unwrap()
    }

    #[test]
    fn names_that_servers_confuse_are_one() {
        for name in [
            "Content-Length",
            "CONTENT_LENGTH",
            "content#-length",
            "Content--_.Length",
            "content\u{e4}length",
        ] {
            assert_eq!(folded(name), "content-length", "{name}");
        }
        assert_eq!(folded("_Content-Length-"), "-content-length-");
        assert_eq!(folded("ContentLength"), "contentlength");
        assert_eq!(folded(&"a_".repeat(100)), "a-".repeat(32));
        assert_eq!(folded(""), "");
        for (name, odd) in [
            ("X-A1", false),
            ("-X-", false),
            ("", false),
            ("X--A", true),
            ("X_A", true),
            ("X.A", true),
        ] {
            assert_eq!(is_odd(name.as_bytes()), odd, "{name}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(name in "[!-~]{0,80}") {
            let once = folded(&name);
            prop_assert_eq!(&folded(&once), &once);
            prop_assert!(!is_odd(once.as_bytes()));
            // A name that is not odd differs from its folded form only in the case of letters.
            if !is_odd(name.as_bytes()) && name.len() <= FOLDED_MOST {
                prop_assert_eq!(once, name.to_ascii_lowercase());
            }
        }
    }
}
