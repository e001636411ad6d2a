//! A bounded region of reusable buffers.
//!
//! A region has at most `region / size` buffers. Each is made on first use and kept for the next.
//! An eighth of them is for heads of requests alone, so that bodies cannot keep other clients'
//! heads from being read. No thread waits for a buffer: a session that finds none uses the spool or
//! answers 503. So a thread that holds one buffer and asks for another cannot deadlock.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

/// Free buffers beyond this number go back to the system.
const KEPT: usize = 1024;

/// A bounded region of buffers.
#[derive(Debug)]
pub struct BufferPool {
    size: usize,
    most: usize,
    /// The number of buffers for heads alone.
    reserve: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_use: usize,
    free: Vec<Box<[u8]>>,
}

impl BufferPool {
    /// Makes a region of `region` bytes, cut into buffers of `size` bytes.
    pub fn new(region: usize, size: usize) -> Arc<Self> {
        let most = region / size.max(1);
        Arc::new(Self {
            size,
            most,
            reserve: most / 8,
            state: Mutex::default(),
        })
    }

    /// Returns an empty buffer, if the region has one that is not reserved.
    pub fn take(self: &Arc<Self>) -> Option<Buffer> {
        self.take_up_to(self.most - self.reserve)
    }

    /// Returns an empty buffer for the head of a request, if the region has one.
    pub fn take_for_head(self: &Arc<Self>) -> Option<Buffer> {
        self.take_up_to(self.most)
    }

    fn take_up_to(self: &Arc<Self>, most: usize) -> Option<Buffer> {
        let kept = {
            let mut state = self.state.lock();
            if state.in_use >= most {
                return None;
            }
            state.in_use += 1;
            state.free.pop()
        };
        let bytes = kept.unwrap_or_else(|| vec![0; self.size].into_boxed_slice());
        Some(Buffer {
            bytes,
            filled: 0,
            pool: Arc::clone(self),
        })
    }

    /// Returns the number of buffers in use.
    pub fn in_use(&self) -> usize {
        self.state.lock().in_use
    }

    /// Returns the size of one buffer in bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// One buffer, which goes back to its region when dropped. Dereferences to the filled part.
#[derive(Debug)]
#[must_use = "a buffer that is dropped goes back"]
pub struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    pool: Arc<BufferPool>,
}

impl Buffer {
    /// Appends as many of `bytes` as there is room for. Returns their number.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.bytes[self.filled..];
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.filled += length;
        length
    }

    /// Returns the whole buffer, filled or not.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the whole buffer, filled or not, for writing.
    pub fn whole(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut state = self.pool.state.lock();
        state.in_use -= 1;
        if state.free.len() < KEPT {
            state.free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_a_limit_and_buffers_come_back() {
        let pool = BufferPool::new(100, 32);
        let mut held: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none());
        assert_eq!(held[0].append(&[7; 40]), 32);
        assert_eq!(held[0].append(&[7]), 0);
        held.pop();
        let again = pool.take().unwrap();
        assert!(again.is_empty(), "a buffer starts empty after each use");
        drop((again, held));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn an_eighth_is_for_heads() {
        let pool = BufferPool::new(16 * 32, 32);
        let bodies: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        let heads: Vec<_> = std::iter::from_fn(|| pool.take_for_head()).collect();
        assert_eq!((bodies.len(), heads.len()), (14, 2));
        drop(bodies);
        assert!(pool.take().is_some());
    }
}
