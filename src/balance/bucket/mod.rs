//! The bucket tree (HTB): how many tokens each bucket may hold, and whose turn it is. A token is a
//! worker that serves a job. (Jobs that the worker has taken besides count here only while they
//! wait.) The root has as many tokens as the servers in use can serve jobs. The tree has only
//! counts; the jobs themselves wait in [`super::queue`].
//!
//! # Rules
//!
//! * A bucket holds its own jobs and those of all buckets below it, and never more than its
//!   ceiling.
//! * *Own share* of a bucket with buckets below: what they leave of its assured share.
//! * A waiting job is *entitled* to a token in two cases. Its bucket has less than its own share.
//!   Or some bucket on its way up (without the root) has less than its assured share, and none
//!   below that one is at its ceiling. Promised tokens count as held. What is promised below a
//!   bucket beyond its ceiling does not count further up: a token that is held there has to come
//!   back first, so no bucket above ever has both.
//! * An entitled job gets a *claim* at once, at the end of one line for the whole tree. A slot that
//!   becomes free goes to the first claim that is below all ceilings on its way up. If there is
//!   none, the slot is lent, in turns at each bucket.
//!
//! So a job under its share waits for at most as many slots that it could have used as there are
//! claims before it. That is the sum of the assured deficits before it: for every bucket what it
//! has less than its share, and for one with buckets below also what it has less than its own
//! share. This holds for jobs that every server may take. A job that avoids a server goes before
//! all others of its bucket, but does not count for claims. Every claim notes how many are before
//! it. When it is served, it checks how many slots were given away since (without those that some
//! claim in the line could not have used): more is a *violation*.
//!
//! Lending is decided when a slot is free. With [`Lending::WorkConserving`] any job below all
//! ceilings may have it. With [`Lending::Reserve`] the slots that other buckets have reserved and
//! do not use stay free. There a bucket weighs on its parent with its assured share or with what is
//! used in it, whichever is more, and a job that weighs on the root needs a free slot that no
//! bucket has reserved. A bucket is then under its share if it weighs less, and what the children
//! leave belongs to none.
//!
//! Each bucket keeps sets of the buckets below it that have a job to take, that have a job to
//! claim, or that are entitled. So finding whose turn it is takes one look for each level of the
//! tree, however many buckets there are.

#[cfg(test)]
mod check;
mod line;
mod shares;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::BucketId;
use super::bits::Bits;
use super::change::{Bucket, Lending, Rejection, Share};

use line::Line;

/// The root.
pub(super) const ROOT: u32 = 0;

/// This many numbers of removed buckets are kept unused.
const RESTING_PLACES: usize = 64;

/// No bucket.
const NONE: u32 = u32::MAX;

/// The counts of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketCounts {
    /// What it gets if it has the jobs for it.
    pub assured: usize,
    /// The most that it gets.
    pub ceiling: usize,
    /// Workers that serve its jobs or those of a bucket below.
    pub held: usize,
    /// Workers that serve its own jobs.
    pub serving: usize,
    /// Its own jobs that wait.
    pub queued: usize,
    /// Of these, the ones with a claim to a token.
    pub claims: usize,
    /// If a job came now and the bucket were under its share, the most slots that would become free
    /// before the job has one.
    pub bound: usize,
    /// The longest wait so far of a job under its share, in slots.
    pub longest_wait: u64,
    /// Jobs under their share that waited for more slots than their claim allowed. Always 0.
    pub violations: u64,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Numbers of removed buckets, in the order of removal.
    free: VecDeque<u32>,
    line: Line,
    lending: Lending,
    /// Claims are kept. They are not where a slot that becomes free helps only some jobs.
    claiming: bool,
    /// There are more buckets than the root.
    grown: bool,
    /// Waiting jobs that not every server may take.
    restricted: usize,
    /// Where the next search over all buckets begins.
    cursor: u32,
}

#[derive(Debug)]
struct Node {
    exists: bool,
    parent: u32,
    settings: Bucket,
    /// The assured share in requests.
    assured: u32,
    /// The part of it that the buckets below leave.
    own_share: u32,
    ceiling: u32,
    /// Tokens held by its own jobs, and those including the buckets below.
    own_held: u32,
    held: u32,
    /// Claims of its own jobs, and those including the buckets below as far as their ceilings allow
    /// (not kept for the root).
    own_claims: u32,
    claims: u32,
    /// How much of the share is used: tokens held and promised here, and for each bucket below at
    /// least what is assured there.
    weight_within: u32,
    /// The part of that which is its own: tokens held and promised.
    own_weight: u32,
    /// Its own jobs that wait, and those of them that every server may take.
    queued: u32,
    open: u32,
    /// Buckets below (or itself) that have a job and are below their ceiling.
    waiting: Bits,
    /// ... that have a job without a claim, and are below their ceiling with all claims.
    claimable: Bits,
    /// ... that have a job that is entitled to a claim.
    entitled: Bits,
    /// The bucket after the one that had the last turn.
    cursor: u32,
}

impl Node {
    fn new(parent: u32, settings: Bucket) -> Self {
        Self {
            exists: true,
            parent,
            settings,
            assured: 0,
            own_share: 0,
            ceiling: 0,
            own_held: 0,
            held: 0,
            own_claims: 0,
            claims: 0,
            weight_within: 0,
            own_weight: 0,
            queued: 0,
            open: 0,
            waiting: Bits::default(),
            claimable: Bits::default(),
            entitled: Bits::default(),
            cursor: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.held < self.ceiling
    }

    /// Returns whether the bucket would be below its ceiling with all that is promised.
    fn may_promise(&self) -> bool {
        self.held + self.claims < self.ceiling
    }

    /// Returns the claims that may become tokens besides those held.
    fn promised(&self) -> u32 {
        self.claims.min(self.ceiling.saturating_sub(self.held))
    }
}

impl Tree {
    /// Makes a tree with only a root that has nothing yet.
    pub(super) fn new(lending: Lending, claiming: bool) -> Self {
        let all = Bucket {
            assured: Share::Part(1.0),
            ceiling: Share::Part(1.0),
            queue_limit: usize::MAX,
        };
        Self {
            nodes: vec![Node::new(NONE, all)],
            free: VecDeque::new(),
            line: Line::default(),
            lending,
            claiming,
            grown: false,
            restricted: 0,
            cursor: 0,
        }
    }

    // === Reconfiguration

    pub(super) fn size(&self) -> usize {
        self.nodes[ROOT as usize].assured as usize
    }

    /// Sets how many jobs can be served at once.
    pub(super) fn resize(&mut self, size: usize) {
        let root = &mut self.nodes[ROOT as usize];
        root.assured = u32::try_from(size).unwrap_or(u32::MAX);
        root.ceiling = root.assured;
        self.rebuild();
    }

    pub(super) fn set_lending(&mut self, lending: Lending) {
        self.lending = lending;
        self.rebuild();
    }

    /// Begins or ends keeping claims.
    pub(super) fn set_claiming(&mut self, claiming: bool) {
        self.claiming = claiming;
        if !claiming {
            self.line.take_all();
        }
        self.rebuild();
    }

    pub(super) fn add(
        &mut self,
        parent: BucketId,
        settings: Bucket,
    ) -> Result<BucketId, Rejection> {
        let parent = self.existing(parent)?;
        self.validate(parent, NONE, settings)?;
        // Numbers are not reused at once, because a ticket may still name the removed bucket.
        let free = (self.free.len() > RESTING_PLACES)
            .then(|| self.free.pop_front())
            .flatten();
        let id = match free {
            Some(place) => {
                let place = place as usize;
                self.nodes[place] = Node::new(parent, settings);
                place
            }
            None => {
                self.nodes.push(Node::new(parent, settings));
                self.nodes.len() - 1
            }
        };
        self.line.add_bucket(id as u32);
        self.rebuild();
        Ok(BucketId(id as u32))
    }

    pub(super) fn set(&mut self, bucket: BucketId, settings: Bucket) -> Result<(), Rejection> {
        let id = self.existing(bucket)?;
        if id == ROOT {
            return Err(Rejection::Root);
        }
        self.validate(self.nodes[id as usize].parent, id, settings)?;
        self.nodes[id as usize].settings = settings;
        self.rebuild();
        Ok(())
    }

    /// Returns the bucket that everything goes to if this one is removed.
    pub(super) fn heir(&self, bucket: BucketId) -> Result<BucketId, Rejection> {
        let id = self.existing(bucket)?;
        if id == ROOT {
            return Err(Rejection::Root);
        }
        if self.children(id).next().is_some() {
            return Err(Rejection::HasChildren);
        }
        Ok(BucketId(self.nodes[id as usize].parent))
    }

    /// Removes a bucket without waiting jobs. Its tokens become its parent's.
    pub(super) fn remove(&mut self, bucket: BucketId) {
        let BucketId(id) = bucket;
        let node = &mut self.nodes[id as usize];
        node.exists = false;
        self.free.push_back(id);
        let (parent, held) = (node.parent, node.own_held);
        self.nodes[parent as usize].own_held += held;
        self.rebuild();
    }

    fn existing(&self, bucket: BucketId) -> Result<u32, Rejection> {
        match self.nodes.get(bucket.0 as usize) {
            Some(node) if node.exists => Ok(bucket.0),
            _ => Err(Rejection::UnknownBucket),
        }
    }

    fn validate(&self, parent: u32, id: u32, settings: Bucket) -> Result<(), Rejection> {
        let Bucket {
            assured, ceiling, ..
        } = settings;
        if !assured.is_valid() || !ceiling.is_valid() || ceiling.is_less(assured) {
            return Err(Rejection::InvalidShare);
        }
        let siblings = self.children(parent).filter(|child| *child != id);
        let shares = siblings.map(|child| self.nodes[child as usize].settings.assured);
        if shares::exceed(shares.chain([assured])) {
            return Err(Rejection::TooMuchAssured);
        }
        Ok(())
    }

    fn children(&self, parent: u32) -> impl Iterator<Item = u32> + '_ {
        let is_child = move |node: &Node| node.exists && node.parent == parent;
        (0..self.nodes.len() as u32).filter(move |id| is_child(&self.nodes[*id as usize]))
    }

    /// Returns the buckets, each before those below it.
    fn parents_first(&self) -> Vec<u32> {
        let mut order = vec![ROOT];
        let mut next = 0;
        while let Some(parent) = order.get(next).copied() {
            order.extend(self.children(parent));
            next += 1;
        }
        order
    }

    /// Recomputes all shares, sums and sets. Claims that are still entitled keep their place.
    fn rebuild(&mut self) {
        let order = self.parents_first();
        self.grown = order.len() > 1;
        for parent in order.iter().copied() {
            let children = self.children(parent).collect::<Vec<_>>();
            let wanted = children
                .iter()
                .map(|child| self.nodes[*child as usize].settings.assured);
            let node = &self.nodes[parent as usize];
            let (assured, most) = (node.assured, node.ceiling);
            let given = shares::divide(assured, &wanted.collect::<Vec<_>>());
            self.nodes[parent as usize].own_share = assured.saturating_sub(given.iter().sum());
            for (child, assured) in children.into_iter().zip(given) {
                let node = &mut self.nodes[child as usize];
                // A parent with less than one for each child does not break a child's ceiling.
                node.assured = assured.min(most);
                node.ceiling = shares::ceiling(most, node.settings.ceiling, node.assured);
            }
        }
        for node in &mut self.nodes {
            (node.held, node.claims, node.own_claims) = (node.own_held, 0, 0);
            node.waiting.clear();
            node.claimable.clear();
            node.entitled.clear();
        }
        for id in order.iter().copied().rev().filter(|id| *id != ROOT) {
            let Node { parent, held, .. } = self.nodes[id as usize];
            self.nodes[parent as usize].held += held;
        }
        if !self.grown {
            self.line.take_all();
            return;
        }
        for id in order.iter().copied().rev() {
            self.weigh(id);
        }
        let old = self.line.take_all();
        for (bucket, claim) in old {
            if self.nodes[bucket as usize].open > self.nodes[bucket as usize].own_claims
                && self.is_entitled(bucket)
            {
                self.line.restore(bucket, claim);
                self.promise(bucket, true);
            }
        }
        for id in order.into_iter().rev() {
            self.mark(id);
        }
        self.fill();
    }

    // === Waiting jobs

    /// Returns the bucket for a ticket that names this one.
    pub(super) fn resolve(&self, bucket: BucketId) -> BucketId {
        match self.existing(bucket) {
            Ok(_) => bucket,
            Err(_) => BucketId(ROOT),
        }
    }

    pub(super) fn queue_limit(&self, bucket: BucketId) -> usize {
        self.nodes[bucket.0 as usize].settings.queue_limit
    }

    pub(super) fn queued(&self, bucket: BucketId) -> usize {
        self.nodes[bucket.0 as usize].queued as usize
    }

    /// Counts a job that begins to wait. `open`: every server may take it.
    pub(super) fn join(&mut self, bucket: BucketId, open: bool) {
        let node = &mut self.nodes[bucket.0 as usize];
        node.queued += 1;
        node.open += u32::from(open);
        self.restricted += usize::from(!open);
        if self.grown {
            self.mark_up(bucket.0);
            self.fill();
        }
    }

    /// Counts out a waiting job that got no token: it is over, or a worker has taken it besides
    /// another.
    pub(super) fn leave(&mut self, bucket: BucketId, open: bool) {
        let node = &mut self.nodes[bucket.0 as usize];
        node.queued -= 1;
        node.open -= u32::from(open);
        self.restricted -= usize::from(!open);
        if !self.grown {
            return;
        }
        if node.own_claims > node.open {
            // The last promise is withdrawn, and the jobs before it move up.
            self.line.withdraw(bucket.0);
            self.promise(bucket.0, false);
        }
        self.mark_up(bucket.0);
        self.fill();
    }

    // === Turns

    /// Returns whether a new job may have a token while `free` slots are free (and one of them
    /// would be its own).
    pub(super) fn admits(&self, bucket: BucketId, free: usize) -> bool {
        !self.grown || (self.is_below_ceilings(bucket.0) && self.is_left(bucket.0, free))
    }

    /// Returns whether a waiting job has a claim that could be served.
    pub(super) fn owes(&self) -> bool {
        self.first_claim().is_some()
    }

    /// Returns whether one more job of this bucket may wait though the whole queue is full. It may
    /// if it would be entitled to a token. It may also if fewer jobs wait than its own share,
    /// because that many of its jobs will be served.
    pub(super) fn has_place(&self, bucket: BucketId) -> bool {
        let node = &self.nodes[bucket.0 as usize];
        self.grown && (node.queued < node.own_share || self.claiming && self.is_entitled(bucket.0))
    }

    /// Returns the bucket of the first claim that is below all ceilings.
    fn first_claim(&self) -> Option<u32> {
        let first = self.line.first()?;
        if self.is_below_ceilings(first) {
            return Some(first);
        }
        self.line.first_of(|bucket| self.is_below_ceilings(bucket))
    }

    /// Returns the bucket whose turn it is, of those with a job that the taker may have. `free`
    /// slots are free, and one of them is for that job.
    pub(super) fn next(
        &mut self,
        free: usize,
        takes: impl Fn(BucketId) -> bool,
    ) -> Option<BucketId> {
        if !self.grown {
            return Some(BucketId(ROOT))
                .filter(|root| self.nodes[ROOT as usize].queued > 0 && takes(*root));
        }
        if let Some(first) = self.first_claim() {
            return Some(BucketId(first)).filter(|bucket| takes(*bucket));
        }
        match self.whose_turn() {
            Some(id) if self.is_left(id, free) && takes(BucketId(id)) => {
                self.turn();
                Some(BucketId(id))
            }
            // All entitled jobs have claims, so there is no other job, unless one is open to some
            // servers only.
            _ if self.claiming && self.restricted == 0 => None,
            _ => self.search(free, takes),
        }
    }

    /// Returns the bucket whose turn it is to be lent a slot: each bucket takes turns among those
    /// below it.
    fn whose_turn(&self) -> Option<u32> {
        let mut id = ROOT;
        loop {
            let node = &self.nodes[id as usize];
            match node.waiting.next_from(node.cursor)? {
                next if next == id => return Some(id),
                next => id = next,
            }
        }
    }

    /// Ends the turn of the bucket that [`Self::whose_turn`] returns.
    fn turn(&mut self) {
        let mut id = ROOT;
        loop {
            let node = &mut self.nodes[id as usize];
            let Some(next) = node.waiting.next_from(node.cursor) else {
                return;
            };
            node.cursor = next + 1;
            if next == id {
                return;
            }
            id = next;
        }
    }

    /// Searches every bucket. This is needed when the one whose turn it is has no job for the
    /// taker, or needs more than is left.
    fn search(&mut self, free: usize, takes: impl Fn(BucketId) -> bool) -> Option<BucketId> {
        let count = self.nodes.len() as u32;
        let mut lent = None;
        for step in 0..count {
            let id = (self.cursor + step) % count;
            let node = &self.nodes[id as usize];
            if node.queued == 0
                || !self.is_below_ceilings(id)
                || !self.is_left(id, free)
                || !takes(BucketId(id))
            {
                continue;
            }
            if self.is_entitled(id) {
                lent = Some(id);
                break;
            }
            lent = lent.or(Some(id));
        }
        let found = lent?;
        self.cursor = found + 1;
        Some(BucketId(found))
    }

    /// Gives a token to a job that did not wait. `overtakes`: a job with a claim could have been
    /// served in its place.
    pub(super) fn take(&mut self, bucket: BucketId, overtakes: bool) {
        if overtakes {
            // This never happens, and would be a violation.
            self.line.note_slot();
        }
        self.hold(bucket.0, true);
        self.mark_up(bucket.0);
    }

    /// Gives a token to a job that waited.
    pub(super) fn grant(&mut self, bucket: BucketId, open: bool) {
        let node = &mut self.nodes[bucket.0 as usize];
        node.queued -= 1;
        node.open -= u32::from(open);
        self.restricted -= usize::from(!open);
        if self.grown {
            // The slot counts if the first in the line could have had it.
            let counts = (self.line.first())
                .is_none_or(|first| first == bucket.0 || self.is_below_ceilings(first));
            let served = self.line.serve(bucket.0, counts);
            if served {
                self.promise(bucket.0, false);
            }
        }
        self.hold(bucket.0, true);
        self.mark_up(bucket.0);
        if self.grown {
            self.fill();
        }
    }

    /// Takes a token back.
    pub(super) fn release(&mut self, bucket: BucketId) {
        self.hold(bucket.0, false);
        self.mark_up(bucket.0);
        if self.grown {
            self.fill();
        }
    }

    // === Counts

    pub(super) fn counts(&self, bucket: BucketId) -> BucketCounts {
        let node = &self.nodes[bucket.0 as usize];
        let (longest_wait, violations) = self.line.record(bucket.0);
        BucketCounts {
            assured: node.assured as usize,
            ceiling: node.ceiling as usize,
            held: node.held as usize,
            serving: node.own_held as usize,
            queued: node.queued as usize,
            claims: node.own_claims as usize,
            bound: self.line.len() + 1,
            longest_wait,
            violations,
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = BucketId> + '_ {
        let exists = |id: &u32| self.nodes[*id as usize].exists;
        (0..self.nodes.len() as u32).filter(exists).map(BucketId)
    }
}
