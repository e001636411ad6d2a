//! Ciphertext between the socket and TLS.

/// Bytes of room for ciphertext: an ordinary request fits.
const SMALL: usize = 4 * 1024;

/// Bytes of room once the small room was full: a whole record fits.
const LARGE: usize = 16 * 1024 + 512;

/// Ciphertext that is read but not fed to TLS.
#[derive(Debug, Default)]
pub(super) struct Cipher {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Cipher {
    /// Begins with these bytes, which came with a PROXY header.
    pub(super) fn start_with(&mut self, first: &[u8]) {
        self.bytes = vec![0; SMALL.max(first.len())];
        self.bytes[..first.len()].copy_from_slice(first);
        self.end = first.len();
    }

    /// The bytes that are not fed.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room to read into, once everything is fed.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// `read` bytes were read into [`Self::space`].
    pub(super) fn filled(&mut self, read: usize) {
        self.end += read;
        if self.end == self.bytes.len() && self.end < LARGE {
            self.bytes.resize(LARGE, 0);
        }
    }

    /// Gives back all but the small room, if everything is fed. Idle clients keep no more.
    pub(super) fn shrink(&mut self) {
        if self.bytes.len() > SMALL && self.start == self.end {
            self.bytes.truncate(SMALL);
            self.bytes.shrink_to_fit();
        }
    }

    /// All but the last `left` bytes are fed.
    pub(super) fn keep_last(&mut self, left: usize) {
        self.start = self.end - left;
        if left == 0 {
            self.start = 0;
            self.end = 0;
        }
    }
}
