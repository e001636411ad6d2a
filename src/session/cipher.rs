//! Ciphertext between the socket and TLS.

/// Room for ciphertext: enough for an ordinary request, and for a whole record once more has come.
const ROOM: (usize, usize) = (4 * 1024, 16 * 1024 + 512);

/// Ciphertext that is read but not fed to TLS.
#[derive(Debug, Default)]
pub(super) struct Cipher {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Cipher {
    pub(super) fn start_with(&mut self, first: &[u8]) {
        self.bytes = vec![0; ROOM.0.max(first.len())];
        self.bytes[..first.len()].copy_from_slice(first);
        self.end = first.len();
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room to read into, once everything is fed.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    pub(super) fn filled(&mut self, read: usize) {
        self.end += read;
        if self.end == self.bytes.len() && self.end < ROOM.1 {
            self.bytes.resize(ROOM.1, 0);
        }
    }

    /// Idle clients keep only the small room.
    pub(super) fn shrink(&mut self) {
        if self.bytes.len() > ROOM.0 && self.start == self.end {
            self.bytes.truncate(ROOM.0);
            self.bytes.shrink_to_fit();
        }
    }

    /// All but the last so many bytes are fed.
    pub(super) fn keep_last(&mut self, left: usize) {
        self.start = self.end - left;
        if left == 0 {
            self.start = 0;
            self.end = 0;
        }
    }
}
