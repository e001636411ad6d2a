//! Bytes that are read of a client and not used yet: in a small buffer of the session's own, or in
//! a large one of the shared region when that is not enough.

use std::sync::Arc;

use crate::base::buffers::{Buffer, BufferPool};

/// Bytes of the small buffer. Nearly every request without a body fits, and idle clients keep no
/// more than this.
const SMALL: usize = 4096;

/// Bytes that are read of a client and not used yet.
#[derive(Debug)]
pub(super) struct Input {
    small: Box<[u8]>,
    large: Option<Buffer>,
    /// The large buffer is one of those that are reserved for heads.
    is_reserved: bool,
    start: usize,
    end: usize,
}

impl Input {
    /// An input with these bytes in it, which came with a PROXY header (so there are few of them).
    pub(super) fn new(first: &[u8]) -> Self {
        let mut small = vec![0; SMALL.max(first.len())].into_boxed_slice();
        small[..first.len()].copy_from_slice(first);
        Self {
            small,
            large: None,
            is_reserved: false,
            start: 0,
            end: first.len(),
        }
    }

    /// The most bytes that can be in it at once.
    pub(super) fn most(pool: &BufferPool) -> usize {
        pool.size().max(SMALL)
    }

    /// The bytes that are read and not used.
    pub(super) fn data(&self) -> &[u8] {
        match &self.large {
            Some(large) => &large.all()[self.start..self.end],
            None => &self.small[self.start..self.end],
        }
    }

    /// Returns whether everything that was read is used.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The first `bytes` bytes are used, or all if there are fewer.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes.min(self.end - self.start);
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room to read into. Empty if there is none.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.end == self.bytes().len() && self.start > 0 {
            let (start, end) = (self.start, self.end);
            self.bytes().copy_within(start..end, 0);
            self.start = 0;
            self.end -= start;
        }
        let end = self.end;
        &mut self.bytes()[end..]
    }

    /// `bytes` bytes were read into [`Self::space`].
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Returns whether it has all the room that it can have.
    pub(super) fn is_grown(&self, pool: &BufferPool) -> bool {
        self.large.is_some() || pool.size() <= self.small.len()
    }

    /// Makes more room, of the shared region. Returns `false` if that has none, or if there is all
    /// the room already.
    pub(super) fn grow(&mut self, pool: &Arc<BufferPool>) -> bool {
        !self.is_grown(pool) && self.grow_into(pool.take())
    }

    /// Makes more room for a head. Some of the region is reserved for heads.
    pub(super) fn grow_for_head(&mut self, pool: &Arc<BufferPool>) -> bool {
        let has_grown = !self.is_grown(pool) && self.grow_into(pool.take_for_head());
        self.is_reserved |= has_grown;
        has_grown
    }

    fn grow_into(&mut self, buffer: Option<Buffer>) -> bool {
        let Some(mut large) = buffer else {
            return false;
        };
        let data = self.data();
        let length = data.len();
        large.whole()[..length].copy_from_slice(data);
        self.large = Some(large);
        self.start = 0;
        self.end = length;
        true
    }

    /// Gives the large buffer back if nothing is in it.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.large = None;
            self.is_reserved = false;
        }
    }

    /// Returns whether the bytes are in a large buffer that was taken for a head.
    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved && self.large.is_some()
    }

    /// Gives back a large buffer that was taken for a head, as soon as its bytes fit into the small
    /// one: no body is read with room that is reserved for heads.
    pub(super) fn settle(&mut self) {
        let length = self.end - self.start;
        let may_go = self.is_reserved && length <= self.small.len();
        if let Some(large) = self.large.take_if(|_| may_go) {
            self.is_reserved = false;
            self.small[..length].copy_from_slice(&large.all()[self.start..self.end]);
            self.start = 0;
            self.end = length;
        }
    }

    /// The bytes that are read and not used, to be worked on in place.
    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        &mut self.bytes()[start..end]
    }

    fn bytes(&mut self) -> &mut [u8] {
        match &mut self.large {
            Some(large) => large.whole(),
            None => &mut self.small,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_and_compacting_keep_the_bytes() {
        let pool = BufferPool::new(32 * 1024, 32 * 1024);
        let mut input = Input::new(b"abc");
        input.consume(1);
        let room = input.space().len();
        input.space().fill(b'x');
        input.filled(room);
        assert_eq!(
            input.space().len(),
            1,
            "the byte that was used is room again"
        );
        assert!(input.grow_for_head(&pool));
        assert!(!input.grow(&pool) && input.is_reserved());
        assert!(input.data().starts_with(b"bcx"));
        assert_eq!(input.data().len(), SMALL - 1);
        assert!(!input.space().is_empty());
        input.settle();
        assert_eq!(pool.in_use(), 0, "it fits into the small one again");
        assert!(input.data().starts_with(b"bcx"));
        assert!(input.grow_for_head(&pool));
        input.consume(usize::MAX);
        input.shrink();
        assert_eq!(pool.in_use(), 0);
        assert_eq!(input.space().len(), SMALL);
    }
}
