//! Bounded stores for what is in transit: memory first, then an unlinked file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::base::buffers::{Buffer, BufferPool};
use crate::fault::Fault;

/// A file's beginning is given back in pieces of this size at least.
const FREED_AT_ONCE: u64 = 1 << 20;

/// The folder for unlinked files, with a cap on all of them together.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limit: u64,
    used: AtomicU64,
}

impl Spool {
    /// A spool in this folder, `limit` bytes at most.
    pub fn new(folder: PathBuf, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            folder,
            limit,
            used: AtomicU64::new(0),
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Nine tenths of it are used: time to get rid of whoever makes least of it.
    pub fn is_nearly_full(&self) -> bool {
        self.used() > self.limit / 10 * 9
    }

    fn reserve(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One unlinked file; its bytes are counted in the spool until it is dropped or emptied.
#[derive(Debug)]
pub(super) struct SpoolFile {
    file: File,
    length: u64,
    /// So much of its beginning is given back.
    freed: u64,
    spool: Arc<Spool>,
}

impl SpoolFile {
    pub(super) fn create(spool: &Arc<Spool>) -> io::Result<Self> {
        let file = tempfile::tempfile_in(&spool.folder)?;
        Ok(Self {
            file,
            length: 0,
            freed: 0,
            spool: Arc::clone(spool),
        })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.spool.reserve(bytes.len() as u64) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        match self.file.write_all_at(bytes, self.length) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.spool.release(bytes.len() as u64);
                Err(error)
            }
        }
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Gives back the room of what lies before `offset`, if it is worth a system call.
    pub(super) fn free_before(&mut self, offset: u64) -> io::Result<()> {
        let bytes = offset.saturating_sub(self.freed);
        if bytes >= FREED_AT_ONCE {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&self.file, hole, self.freed.cast_signed(), bytes.cast_signed())?;
            self.freed = offset;
            self.spool.release(bytes);
        }
        Ok(())
    }

    /// Forgets its bytes and gives their room back.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.spool.release(self.length - self.freed);
        self.length = 0;
        self.freed = 0;
        Ok(())
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.release(self.length - self.freed);
    }
}

/// A whole request body: so much in memory, the rest in a file, then trailers.
#[derive(Debug, Default)]
pub struct Body {
    buffers: Vec<Buffer>,
    in_memory: u64,
    file: Option<SpoolFile>,
    /// Trailer lines, each with its CRLF.
    pub trailers: Vec<u8>,
}

/// A piece of a body.
#[derive(Debug)]
pub enum Piece<'a> {
    /// In memory.
    Memory(&'a [u8]),
    /// So many bytes were read from the file into the room given.
    Read(usize),
}

impl Body {
    /// Appends. `memory` is how much of it may stay in buffers. Fails with [`Fault::NoBuffer`] when neither has room.
    pub fn append(
        &mut self,
        mut bytes: &[u8],
        memory: usize,
        pool: &Arc<BufferPool>,
        spool: &Arc<Spool>,
    ) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if let Some(file) = &mut self.file {
                return file.append(bytes).map_err(|error| no_room(&error));
            }
            let room = memory.saturating_sub(self.in_memory as usize).min(bytes.len());
            let mut taken = match self.buffers.last_mut() {
                Some(last) => last.append(&bytes[..room]),
                None => 0,
            };
            if taken == 0
                && room > 0
                && let Some(mut buffer) = pool.take()
            {
                taken = buffer.append(&bytes[..room]);
                self.buffers.push(buffer);
            }
            if taken == 0 {
                self.file = Some(SpoolFile::create(spool).map_err(|error| no_room(&error))?);
            }
            self.in_memory += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Bytes, trailers not counted.
    pub fn length(&self) -> u64 {
        self.in_memory + self.file.as_ref().map_or(0, SpoolFile::length)
    }

    /// The bytes from `offset` on: a piece in memory, or what could be read into `room`. Empty at the end.
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

fn no_room(error: &io::Error) -> Fault {
    if error.kind() != io::ErrorKind::StorageFull {
        log::error!("spool: {error}");
    }
    Fault::NoBuffer
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
                body.append(part, memory, &pool, &spool).unwrap();
            }
            assert_eq!(body.length(), 200);
            assert_eq!(whole(&body), sent, "with {memory} bytes of memory");
            drop(body);
            assert_eq!((pool.in_use(), spool.used()), (0, 0));
        }
    }

    #[test]
    fn a_full_spool_refuses_and_gives_everything_back() {
        let pool = BufferPool::new(0, 16);
        let spool = Spool::new(std::env::temp_dir(), 100);
        let mut body = Body::default();
        assert_eq!(body.append(&[1; 100], 64, &pool, &spool), Ok(()));
        assert!(spool.is_nearly_full());
        assert_eq!(body.append(&[1], 64, &pool, &spool), Err(Fault::NoBuffer));
        drop(body);
        assert_eq!(spool.used(), 0);
    }
}
