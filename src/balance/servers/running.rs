//! Jobs being served, in one place in memory, each with its worker. A job is found by its number:
//! entries whose numbers share a chain are linked.

use std::time::Instant;

use crate::balance::BucketId;

/// No worker, no entry.
pub(super) const NONE: u32 = u32::MAX;

/// A job being served.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningJob {
    pub(super) id: u64,
    /// The worker that serves it, or [`NONE`] if this entry is unused.
    pub(super) worker: u32,
    /// The worker's next job, or the next unused entry.
    pub(super) next: u32,
    pub(super) bucket: BucketId,
    /// The job counts against the retry budget. Only a worker's single job does.
    pub(super) retry: bool,
    pub(super) since: Instant,
    /// The next entry of the same chain.
    chain: u32,
}

impl RunningJob {
    /// Makes the entry of a job that its worker has before the job `next`.
    pub(super) fn new(
        id: u64,
        worker: u32,
        next: u32,
        bucket: BucketId,
        retry: bool,
        since: Instant,
    ) -> Self {
        Self {
            id,
            worker,
            next,
            bucket,
            retry,
            since,
            chain: NONE,
        }
    }
}

/// All jobs being served.
#[derive(Debug)]
pub(super) struct Running {
    entries: Vec<RunningJob>,
    /// The first unused entry; the others are linked by `next`.
    free: u32,
    /// The first used entry of each chain. The length is a power of two, and at least twice the
    /// number of entries.
    chains: Vec<u32>,
    /// How many low bits of a number's product do not count.
    shift: u32,
}

/// The first number of chains, in powers of two.
const FIRST_BITS: u32 = 4;

impl Running {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            chains: vec![NONE; 1 << FIRST_BITS],
            shift: u64::BITS - FIRST_BITS,
        }
    }

    pub(super) fn get(&self, place: u32) -> Option<&RunningJob> {
        self.entries.get(place as usize)
    }

    /// Returns the entry of the job with this number.
    pub(super) fn find(&self, id: u64) -> Option<&RunningJob> {
        let mut place = self.chains[self.chain_of(id)];
        loop {
            let entry = self.get(place)?;
            if entry.id == id {
                return Some(entry);
            }
            place = entry.chain;
        }
    }

    /// Adds a job and returns its place.
    pub(super) fn add(&mut self, mut entry: RunningJob) -> u32 {
        if self.free == NONE && 2 * self.entries.len() >= self.chains.len() {
            self.grow();
        }
        let first = self.chain_of(entry.id);
        entry.chain = self.chains[first];
        let place = match self.free {
            NONE => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            place => {
                self.free = self.entries[place as usize].next;
                self.entries[place as usize] = entry;
                place
            }
        };
        self.chains[first] = place;
        place
    }

    /// Removes a job and returns the next one of its worker. The caller has to update an entry that
    /// names it as next.
    pub(super) fn remove(&mut self, place: u32) -> u32 {
        let RunningJob {
            id, next, chain, ..
        } = self.entries[place as usize];
        let first = self.chain_of(id);
        let mut before = self.chains[first];
        if before == place {
            self.chains[first] = chain;
        } else {
            while self.entries[before as usize].chain != place {
                before = self.entries[before as usize].chain;
            }
            self.entries[before as usize].chain = chain;
        }
        let entry = &mut self.entries[place as usize];
        (entry.worker, entry.next) = (NONE, self.free);
        self.free = place;
        next
    }

    pub(super) fn set_next(&mut self, place: u32, next: u32) {
        self.entries[place as usize].next = next;
    }

    /// Moves all jobs of a bucket to another one.
    pub(super) fn move_all(&mut self, from: BucketId, to: BucketId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.bucket == from) {
            entry.bucket = to;
        }
    }

    /// Makes room when all entries are in use.
    fn grow(&mut self) {
        self.chains = vec![NONE; 2 * self.chains.len()];
        self.shift -= 1;
        for place in 0..self.entries.len() {
            let first = self.chain_of(self.entries[place].id);
            self.entries[place].chain = std::mem::replace(&mut self.chains[first], place as u32);
        }
    }

    /// Returns a number's chain. The numbers of one cluster's jobs may have any pattern, but the
    /// upper bits of a product do not.
    fn chain_of(&self, id: u64) -> usize {
        (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

#[cfg(test)]
impl Running {
    /// Checks that `used` entries are used and all others free, and that each is found.
    pub(super) fn check(&self, used: usize) {
        let (mut free, mut place) = (0, self.free);
        while let Some(entry) = self.get(place) {
            assert_eq!(entry.worker, NONE);
            place = entry.next;
            free += 1;
        }
        assert_eq!(self.entries.len(), used + free, "no entry is lost");
        let mut chained = 0;
        for (chain, first) in self.chains.iter().enumerate() {
            let mut place = *first;
            while let Some(entry) = self.get(place) {
                assert!(entry.worker != NONE && self.chain_of(entry.id) == chain);
                assert_eq!(
                    self.find(entry.id).map(|found| found.worker),
                    Some(entry.worker)
                );
                place = entry.chain;
                chained += 1;
            }
        }
        assert_eq!(chained, used);
        assert!(self.chains.len() >= 2 * self.entries.len());
    }
}
