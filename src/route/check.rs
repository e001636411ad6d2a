//! What must hold for any path: the body of a fuzz target in `fuzz/`, which tests run too.
//!
//! A check panics if its property does not hold. The program itself does not call it.

use super::path::{PathRoom, see};
use super::{Route, RouteTable};

/// Checks that seeing a seen path changes nothing; that a seen path has no dot segment, empty
/// segment or parameter; that a path finds its own route; and that a segment which is added and
/// taken back changes nothing.
pub fn path(data: &[u8]) {
    let (mut room, mut again) = (PathRoom::new(), PathRoom::new());
    let first = see(data, &mut room);
    if data.is_empty() {
        assert!(first.path.is_empty());
        return;
    }
    let second = see(first.path, &mut again);
    // A very long path may be cut within an escape.
    if first.path.len() < super::path::RULE_MOST {
        assert_eq!(
            (second.path, second.is_ambiguous),
            (first.path, false),
            "{}",
            data.escape_ascii()
        );
    }
    assert!(first.path.starts_with(b"/"));
    let inner = &first.path[1..];
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    if !inner.is_empty() {
        for segment in inner.split(|&byte| byte == b'/') {
            assert!(
                !matches!(segment, b"" | b"." | b".."),
                "{}",
                data.escape_ascii()
            );
        }
    }
    assert!(
        first
            .path
            .iter()
            .all(|byte| matches!(byte, 0x21..=0x7e) && !b";\\?#".contains(byte))
    );

    let detour = [b"/%78;a//./../", data].concat();
    let mut by_detour = PathRoom::new();
    assert_eq!(
        see(&detour, &mut by_detour).path,
        first.path,
        "{}",
        data.escape_ascii()
    );

    if first.path.len() <= super::path::RULE_MOST {
        let path = String::from_utf8_lossy(first.path.strip_suffix(b"/").unwrap_or(first.path))
            .into_owned();
        let path = if path.is_empty() {
            "/".to_owned()
        } else {
            path
        };
        let route = Route {
            host: None,
            path,
            cluster: 0,
            bucket: None,
            is_stream: false,
            upgrade: crate::route::Upgrade::default(),
        };
        let table = RouteTable::new(vec![route]);
        assert!(
            table.find(b"", first.path).is_some(),
            "{}",
            data.escape_ascii()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs the check over the seeds that the fuzzer starts from.
    #[test]
    fn seeds_of_paths() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/path");
        let files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(files.len() >= 12, "{} seeds", files.len());
        for file in files {
            println!("{}", file.display());
            super::path(&fs::read(file).unwrap());
        }
    }
}
