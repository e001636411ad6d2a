//! Splits a request target into the path and the options after `?`.

use std::str::FromStr;

/// A target's path and options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The path, percent-decoded.
    pub(crate) path: String,
    options: Vec<(String, String)>,
}

impl Target {
    /// Splits a target in origin-form or absolute-form.
    pub(crate) fn new(target: &str) -> Self {
        let rest = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                rest.find(['/', '?']).map_or("/", |at| &rest[at..])
            }
            _ => target,
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let options = query
            .split('&')
            .filter(|option| !option.is_empty())
            .map(|option| {
                let (name, value) = option.split_once('=').unwrap_or((option, "1"));
                (decode(name), decode(value))
            })
            .collect();
        Self {
            path: decode(path),
            options,
        }
    }

    /// Returns the last value of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns all values of an option.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.options
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns an option's value as a number, or `default` without one.
    pub(crate) fn number<T: FromStr>(&self, name: &str, default: T) -> T {
        self.text(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }

    /// Returns whether an option is present and not 0.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value != "0")
    }
}

/// Percent-decodes. A percent sign that begins no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| {
                text.get(at + 1..at + 3)
                    .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            })
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let target = Target::new("/__abort/body?after=10&rst&field=A:%20b&field=C:d&x=0");
        assert_eq!(target.path, "/__abort/body");
        assert_eq!(target.number("after", 1), 10);
        assert_eq!(target.number("size", 7), 7);
        assert!(target.is_set("rst") && !target.is_set("x") && !target.is_set("y"));
        assert_eq!(target.all("field").collect::<Vec<_>>(), ["A: b", "C:d"]);
        assert_eq!(Target::new("http://a.example:80/b?c").path, "/b");
        assert_eq!(Target::new("http://a.example").path, "/");
        assert_eq!(Target::new("/a?u=http://b/").path, "/a");
        assert_eq!(Target::new("*").path, "*");
        assert_eq!(Target::new("/%2e%2E/%zz%4").path, "/../%zz%4");
    }
}
