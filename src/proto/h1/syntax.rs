//! Byte classes and small grammars that scanner, parser and decoder share.

use std::net::Ipv6Addr;

/// Returns the position of the first control byte: below SP (CR, LF and HTAB too) or DEL.
///
/// The search takes eight bytes at a time, since most of a head has none. A borrow can only spoil
/// bytes after a true hit, so the lowest hit of a word is always right.
pub(super) fn find_control(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let delete = word ^ (ONES * 0x7f);
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (low | (delete.wrapping_sub(ONES) & !delete)) & HIGH;
        if hits != 0 {
            return Some(index * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    let place = rest.iter().position(|&byte| byte < 0x20 || byte == 0x7f)?;
    Some(words.len() * 8 + place)
}

/// Returns whether the byte is a `tchar` (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)] != 0
}

/// Returns whether the bytes are a `token` (RFC 9110 §5.6.2), as names of fields and of cookies are
/// (RFC 6265 §4.1.1).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Returns how many bytes at the start are `tchar`.
pub(super) fn token_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&byte| !is_token_byte(byte))
        .unwrap_or(bytes.len())
}

/// Returns how many bytes at the start are `tchar`, and whether they include a sign other than
/// letters, digits and single hyphens ([`crate::http::fold::is_odd`]).
pub(super) fn name_shape(bytes: &[u8]) -> (usize, bool) {
    let (mut seen, mut before) = (0, 0);
    for (place, &byte) in bytes.iter().enumerate() {
        let class = TOKEN[usize::from(byte)];
        if class == 0 {
            return (place, seen & ODD != 0);
        }
        // The second of two hyphens is odd.
        seen |= class | (class & before & HYPHEN) << 1;
        before = class;
    }
    (bytes.len(), seen & ODD != 0)
}

/// Removes OWS (RFC 9110 §5.6.3) at both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Returns the elements of a comma-separated list (RFC 9110 §5.6.1), trimmed. Empty elements are
/// included, so that a caller can refuse them.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Parses `1*DIGIT` that fits: no sign, no whitespace, no list.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Returns whether the bytes are `uri-host [ ":" port ]` (RFC 9110 §7.2) with a host that is not
/// empty.
///
/// This is narrower than RFC 3986 in parts that are not needed but are abused. A name consists of
/// letters, digits, `-`, `_` and single dots between them (one more may stand at the end), and is
/// no longer than [`NAME_MOST`]. It has no other signs and no escapes, which only some readers
/// decode. There is no userinfo, no `IPvFuture`, no zone, and a port is at most 65535. An empty
/// port counts as none (RFC 3986 §3.2.3).
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    if let [b'[', rest @ ..] = bytes {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, after) = rest.split_at(end);
        let is_address = str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
        return is_address && is_port(&after[1..]);
    }
    let end = bytes
        .iter()
        .position(|&byte| !HOST[usize::from(byte)])
        .unwrap_or(bytes.len());
    let (host, port) = bytes.split_at(end);
    let name = host.strip_suffix(b".").unwrap_or(host);
    // Two dots, or a dot at an end, make an empty label (RFC 1035 §2.3.1).
    let has_empty_label = name.is_empty()
        || name[0] == b'.'
        || name.windows(2).any(|pair| pair == b"..")
        || name.ends_with(b".");
    !has_empty_label && name.len() <= NAME_MOST && is_port(port)
}

fn is_port(bytes: &[u8]) -> bool {
    match bytes {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5 && decimal(digits).is_some_and(|port| port <= 65535)
        }
        _ => false,
    }
}

/// The longest host name in bytes, without the final dot (RFC 1035 §2.3.4: 255 bytes on the wire).
/// Routes compare no more.
const NAME_MOST: usize = 253;

/// A letter or digit, a hyphen, any other `tchar`.
const PLAIN: u8 = 1;
const HYPHEN: u8 = 2;
const ODD: u8 = 4;

/// The class of each `tchar`; 0 for other bytes.
static TOKEN: [u8; 256] = {
    let others = class(b"!#$%&'*+-.^_`|~");
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'-' => HYPHEN,
            letter if letter.is_ascii_alphanumeric() => PLAIN,
            _ if others[byte] => ODD,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The bytes of host names and dotted numbers. A `reg-name` (RFC 3986 §3.2.2) may have more.
static HOST: [bool; 256] = class(b"-._");

/// Letters, digits and `others`.
const fn class(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_found_where_they_are() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                for filler in [b'a', 0x20, 0x7e, 0x80, 0xff] {
                    let mut bytes = [filler; 20];
                    bytes[place] = byte;
                    let expected = (byte < 0x20 || byte == 0x7f).then_some(place);
                    assert_eq!(
                        find_control(&bytes),
                        expected,
                        "{byte:#x} at {place} in {filler:#x}"
                    );
                    // Bytes after a hit do not move it.
                    bytes[19] = 0x1f;
                    assert_eq!(find_control(&bytes), Some(expected.unwrap_or(19)));
                }
            }
        }
    }

    #[test]
    fn shapes_of_names() {
        for byte in 0..=255_u8 {
            for name in [
                vec![byte],
                vec![b'X', byte],
                vec![b'-', byte, b'-'],
                vec![b'X', b'-', byte],
            ] {
                let (length, odd) = name_shape(&name);
                assert_eq!(length, token_length(&name));
                assert_eq!(
                    odd,
                    crate::http::fold::is_odd(&name[..length]),
                    "{}",
                    name.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn authorities() {
        let right = [
            "a",
            "example.org",
            "EXAMPLE.org.",
            "example.org:80",
            "example.org:",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:8080",
            "[::ffff:1.2.3.4]",
            "a_b",
            "-a-.b.",
        ];
        let wrong = [
            "",
            ":80",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:8a",
            "a:000080",
            "a b",
            "a,b",
            "u@a",
            "u:p@a",
            "[::1",
            "::1",
            "[::1]x",
            "[::1%25lo]",
            "[v1.a]",
            "[]",
            "a/b",
            "a?b",
            "a#b",
            "a%",
            "a%2",
            "a%zz",
            "a\\b",
            "a:80:80",
            "ä",
            "a\tb",
            "[1.2.3.4]",
            "a%2db",
            "a!b",
            "a;b",
            "a=b",
            "a~b",
            "a*",
            "(a)",
            "a..",
            "a..b",
            ".a",
            ".",
            "..",
            "a..:80",
            "[::1].",
        ];
        let longest = format!("{}.a", "a".repeat(NAME_MOST - 2));
        for right in [longest.clone(), format!("{longest}.:80")] {
            assert!(is_authority(right.as_bytes()), "{right}");
        }
        for wrong in [
            format!("{longest}b"),
            format!("{longest}b."),
            format!("{longest}b:80"),
        ] {
            assert!(!is_authority(wrong.as_bytes()), "{wrong}");
        }
        for text in right {
            assert!(is_authority(text.as_bytes()), "{text}");
        }
        for text in wrong {
            assert!(!is_authority(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [
            "",
            "18446744073709551616",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1,1",
            "0x1",
            "1.0",
            "1_0",
            "٣",
        ] {
            assert_eq!(decimal(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
