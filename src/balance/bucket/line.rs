//! The line of those who are owed a token, one for the whole tree: first come, first served.

use std::collections::VecDeque;

use crate::balance::heap::IndexedHeap;

/// A place in the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    number: u64,
    /// How many stood before it.
    before: u64,
    /// Slots given away until then.
    slots: u64,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    /// Each bucket's claims, oldest first.
    claims: Vec<Own>,
    /// Buckets that have one, by their oldest.
    first: IndexedHeap<u64>,
    next: u64,
    len: usize,
    /// Slots that were given away while somebody who could have used them stood in the line.
    slots: u64,
}

#[derive(Debug, Default)]
struct Own {
    claims: VecDeque<Claim>,
    longest_wait: u64,
    violations: u64,
}

impl Line {
    pub(super) fn add_bucket(&mut self, bucket: u32) {
        if self.claims.len() <= bucket as usize {
            self.claims.resize_with(bucket as usize + 1, Own::default);
        }
        self.claims[bucket as usize] = Own::default();
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bucket whose job stands at the head.
    pub(super) fn first(&self) -> Option<u32> {
        self.first.first().map(|(_, bucket)| bucket)
    }

    /// The bucket whose job stands first among those of which this holds.
    pub(super) fn first_of(&self, which: impl Fn(u32) -> bool) -> Option<u32> {
        let able = self.first.iter().filter(|(_, bucket)| which(*bucket));
        able.min().map(|(_, bucket)| bucket)
    }

    pub(super) fn append(&mut self, bucket: u32) {
        let claim = Claim {
            number: self.next,
            before: self.len as u64,
            slots: self.slots,
        };
        self.next += 1;
        self.restore(bucket, claim);
    }

    /// Adds a claim that was taken out by [`Self::take_all`], in their order.
    pub(super) fn restore(&mut self, bucket: u32, claim: Claim) {
        if self.claims.len() <= bucket as usize {
            self.claims.resize_with(bucket as usize + 1, Own::default);
        }
        let own = &mut self.claims[bucket as usize];
        if own.claims.is_empty() {
            self.first.set(bucket, claim.number);
        }
        own.claims.push_back(claim);
        self.len += 1;
    }

    /// The youngest of a bucket's claims is not needed any more.
    pub(super) fn withdraw(&mut self, bucket: u32) {
        let own = &mut self.claims[bucket as usize];
        if own.claims.pop_back().is_some() {
            self.len -= 1;
        }
        if own.claims.is_empty() {
            self.first.remove(bucket);
        }
    }

    /// A slot is given to a job of this bucket, for its oldest claim if it has one. It counts
    /// unless the first in the line could not have had it.
    pub(super) fn serve(&mut self, bucket: u32, counts: bool) -> bool {
        if counts {
            self.note_slot();
        }
        let Some(own) = self.claims.get_mut(bucket as usize) else {
            return false;
        };
        let Some(claim) = own.claims.pop_front() else {
            return false;
        };
        // This slot is among those counted, unless somebody before it could not have had it.
        let given = self.slots - claim.slots;
        own.longest_wait = own.longest_wait.max(given);
        own.violations += u64::from(given > claim.before + 1);
        self.len -= 1;
        match own.claims.front() {
            Some(next) => self.first.set(bucket, next.number),
            None => self.first.remove(bucket),
        }
        true
    }

    /// A slot was given away.
    pub(super) fn note_slot(&mut self) {
        self.slots += 1;
    }

    /// Empties the line, and answers who stood in it, in order.
    pub(super) fn take_all(&mut self) -> Vec<(u32, Claim)> {
        let mut all = Vec::with_capacity(self.len);
        for (bucket, own) in self.claims.iter_mut().enumerate() {
            all.extend(own.claims.drain(..).map(|claim| (bucket as u32, claim)));
        }
        all.sort_unstable_by_key(|(_, claim)| claim.number);
        self.first.clear();
        self.len = 0;
        all
    }

    /// A bucket's longest wait, in slots, and how often it was longer than it was told.
    pub(super) fn record(&self, bucket: u32) -> (u64, u64) {
        self.claims
            .get(bucket as usize)
            .map_or((0, 0), |own| (own.longest_wait, own.violations))
    }
}
