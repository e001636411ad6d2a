//! What a client has not taken yet, in order: in memory up to a limit, then in an unlinked file. It
//! does no I/O: its user writes to the file and reads from it, without the lock that guards this.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::buffers::{Buffer, BufferPool};

use super::spool::SpoolFile;

/// Bytes read back from the file at once.
pub(super) const READ_BACK: usize = 64 * 1024;

/// Bytes on their way to one client. The oldest come first: what was given back, then memory, then
/// the file, then what had to be kept without room. An `M` is over when its last byte is sent.
#[derive(Debug)]
pub(super) struct Outbox<M> {
    /// What was taken out and not sent whole.
    returned: Option<Taken>,
    memory: VecDeque<Buffer>,
    in_memory: usize,
    file: Option<Arc<SpoolFile>>,
    /// Bytes written to the file.
    in_file: u64,
    /// Bytes of the file that were taken out.
    taken_of_file: u64,
    /// Short answers of our own that found no room elsewhere.
    excess: Vec<u8>,
    /// Bytes ever put in.
    put: u64,
    /// Bytes ever sent.
    sent: u64,
    /// What is over once so many bytes are sent.
    marks: VecDeque<(u64, M)>,
}

/// Bytes taken out to be sent.
#[derive(Debug)]
pub(super) enum Taken {
    /// A buffer, from this byte on.
    Buffer(Buffer, usize),
    /// Bytes of their own, from this one on.
    Bytes(Vec<u8>, usize),
    /// This part of a file.
    File {
        file: Arc<SpoolFile>,
        offset: u64,
        length: usize,
    },
}

impl Taken {
    /// The bytes, if they are in memory.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Buffer(buffer, from) => buffer.get(*from..),
            Self::Bytes(bytes, from) => bytes.get(*from..),
            Self::File { .. } => None,
        }
    }

    /// Returns the bytes; those of a file are read into `room`. What lies before them there was
    /// sent, and its room is given back.
    pub(super) fn load<'a>(&'a self, room: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
        match self {
            Self::Buffer(..) | Self::Bytes(..) => Ok(self.bytes().unwrap_or_default()),
            Self::File {
                file,
                offset,
                length,
            } => {
                file.free_before(*offset);
                let wanted = (*length).min(room.len());
                let read = file.read_at(&mut room[..wanted], *offset)?;
                if read == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                }
                Ok(&room[..read])
            }
        }
    }

    /// Returns what is left once so many of its bytes are sent.
    fn behind(self, sent: usize) -> Option<Self> {
        let rest = match self {
            Self::Buffer(buffer, from) => Self::Buffer(buffer, from.saturating_add(sent)),
            Self::Bytes(bytes, from) => Self::Bytes(bytes, from.saturating_add(sent)),
            Self::File {
                file,
                offset,
                length,
            } => {
                let left = length.saturating_sub(sent);
                return (left > 0).then(|| Self::File {
                    file,
                    offset: offset.saturating_add(sent as u64),
                    length: left,
                });
            }
        };
        rest.bytes()
            .is_some_and(|bytes| !bytes.is_empty())
            .then_some(rest)
    }
}

impl<M> Default for Outbox<M> {
    fn default() -> Self {
        Self {
            returned: None,
            memory: VecDeque::new(),
            in_memory: 0,
            file: None,
            in_file: 0,
            taken_of_file: 0,
            excess: Vec::new(),
            put: 0,
            sent: 0,
            marks: VecDeque::new(),
        }
    }
}

impl<M> Outbox<M> {
    /// Puts as many bytes as memory has room for at the end, and returns how many. `limit` is how
    /// many may be in memory.
    pub(super) fn put(&mut self, bytes: &[u8], limit: usize, pool: &Arc<BufferPool>) -> usize {
        let mut rest = bytes;
        // Behind what is in the file nothing can be in memory.
        while !rest.is_empty() && self.left_in_file() == 0 && self.excess.is_empty() {
            let room = limit.saturating_sub(self.in_memory).min(rest.len());
            let mut taken = self
                .memory
                .back_mut()
                .map_or(0, |last| last.append(&rest[..room]));
            if taken == 0
                && room > 0
                && let Some(mut buffer) = pool.take()
            {
                taken = buffer.append(&rest[..room]);
                self.memory.push_back(buffer);
            }
            if taken == 0 {
                break;
            }
            self.in_memory += taken;
            rest = &rest[taken..];
        }
        let taken = bytes.len() - rest.len();
        self.put += taken as u64;
        taken
    }

    /// Where the next bytes go in the file, and the file if there is one; `None` if what is there
    /// has to be sent first. `most` is how many bytes of the client's may lie in files.
    pub(super) fn end_of_file(&self, most: u64) -> Option<(Option<Arc<SpoolFile>>, u64, u64)> {
        let left = most.saturating_sub(self.left_in_file());
        (left > 0 && self.excess.is_empty()).then(|| (self.file.clone(), self.in_file, left))
    }

    /// Returns whether memory may take so many bytes more, of `most`.
    pub(super) fn has_memory(&self, bytes: u64, most: usize) -> bool {
        let is_open = self.file.is_none() && self.excess.is_empty();
        is_open && bytes.saturating_add(self.in_memory as u64) <= most as u64
    }

    /// Notes that this number of bytes was written to the end of this file.
    pub(super) fn wrote(&mut self, file: Arc<SpoolFile>, bytes: usize) {
        self.file = Some(file);
        self.in_file += bytes as u64;
        self.put += bytes as u64;
    }

    /// Puts bytes at the end, whether there is room or not.
    pub(super) fn put_in_excess(&mut self, bytes: &[u8]) {
        self.excess.extend_from_slice(bytes);
        self.put += bytes.len() as u64;
    }

    /// The oldest bytes if they are in memory.
    pub(super) fn front(&self) -> Option<&[u8]> {
        match &self.returned {
            Some(taken) => taken.bytes(),
            None => self.memory.front().map(|buffer| &**buffer),
        }
    }

    /// Counts so many bytes of the front as sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        if let Some(taken) = self.take() {
            self.give_back(taken, bytes);
        }
    }

    /// Takes the oldest bytes out. They are to be given back by [`Self::give_back`], or thrown away
    /// with all others.
    pub(super) fn take(&mut self) -> Option<Taken> {
        if let Some(taken) = self.returned.take() {
            return Some(taken);
        }
        if let Some(buffer) = self.memory.pop_front() {
            self.in_memory = self.in_memory.saturating_sub(buffer.len());
            return Some(Taken::Buffer(buffer, 0));
        }
        if let Some(file) = &self.file
            && self.left_in_file() > 0
        {
            let length = READ_BACK.min(usize::try_from(self.left_in_file()).unwrap_or(READ_BACK));
            let offset = self.taken_of_file;
            self.taken_of_file += length as u64;
            let file = Arc::clone(file);
            return Some(Taken::File {
                file,
                offset,
                length,
            });
        }
        (!self.excess.is_empty()).then(|| Taken::Bytes(std::mem::take(&mut self.excess), 0))
    }

    /// Notes how many bytes of what was taken out are sent. The rest is the oldest again.
    pub(super) fn give_back(&mut self, taken: Taken, sent: usize) {
        self.sent += sent as u64;
        self.returned = taken.behind(sent);
    }

    /// Lets go of the file if nothing of it is left, so that it can be closed without a lock. No
    /// thread may be writing to it.
    pub(super) fn used_up(&mut self) -> Option<Arc<SpoolFile>> {
        let is_used_up = self.left_in_file() == 0 && self.returned.is_none();
        let file = self.file.take_if(|_| is_used_up)?;
        self.in_file = 0;
        self.taken_of_file = 0;
        Some(file)
    }

    fn left_in_file(&self) -> u64 {
        self.in_file.saturating_sub(self.taken_of_file)
    }

    /// Bytes that are not sent yet.
    pub(super) fn unsent(&self) -> u64 {
        self.put.saturating_sub(self.sent)
    }

    /// Its last byte is now the last one in here.
    pub(super) fn mark(&mut self, mark: M) {
        self.marks.push_back((self.put, mark));
    }

    /// How many there are whose last byte is not sent yet.
    pub(super) fn undelivered(&self) -> usize {
        self.marks.len()
    }

    /// Takes one whose last byte is sent.
    pub(super) fn delivered(&mut self) -> Option<M> {
        if self.marks.front()?.0 > self.sent {
            return None;
        }
        self.marks.pop_front().map(|(_, mark)| mark)
    }

    /// Throws everything away and returns those that will never be delivered.
    pub(super) fn abandon(&mut self) -> Vec<M> {
        let undelivered = std::mem::take(&mut self.marks);
        *self = Self::default();
        undelivered.into_iter().map(|(_, mark)| mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::spool::{Share, Spool};

    /// Puts all of it in, as the client's writing side does.
    fn put(
        outbox: &mut Outbox<()>,
        mut bytes: &[u8],
        limit: usize,
        pool: &Arc<BufferPool>,
        spool: &Arc<Spool>,
    ) {
        bytes = &bytes[outbox.put(bytes, limit, pool)..];
        if let Some((file, offset, left)) = outbox.end_of_file(500)
            && !bytes.is_empty()
            && let Some(file) =
                file.or_else(|| SpoolFile::create(spool, Share::Responses).map(Arc::new))
        {
            let part = &bytes[..bytes.len().min(left as usize)];
            assert!(file.append(part, offset));
            outbox.wrote(file, part.len());
            bytes = &bytes[part.len()..];
        }
        if !bytes.is_empty() {
            outbox.put_in_excess(bytes);
        }
    }

    #[test]
    fn memory_that_was_sent_is_free_again() {
        let pool = BufferPool::new(48, 16);
        let mut outbox = Outbox::<()>::default();
        for _ in 0..10 {
            assert_eq!(outbox.put(b"twelve bytes", 12, &pool), 12);
            assert_eq!(outbox.put(b"more", 12, &pool), 0);
            outbox.advance(12);
        }
        assert_eq!((pool.in_use(), outbox.unsent()), (0, 0));
    }

    proptest! {
        #[test]
        fn whatever_is_put_in_comes_out_in_order(
            steps in proptest::collection::vec((0usize..90, 0usize..5), 1..60),
            limit in 0usize..100,
        ) {
            let pool = BufferPool::new(48, 16);
            let spool = Spool::new(std::env::temp_dir(), 1 << 20);
            let mut outbox = Outbox::<()>::default();
            let (mut sent, mut received) = (Vec::<u8>::new(), Vec::<u8>::new());
            let mut room = [0; READ_BACK];
            for (length, drain) in steps {
                let bytes: Vec<u8> = (0..length).map(|i| (sent.len() + i) as u8).collect();
                put(&mut outbox, &bytes, limit, &pool, &spool);
                sent.extend(bytes);
                match drain {
                    0 => {}
                    1 => {
                        if let Some(front) = outbox.front() {
                            let step = front.len().div_ceil(2);
                            received.extend(&front[..step]);
                            outbox.advance(step);
                        }
                    }
                    // The last one with others put in meanwhile.
                    _ => {
                        if let Some(taken) = outbox.take() {
                            let bytes = taken.load(&mut room).unwrap().to_vec();
                            let done = if drain == 2 { bytes.len() } else { bytes.len() / 3 };
                            if drain == 4 {
                                let more = [sent.len() as u8; 7];
                                put(&mut outbox, &more, limit, &pool, &spool);
                                sent.extend(more);
                            }
                            received.extend(&bytes[..done]);
                            outbox.give_back(taken, done);
                        }
                    }
                }
                drop(outbox.used_up());
                prop_assert_eq!(outbox.unsent() as usize, sent.len() - received.len());
            }
            while let Some(taken) = outbox.take() {
                let bytes = taken.load(&mut room).unwrap().to_vec();
                outbox.give_back(taken, bytes.len());
                received.extend(bytes);
            }
            drop(outbox.used_up());
            prop_assert_eq!(received, sent);
            prop_assert_eq!((pool.in_use(), spool.used(), outbox.unsent()), (0, 0, 0));
        }
    }
}
