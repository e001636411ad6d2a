//! Limits of heads, and the ways in which data may be cut into reads.

use std::fmt::Debug;

use crate::proto::h1::HeadLimits;

/// The default limits, and ones so small that random bytes reach them.
pub(super) const LIMITS: [HeadLimits; 2] = [
    HeadLimits {
        head: 32 * 1024,
        fields: 100,
        target: 8 * 1024,
    },
    HeadLimits {
        head: 256,
        fields: 4,
        target: 32,
    },
];

/// A written head may be longer than the one that was read.
pub(super) const AMPLE: HeadLimits = HeadLimits {
    head: 64 * 1024,
    fields: 200,
    target: 16 * 1024,
};

/// Splits the data into single bytes, into two pieces at each of the first positions, and into
/// pieces whose lengths depend on the data.
pub(super) fn assert_splits<T: PartialEq + Debug>(
    data: &[u8],
    whole: &T,
    run: impl Fn(&[&[u8]]) -> T,
) {
    let single: Vec<_> = data.chunks(1).collect();
    assert_eq!(&run(&single), whole, "byte by byte");
    for place in (0..data.len()).take(64) {
        let (a, b) = data.split_at(place);
        assert_eq!(&run(&[a, b]), whole, "cut at {place}");
    }
    let mut pieces = Vec::new();
    let mut rest = data;
    while let Some(&first) = rest.first() {
        let (piece, after) = rest.split_at(rest.len().min(1 + usize::from(first % 23)));
        pieces.push(piece);
        rest = after;
    }
    assert_eq!(&run(&pieces), whole, "in pieces");
}
