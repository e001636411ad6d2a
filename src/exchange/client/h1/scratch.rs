//! What a thread lends to the replies that it says.

use crate::base::date::DateCache;

/// Room for heads and chunk sizes of whichever reply its owner says at the moment. It belongs to a
/// thread that says many, so that nothing is allocated for each and no client that waits keeps a
/// buffer.
#[derive(Debug)]
pub struct Scratch {
    /// What goes out before the next content: a head that is kept back.
    pub(super) out: Vec<u8>,
    pub(super) date: DateCache,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            out: Vec::with_capacity(4096),
            date: DateCache::default(),
        }
    }
}

impl Scratch {
    /// Forgets a reply that was being said, and whatever a panic may have left half done.
    pub fn reset(&mut self) {
        self.out.clear();
        self.date = DateCache::default();
    }
}
