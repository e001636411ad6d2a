//! Paths as rules see them: one spelling for all that a server may take for the same path.
//!
//! A server gets the path as its client spelt it. Rules see it with
//! - escapes decoded, where that does not change its structure: `%61` is `a`; `%2F`, `%5C`, `%25`,
//!   `%3B`, `%3F`, `%23` and bytes that are not visible ASCII stay escaped, in capitals (RFC 3986
//!   §6.2.2),
//! - the parameters of each segment removed (`/a;b=c/d` is `/a/d`), because servlet containers do
//!   not see them in paths. The rest of a segment after a zero byte is removed too, because some
//!   servers end there,
//! - dot segments resolved, also escaped ones; `..` at the root stays at the root (RFC 3986
//!   §5.2.4),
//! - slashes in a row merged.
//!
//! A backslash is not a slash but an ordinary character (`%5C`): a server that takes it for a slash
//! has to protect itself. A percent sign that begins no escape is reported
//! ([`Seen::is_ambiguous`]), since servers treat it differently.

/// The longest path of a rule, in bytes. Of a longer path only the beginning is seen, which is all
/// that a rule can match.
pub const RULE_MOST: usize = 1000;

/// Room for a path that has to be respelt. It is longer than [`RULE_MOST`], so that the end of a
/// segment shows.
const ROOM: usize = RULE_MOST + 24;

/// Room for one path.
#[derive(Debug)]
pub struct PathRoom([u8; ROOM]);

impl PathRoom {
    /// Makes empty room.
    #[allow(
        clippy::new_without_default,
        reason = "a kilobyte should not be made in passing"
    )]
    pub fn new() -> Self {
        Self([0; ROOM])
    }
}

/// A path as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The path, or its first bytes if it is very long.
    pub path: &'a [u8],
    /// The path has a percent sign that begins no escape.
    pub is_ambiguous: bool,
}

/// Returns the path of a target (without its query) as rules see it. Allocates nothing, and copies
/// nothing if the path is spelt so already.
pub fn see<'a>(path: &'a [u8], room: &'a mut PathRoom) -> Seen<'a> {
    if is_plain(path) {
        return Seen {
            path,
            is_ambiguous: false,
        };
    }
    let mut out = Output::new(&mut room.0);
    let mut is_ambiguous = false;
    for segment in path
        .strip_prefix(b"/")
        .unwrap_or(path)
        .split(|&byte| byte == b'/')
    {
        out.begin_segment();
        is_ambiguous |= decode(segment, &mut out);
        out.end_segment();
    }
    let length = out.end();
    Seen {
        path: &room.0[..length],
        is_ambiguous,
    }
}

/// Returns whether rules see the path as it is.
fn is_plain(path: &[u8]) -> bool {
    // A path without a leading slash is seen as if it had one.
    if !matches!(path, [] | [b'/', ..]) {
        return false;
    }
    let mut before = 0;
    for &byte in path {
        let is_special = matches!(byte, b'%' | b';' | b'\\');
        if is_special
            || before == b'/' && matches!(byte, b'/' | b'.')
            || !matches!(byte, 0x21..=0x7e)
        {
            return false;
        }
        before = byte;
    }
    true
}

/// Appends a segment as rules see it. Returns whether the segment has a percent sign that begins no
/// escape.
fn decode(segment: &[u8], out: &mut Output<'_>) -> bool {
    let mut is_ambiguous = false;
    let mut rest = segment;
    loop {
        let (byte, after) = match rest {
            [] | [b';' | 0, ..] | [b'%', b'0', b'0', ..] => break,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (value(*high) << 4 | value(*low), after)
            }
            [byte, after @ ..] => {
                is_ambiguous |= *byte == b'%';
                (*byte, after)
            }
        };
        match byte {
            b'%' | b'/' | b'\\' | b';' | b'?' | b'#' => out.push_escaped(byte),
            0x21..=0x7e => out.push(byte),
            _ => out.push_escaped(byte),
        }
        rest = after;
    }
    // The part that is left out is checked as well.
    is_ambiguous || has_bad_escape(rest)
}

fn has_bad_escape(text: &[u8]) -> bool {
    let is_escape =
        |rest: &[u8]| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    memchr::memchr_iter(b'%', text).any(|place| !is_escape(&text[place + 1..]))
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10) & 0xf,
    }
}

/// The kind of a segment, as far as it is decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    Name,
}

/// A path under construction, of which the beginning is kept. Each segment follows its slash.
struct Output<'a> {
    room: &'a mut [u8; ROOM],
    length: usize,
    segment: Segment,
    /// The number of segments, at the end, that are not kept whole.
    lost: usize,
    /// Where the first of those begins.
    kept: usize,
}

impl<'a> Output<'a> {
    fn new(room: &'a mut [u8; ROOM]) -> Self {
        Self {
            room,
            length: 0,
            segment: Segment::Empty,
            lost: 0,
            kept: 0,
        }
    }

    fn begin_segment(&mut self) {
        self.segment = Segment::Empty;
        if self.lost > 0 {
            self.lost += 1;
        } else {
            self.kept = self.length;
            self.append(b"/");
        }
    }

    fn push(&mut self, byte: u8) {
        self.segment = match (self.segment, byte) {
            (Segment::Empty, b'.') => Segment::Dot,
            (Segment::Dot, b'.') => Segment::DotDot,
            _ => Segment::Name,
        };
        self.append(&[byte]);
    }

    fn push_escaped(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        self.segment = Segment::Name;
        self.append(&[
            b'%',
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 0xf)],
        ]);
    }

    /// Appends the bytes that fit. The rest is dropped, because rules do not match it.
    fn append(&mut self, bytes: &[u8]) {
        if self.lost > 0 {
            return;
        }
        let free = &mut self.room[self.length..];
        let fits = bytes.len().min(free.len());
        free[..fits].copy_from_slice(&bytes[..fits]);
        self.length += fits;
        if fits < bytes.len() {
            self.lost = 1;
        }
    }

    fn end_segment(&mut self) {
        match self.segment {
            Segment::Name => {}
            Segment::Empty | Segment::Dot => self.take_back(),
            Segment::DotDot => {
                self.take_back();
                self.take_back();
            }
        }
    }

    /// Removes the last segment, if there is one.
    fn take_back(&mut self) {
        match self.lost {
            0 => {
                let start = memchr::memrchr(b'/', &self.room[..self.length]);
                self.length = start.unwrap_or(0);
            }
            1 => {
                self.lost = 0;
                self.length = self.kept;
            }
            _ => self.lost -= 1,
        }
    }

    /// Returns the length of the whole. A path whose last segment was removed ends with a slash
    /// (RFC 3986 §5.2.4).
    fn end(mut self) -> usize {
        if self.segment != Segment::Name {
            self.append(b"/");
        }
        self.length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(path: &str) -> String {
        let mut room = PathRoom::new();
        String::from_utf8(see(path.as_bytes(), &mut room).path.to_vec()).unwrap()
    }

    fn is_ambiguous(path: &str) -> bool {
        see(path.as_bytes(), &mut PathRoom::new()).is_ambiguous
    }

    #[test]
    fn paths_are_seen_through() {
        for (path, expected) in [
            ("", ""),
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/b.c/..d/e..", "/a/b.c/..d/e.."),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/./b/../../c", "/c"),
            ("/../../a", "/a"),
            ("/a/../../../b/..", "/"),
            ("/...", "/..."),
            ("/%61%7e%2D%2e%5F", "/a~-._"),
            ("/%2e/%2E%2e/%2e./a", "/a"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb\\c", "/a%5Cb%5Cc"),
            ("/%25%32%35", "/%2525"),
            ("/%2561", "/%2561"),
            ("/%3b;a/%3Fx/%23", "/%3B/%3Fx/%23"),
            ("/%21%2a%28%20%7F%c3%a9", "/!*(%20%7F%C3%A9"),
            ("/;", "/"),
            ("/;a/b;c=d;e/;/f", "/b/f"),
            ("/a/..;x/b", "/b"),
            ("/a/.;x/b", "/a/b"),
            ("/a;/", "/a/"),
            ("/a%00b/c", "/a/c"),
            ("/%00/a", "/a"),
            ("/a%", "/a%25"),
            ("/%zz%4", "/%25zz%254"),
            ("/%%61", "/%25a"),
        ] {
            assert_eq!(seen(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_escape_is_told() {
        for path in [
            "/%", "/a%2", "/%g1", "/%1g/..", "/a;%", "/a%00%", "/%u0061", "/%%61",
        ] {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in ["/", "/%25", "/%00/../;a%20", "/a//../b"] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn what_has_no_room_still_counts() {
        let long = "x".repeat(ROOM + 10);
        let many = "/y".repeat(ROOM);
        for (path, expected) in [
            (format!("/a//{long}/../b"), "/a/b".to_owned()),
            (format!("/a//{long}/c/./../..//b"), "/a/b".to_owned()),
            (
                format!("/a//{long}/c/.."),
                format!("/a/{}", &long[..ROOM - 3]),
            ),
            (format!("/.{many}{}", "/..".repeat(ROOM)), "/".to_owned()),
            (
                format!("/.{many}{}/z", "/..".repeat(ROOM - 1)),
                "/y/z".to_owned(),
            ),
            (
                format!("/.{many}{}/", "/%2e%2e".repeat(ROOM - 1)),
                "/y/".to_owned(),
            ),
            (format!("/.{many}"), many[..ROOM].to_owned()),
            (
                format!("/./{}", "%25".repeat(ROOM)),
                format!("/{}", "%25".repeat(ROOM))[..ROOM].to_owned(),
            ),
        ] {
            assert_eq!(seen(&path), expected, "{path}");
        }
    }

    /// Respells a path of these segments, as `choices` say.
    fn respelt(segments: &[String], choices: &[u8]) -> String {
        let mut choices = choices.iter().copied().cycle();
        let mut choose = move || choices.next().unwrap_or(0);
        let mut path = String::new();
        for segment in segments {
            path += [
                "/",
                "//",
                "/./",
                "/x/../",
                "/%2e/",
                "/;p/",
                "/x/y;/.%2E/..;q/",
            ][usize::from(choose() % 7)];
            for byte in segment.bytes() {
                match choose() % 3 {
                    0 => path += &format!("%{byte:02x}"),
                    1 => path += &format!("%{byte:02X}"),
                    _ if b"%/\\;?#".contains(&byte) => path += &format!("%{byte:02x}"),
                    _ => path.push(char::from(byte)),
                }
            }
            path += ["", ";", ";a=b", ";a=%2f;c"][usize::from(choose() % 4)];
        }
        path
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn every_spelling_is_seen_alike(
            segments in prop::collection::vec("[!-~]{1,6}", 1..5),
            one in prop::collection::vec(any::<u8>(), 1..20),
            other in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            // Dot segments are never a path's own.
            prop_assume!(segments.iter().all(|segment| segment != "." && segment != ".."));
            let (one, other) = (respelt(&segments, &one), respelt(&segments, &other));
            prop_assert!(!is_ambiguous(&one));
            prop_assert_eq!(seen(&one), seen(&other), "{} {}", one, other);
        }

        #[test]
        fn any_bytes_hold_what_must_hold(path in "[/.%;2efF05cx\\\\]{0,40}") {
            crate::route::check::path(path.as_bytes());
        }
    }
}
