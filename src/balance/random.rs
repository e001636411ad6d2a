//! Pseudorandom numbers from a seed, so that every run can be repeated.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `limit`, or 0 if there is none.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        // The upper half of the product is as even as 64 bits allow, and needs no division.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// Spreads a number over all 64 bits. Different numbers have different results.
pub(super) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
