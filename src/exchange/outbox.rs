//! What a client has not taken yet: in memory up to a limit, then in an unlinked file, always in order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::base::buffers::{Buffer, BufferPool};

use super::Exchange;
use super::spool::{Spool, SpoolFile};

/// Bytes read back from the file at once.
const READ_BACK: usize = 64 * 1024;

/// Bytes on their way to one client. Oldest first: what was taken back, then memory, then the file.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    memory: VecDeque<Buffer>,
    /// Of the first buffer, how much is sent.
    sent_of_first: usize,
    in_memory: usize,
    file: Option<SpoolFile>,
    /// Of the file, how much was taken out.
    taken_of_file: u64,
    /// Bytes ever put in.
    put: u64,
    /// Bytes ever sent.
    sent: u64,
    /// Exchanges that are over once so many bytes are sent.
    marks: VecDeque<(u64, Exchange)>,
}

/// Bytes taken out to be sent.
#[derive(Debug)]
pub(super) enum Taken {
    /// A buffer, from this byte on.
    Buffer(Buffer, usize),
    /// From the file.
    Bytes(Vec<u8>),
}

impl Taken {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer, from) => &buffer[*from..],
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Outbox {
    /// Puts bytes at the end. `limit` is how many may stay in memory.
    pub(super) fn put(
        &mut self,
        mut bytes: &[u8],
        limit: usize,
        pool: &Arc<BufferPool>,
        spool: &Arc<Spool>,
    ) -> io::Result<()> {
        self.put += bytes.len() as u64;
        while !bytes.is_empty() {
            if let Some(file) = &mut self.file
                && file.length() > self.taken_of_file
            {
                return file.append(bytes);
            }
            let room = limit.saturating_sub(self.in_memory).min(bytes.len());
            let mut taken = match self.memory.back_mut() {
                Some(last) => last.append(&bytes[..room]),
                None => 0,
            };
            if taken == 0
                && room > 0
                && let Some(mut buffer) = pool.take()
            {
                taken = buffer.append(&bytes[..room]);
                self.memory.push_back(buffer);
            }
            if taken == 0 {
                let mut file = match self.file.take() {
                    Some(file) => file,
                    None => SpoolFile::create(spool)?,
                };
                file.append(bytes)?;
                self.file = Some(file);
                return Ok(());
            }
            self.in_memory += taken;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The oldest bytes if they are in memory.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.memory.front().map(|buffer| &buffer[self.sent_of_first..])
    }

    /// Counts so many bytes of the front as sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.in_memory = self.in_memory.saturating_sub(bytes);
        self.sent_of_first += bytes;
        if self
            .memory
            .front()
            .is_some_and(|buffer| buffer.len() <= self.sent_of_first)
        {
            self.memory.pop_front();
            self.sent_of_first = 0;
        }
    }

    /// Takes the oldest bytes out; they are to be counted by [`Self::sent`] once they are sent.
    pub(super) fn take(&mut self) -> io::Result<Option<Taken>> {
        if let Some(buffer) = self.memory.pop_front() {
            let from = std::mem::take(&mut self.sent_of_first);
            self.in_memory = self.in_memory.saturating_sub(buffer.len() - from);
            return Ok(Some(Taken::Buffer(buffer, from)));
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        let left = file.length() - self.taken_of_file;
        if left == 0 {
            file.empty()?;
            self.taken_of_file = 0;
            return Ok(None);
        }
        // All that was taken before is sent.
        if let Err(error) = file.free_before(self.taken_of_file) {
            log::debug!("spool: room cannot be given back early: {error}");
        }
        let mut bytes = vec![0; READ_BACK.min(usize::try_from(left).unwrap_or(READ_BACK))];
        let read = file.read_at(&mut bytes, self.taken_of_file)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        bytes.truncate(read);
        self.taken_of_file += read as u64;
        Ok(Some(Taken::Bytes(bytes)))
    }

    /// Puts the rest of what was taken back in front; `done` bytes of it were sent.
    pub(super) fn give_back(&mut self, taken: Taken, done: usize) {
        match taken {
            Taken::Buffer(buffer, from) => {
                self.in_memory += buffer.len() - from - done;
                self.sent_of_first = from + done;
                self.memory.push_front(buffer);
            }
            Taken::Bytes(bytes) => self.taken_of_file -= (bytes.len() - done) as u64,
        }
    }

    /// Counts bytes that were taken out as sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Bytes that are not sent yet.
    pub(super) fn unsent(&self) -> u64 {
        // A courier may still send, and count, what it took out before everything was thrown away.
        self.put.saturating_sub(self.sent)
    }

    /// Some of it is in a file.
    pub(super) fn is_spooled(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.length() > 0)
    }

    /// The exchange whose last byte is now the last one in here.
    pub(super) fn mark(&mut self, exchange: Exchange) {
        self.marks.push_back((self.put, exchange));
    }

    /// Exchanges whose last byte is not sent yet.
    pub(super) fn undelivered(&self) -> usize {
        self.marks.len()
    }

    /// An exchange whose last byte is sent.
    pub(super) fn delivered(&mut self) -> Option<Exchange> {
        if self.marks.front()?.0 > self.sent {
            return None;
        }
        self.marks.pop_front().map(|(_, exchange)| exchange)
    }

    /// Throws everything away and answers the exchanges that will never be delivered.
    pub(super) fn abandon(&mut self) -> Vec<Exchange> {
        let undelivered = std::mem::take(&mut self.marks);
        *self = Self::default();
        undelivered.into_iter().map(|(_, exchange)| exchange).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_put_in_comes_out_in_order(
            steps in proptest::collection::vec((0usize..90, 0usize..4), 1..60),
            limit in 0usize..100,
        ) {
            let pool = BufferPool::new(48, 16);
            let spool = Spool::new(std::env::temp_dir(), 1 << 20);
            let mut outbox = Outbox::default();
            let (mut sent, mut received) = (Vec::<u8>::new(), Vec::<u8>::new());
            for (length, drain) in steps {
                let bytes: Vec<u8> = (0..length).map(|i| (sent.len() + i) as u8).collect();
                outbox.put(&bytes, limit, &pool, &spool).unwrap();
                sent.extend(bytes);
                match drain {
                    0 => {}
                    1 => {
                        let step = outbox.front().map(|front| { received.extend(&front[..front.len().div_ceil(2)]); front.len().div_ceil(2) });
                        outbox.advance(step.unwrap_or(0));
                    }
                    2 => {
                        if let Some(taken) = outbox.take().unwrap() {
                            received.extend(taken.bytes());
                            outbox.sent(taken.bytes().len());
                        }
                    }
                    _ => {
                        if let Some(taken) = outbox.take().unwrap() {
                            let done = taken.bytes().len() / 3;
                            received.extend(&taken.bytes()[..done]);
                            outbox.sent(done);
                            outbox.give_back(taken, done);
                        }
                    }
                }
                prop_assert_eq!(outbox.unsent() as usize, sent.len() - received.len());
            }
            while let Some(taken) = outbox.take().unwrap() {
                received.extend(taken.bytes());
                outbox.sent(taken.bytes().len());
            }
            prop_assert_eq!(received, sent);
            prop_assert_eq!((pool.in_use(), spool.used(), outbox.unsent()), (0, 0, 0));
        }
    }
}
