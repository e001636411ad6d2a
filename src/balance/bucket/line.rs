//! The line of claims to a token, one for the whole tree: first come, first served.

use std::collections::VecDeque;

use crate::balance::heap::IndexedHeap;

/// A claim's place in the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    number: u64,
    /// How many claims stood before it.
    before: u64,
    /// The line's `slots` when the claim was made.
    slots: u64,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    /// Each bucket's claims, oldest first.
    claims: Vec<Own>,
    /// The buckets that have a claim, by their oldest one.
    first: IndexedHeap<u64>,
    next: u64,
    len: usize,
    /// Slots given away while the first in the line could have used them.
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

    /// Returns the bucket whose claim stands at the head.
    pub(super) fn first(&self) -> Option<u32> {
        self.first.first().map(|(_, bucket)| bucket)
    }

    /// Returns the bucket whose claim stands first among those that `which` accepts.
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

    /// Adds a claim from [`Self::take_all`]. Claims must be added in their order.
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

    /// Removes the youngest of a bucket's claims.
    pub(super) fn withdraw(&mut self, bucket: u32) {
        let own = &mut self.claims[bucket as usize];
        if own.claims.pop_back().is_some() {
            self.len -= 1;
        }
        if own.claims.is_empty() {
            self.first.remove(bucket);
        }
    }

    /// Gives a slot to a job of this bucket, for its oldest claim if it has one. Returns whether it
    /// had one. The slot counts unless the first in the line could not have had it.
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
        // This slot is one of those counted, unless a claim before it could not have had it.
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

    /// Counts a slot that is given away.
    pub(super) fn note_slot(&mut self) {
        self.slots += 1;
    }

    /// Empties the line. Returns the claims with their buckets, in order.
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

    /// Returns a bucket's longest wait, in slots, and how often a wait was longer than its claim
    /// allowed.
    pub(super) fn record(&self, bucket: u32) -> (u64, u64) {
        self.claims
            .get(bucket as usize)
            .map_or((0, 0), |own| (own.longest_wait, own.violations))
    }
}
