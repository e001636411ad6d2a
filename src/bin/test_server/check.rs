//! Bytes that show any corruption, and a checksum. Tests include this file too.

/// Returns the byte at a position of every body made here: `31 * i + 17 * (i >> 8) + 7 * (i >> 16)
/// + 3 * (i >> 24)`, modulo 256.
///
/// If a block of any length below 4 GiB is lost, doubled or moved, the byte at some position
/// changes.
pub(crate) fn byte_at(position: u64) -> u8 {
    let mixed = position
        .wrapping_mul(31)
        .wrapping_add((position >> 8).wrapping_mul(17))
        .wrapping_add((position >> 16).wrapping_mul(7))
        .wrapping_add((position >> 24).wrapping_mul(3));
    (mixed & 0xff) as u8
}

/// Returns the bytes of positions `from..to`.
pub(crate) fn bytes(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(byte_at).collect()
}

/// FNV-1a with 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Returns the checksum of these bytes.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(bytes);
        sum
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_the_published_one() {
        assert_eq!(Sum::of(b"").to_string(), "cbf29ce484222325");
        assert_eq!(Sum::of(b"foobar").to_string(), "85944171f73967e8");
    }

    #[test]
    fn a_moved_block_is_seen() {
        for shift in [1, 100, 256, 1000, 4096, 65536, 1 << 20, 1 << 24] {
            assert_ne!(
                bytes(0, 70_000),
                bytes(shift, shift + 70_000),
                "shift {shift}"
            );
        }
    }
}
