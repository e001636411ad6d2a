//! The value of the Date field, formatted once a second.

use std::time::{SystemTime, UNIX_EPOCH};

/// One thread's cached date (IMF-fixdate, RFC 9110 §5.6.7).
#[derive(Debug, Default)]
pub struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    /// Returns the date of `now`.
    pub fn at(&mut self, now: SystemTime) -> &[u8] {
        let second = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if self.text.is_empty() || second != self.second {
            self.second = second;
            self.text = httpdate::fmt_http_date(now);
        }
        self.text.as_bytes()
    }
}
