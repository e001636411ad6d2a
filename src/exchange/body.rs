//! A whole request body: so much in memory, the rest in a file, then trailers.

use std::io;
use std::sync::Arc;

use crate::base::buffers::{Buffer, BufferPool};

use super::spool::{Share, Spool, SpoolFile};

/// A whole request body.
#[derive(Debug, Default)]
pub struct Body {
    buffers: Vec<Buffer>,
    in_memory: u64,
    file: Option<SpoolFile>,
    in_file: u64,
    /// Trailer lines, each with its CRLF.
    pub trailers: Vec<u8>,
}

/// A piece of a body.
#[derive(Debug)]
pub enum Piece<'a> {
    /// In memory.
    Memory(&'a [u8]),
    /// The number of bytes read from the file into the room given.
    Read(usize),
}

impl Body {
    /// Appends as much of `bytes` as there is room for, and returns how much that is. `memory` is
    /// how many bytes of the whole body may stay in buffers.
    #[must_use = "what did not fit is not in it"]
    pub fn append(
        &mut self,
        bytes: &[u8],
        memory: usize,
        pool: &Arc<BufferPool>,
        spool: &Arc<Spool>,
    ) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.file.is_none() {
            let left = u64::try_from(memory)
                .unwrap_or(u64::MAX)
                .saturating_sub(self.in_memory);
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let mut taken = self
                .buffers
                .last_mut()
                .map_or(0, |last| last.append(&rest[..room]));
            if taken == 0
                && room > 0
                && let Some(mut buffer) = pool.take()
            {
                taken = buffer.append(&rest[..room]);
                self.buffers.push(buffer);
            }
            if taken == 0 {
                self.file = SpoolFile::create(spool, Share::Requests);
                break;
            }
            self.in_memory += taken as u64;
            rest = &rest[taken..];
        }
        if let Some(file) = &self.file
            && !rest.is_empty()
            && file.append(rest, self.in_file)
        {
            self.in_file += rest.len() as u64;
            rest = &[];
        }
        if self.in_file == 0 {
            // Memory may have room the next time.
            self.file = None;
        }
        bytes.len() - rest.len()
    }

    /// Some of it is in a file.
    pub fn is_spooled(&self) -> bool {
        self.in_file > 0
    }

    /// Bytes, trailers not counted.
    pub fn length(&self) -> u64 {
        self.in_memory.saturating_add(self.in_file)
    }

    /// The bytes from `offset` on: a piece in memory, or what could be read into `room`. Empty at
    /// the end.
    pub fn piece<'a>(&'a self, offset: u64, room: &mut [u8]) -> io::Result<Piece<'a>> {
        let mut skip = offset;
        for buffer in &self.buffers {
            let length = buffer.len() as u64;
            if skip < length {
                return Ok(Piece::Memory(&buffer[skip as usize..]));
            }
            skip -= length;
        }
        match &self.file {
            Some(file) => file.read_at(room, skip).map(Piece::Read),
            None => Ok(Piece::Memory(&[])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(body: &Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut room = [0; 7];
        loop {
            let length = match body.piece(bytes.len() as u64, &mut room).unwrap() {
                Piece::Memory(piece) => {
                    bytes.extend_from_slice(piece);
                    piece.len()
                }
                Piece::Read(length) => {
                    bytes.extend_from_slice(&room[..length]);
                    length
                }
            };
            if length == 0 {
                return bytes;
            }
        }
    }

    #[test]
    fn a_body_goes_from_memory_to_the_file_and_comes_back_in_order() {
        let pool = BufferPool::new(64, 16);
        let spool = Spool::new(std::env::temp_dir(), 1000);
        for memory in [0, 5, 16, 20, 64, 1000] {
            let sent: Vec<u8> = (0..200).collect();
            let mut body = Body::default();
            for part in sent.chunks(9) {
                assert_eq!(body.append(part, memory, &pool, &spool), part.len());
            }
            assert_eq!(body.length(), 200);
            assert_eq!(whole(&body), sent, "with {memory} bytes of memory");
            drop(body);
            assert_eq!((pool.in_use(), spool.used()), (0, 0));
        }
    }

    #[test]
    fn what_does_not_fit_is_told_and_everything_is_given_back() {
        let pool = BufferPool::new(32, 16);
        let spool = Spool::new(std::env::temp_dir(), 100);
        let mut body = Body::default();
        // 32 in memory, then two thirds of three quarters of the spool.
        assert_eq!(body.append(&[1; 82], 64, &pool, &spool), 82);
        assert_eq!(body.append(&[1], 64, &pool, &spool), 0);
        assert_eq!(body.length(), 82);
        drop(body);
        assert_eq!((pool.in_use(), spool.used()), (0, 0));
    }

    #[test]
    fn memory_that_becomes_free_is_used_if_no_file_could_be_made() {
        let pool = BufferPool::new(16, 16);
        let spool = Spool::new(std::env::temp_dir(), 0);
        let others = pool.take();
        let mut body = Body::default();
        assert_eq!(body.append(&[1; 20], 64, &pool, &spool), 0);
        drop(others);
        assert_eq!(body.append(&[1; 20], 64, &pool, &spool), 16);
        assert_eq!(whole(&body), [1; 16]);
    }
}
