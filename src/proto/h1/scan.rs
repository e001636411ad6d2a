//! Finds the end of a head and refuses bad bytes as they come, so that nobody waits for an end that cannot come.

use super::{HeadLimits, Malformed};

/// Looks at each byte of a head once, however it is split.
#[derive(Debug, Default)]
pub struct HeadScanner {
    // to be filled
}

impl HeadScanner {
    /// Begins anew, for the next head.
    pub fn reset(&mut self) {
        todo!()
    }

    /// Goes on over `buffer`, which holds the head's first bytes and has only grown since the last call. Answers the
    /// head's length, blank line included, once it is whole.
    pub fn scan(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Malformed> {
        let _ = (buffer, limits);
        todo!()
    }
}
