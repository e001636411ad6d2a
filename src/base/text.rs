//! Text from other parties, made safe for logs, which terminals show.

use std::fmt::Write as _;

/// Returns whether a character is shown as itself, moves nothing on a terminal and turns no text
/// around. Not plain are control characters (C0, DEL, C1), format characters (bidirectional marks
/// and overrides, zero width, byte order mark), separators other than the space, combining marks,
/// and characters that Unicode has not assigned.
pub fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        // The standard library has a table of characters that are not shown as they are.
        _ => c.escape_debug().len() == 1,
    }
}

/// Appends a text. Each character that is not plain is written as `\n` or `\u{202e}`.
pub fn push_plain(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
}

/// Appends a text that is JSON, with each character that is not plain as `\uXXXX` (RFC 8259 §7).
/// Such characters may stand only inside strings.
pub fn push_plain_json(out: &mut Vec<u8>, json: &str) {
    let mut start = 0;
    for (at, c) in json.char_indices().filter(|(_, c)| !is_plain(*c)) {
        out.extend_from_slice(&json.as_bytes()[start..at]);
        start = at + c.len_utf8();
        let mut escaped = String::new();
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(escaped, "\\u{unit:04x}"); // writing to a String cannot fail
        }
        out.extend_from_slice(escaped.as_bytes());
    }
    out.extend_from_slice(&json.as_bytes()[start..]);
}

/// Returns the first `most` bytes of a text, or fewer, so that UTF-8 does not end in half a
/// character.
pub fn start_of(text: &[u8], most: usize) -> &[u8] {
    let Some(part) = text.get(..most) else {
        return text;
    };
    let is_within = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let back = (0..4)
        .take_while(|back| *back < most && is_within(most - back))
        .count();
    if back == 4 {
        part
    } else {
        &part[..most - back]
    }
}

/// Returns the candidate that was probably meant by `word`: the nearest one, if it is near.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1) + 1;
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        // Where everything would have to change nothing is near.
        .filter(|(changes, candidate)| *changes <= most && *changes < candidate.chars().count())
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, candidate)| candidate)
}

/// Edit distance: letters to insert, remove, replace, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Characters that control a terminal or turn a line around, listed by hand.
    const HARMFUL: &[(u32, u32)] = &[
        (0x00, 0x1f),
        (0x7f, 0x9f),
        (0xad, 0xad),
        (0x61c, 0x61c),
        (0x200b, 0x200f),
        (0x2028, 0x202e),
        (0x2060, 0x206f),
        (0xfeff, 0xfeff),
        (0xfff9, 0xfffb),
        (0xe0000, 0xe007f),
    ];

    fn is_harmful(c: char) -> bool {
        HARMFUL
            .iter()
            .any(|&(from, to)| (from..=to).contains(&u32::from(c)))
    }

    fn text() -> impl Strategy<Value = String> {
        let harmful = prop::sample::select(HARMFUL)
            .prop_flat_map(|(from, to)| from..=to)
            .prop_filter_map("a character", char::from_u32);
        prop::collection::vec(
            prop_oneof![any::<char>(), harmful, prop::char::range(' ', '~')],
            0..40,
        )
        .prop_map(|chars| chars.into_iter().collect())
    }

    #[test]
    fn ordinary_text_of_many_languages_is_plain() {
        for c in "Aé ß ñ Ж λ 漢 字 あ ア 한 € → 😀 ¿".chars() {
            assert!(is_plain(c), "{c:?}");
        }
    }

    #[test]
    fn a_start_ends_between_two_characters() {
        assert_eq!(start_of("aé".as_bytes(), 2), b"a");
        assert_eq!(start_of("aé".as_bytes(), 3), "aé".as_bytes());
        assert_eq!(start_of("a漢b".as_bytes(), 3), b"a");
        assert_eq!(start_of("a😀b".as_bytes(), 4), b"a");
        assert_eq!(start_of(b"abc", 0), b"");
        // Bytes that are not UTF-8 have no characters to cut.
        assert_eq!(start_of(&[0x80; 9], 5), &[0x80; 5]);
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in text()) {
            let mut out = String::new();
            push_plain(&mut out, &text);
            prop_assert!(!out.chars().any(is_harmful), "{:?}", out);
        }

        #[test]
        fn json_reads_back_and_is_plain(text in text()) {
            let value = serde_json::json!({ "text": text });
            let mut out = Vec::new();
            push_plain_json(&mut out, &value.to_string());
            let out = String::from_utf8(out).unwrap();
            prop_assert!(out.chars().all(is_plain) && !out.chars().any(is_harmful), "{:?}", out);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), value);
        }

        #[test]
        fn a_start_is_one_and_whole(text in text(), most in 0usize..50) {
            let start = start_of(text.as_bytes(), most);
            prop_assert!(text.as_bytes().starts_with(start) && start.len() <= most);
            prop_assert!(std::str::from_utf8(start).is_ok());
            prop_assert!(start.len() == text.len() || start.len() + 4 > most);
        }
    }

    #[test]
    fn distances() {
        for (a, b, changes) in [
            ("", "", 0),
            ("", "ab", 2),
            ("adress", "address", 1),
            ("nmae", "name", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), changes, "{a} {b}");
            assert_eq!(distance(b, a), changes, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_is_near() {
        let keys = ["address", "name", "capacity"];
        assert_eq!(nearest("adress", keys.into_iter()), Some("address"));
        assert_eq!(nearest("nmae", keys.into_iter()), Some("name"));
        assert_eq!(nearest("Capacity", keys.into_iter()), Some("capacity"));
        assert_eq!(nearest("colour", keys.into_iter()), None);
        assert_eq!(nearest("x", keys.into_iter()), None);
    }
}
