//! The bucket tree (HTB): who may hold how many tokens, and whose turn it is. A token is a worker
//! that serves a job (jobs that it has taken besides count here only while they wait); the root has
//! as many as the servers in use can serve. Here are only counts: the jobs themselves wait in
//! [`super::queue`].
//!
//! # Rules
//!
//! * A bucket holds its own jobs and those of all below it, and never more than its ceiling.
//! * *Own share* of a bucket with buckets below: what they leave of its assured share.
//! * A waiting job is *entitled* to a token if its bucket has less than its own share, or some
//!   bucket on its way up (without the root) less than its assured one and none below that is at
//!   its ceiling; tokens that are promised count as held. What is promised below a bucket beyond
//!   its ceiling counts no further up: one that is held there has to come back first, so nobody
//!   above ever has both.
//! * Whoever is entitled gets a *claim*, at once, at the end of one line for the whole tree. A slot
//!   that becomes free goes to the first in the line that is below all ceilings on its way up. If
//!   there is none it is lent, in turns at each bucket.
//!
//! So a job under its share waits for at most as many slots that it could have used as there are
//! claims before it, which is the sum of the assured deficits before it: of every bucket what it
//! has less than its share, and of one with buckets below also what it has less than its own share.
//! This is stated for jobs that every server may take: one that avoids a server goes before all
//! others of its bucket, but does not count for claims. Every claim notes how many are before it
//! and checks, when it is served, how many slots were given away since (but for those that somebody
//! in the line could not have used): more than that is a *violation*.
//!
//! Lending is decided at the free slot: with [`Lending::WorkConserving`] any job below all ceilings
//! may have it. With [`Lending::Reserve`] what others have reserved and do not use stays free: a
//! bucket weighs on its parent with its assured share or with what is used in it, whichever is
//! more, and a job that weighs on the root needs a free slot that nobody has reserved. Who is under
//! its share is then who weighs less than that, and what the children leave is not anyone's own.
//!
//! Each bucket keeps sets of those below it that have something to take, to claim, or that is
//! entitled, so that whose turn it is is found by looking at one (the depth of the tree) after the
//! other, however many buckets there are.

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

/// So many places of removed buckets are not used again yet.
const RESTING_PLACES: usize = 64;

/// No bucket.
const NONE: u32 = u32::MAX;

/// A bucket to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketCounts {
    /// What it gets if it asks for it.
    pub assured: usize,
    /// Most that it gets.
    pub ceiling: usize,
    /// Workers that serve its jobs, or those of a bucket below.
    pub held: usize,
    /// Workers that serve its own jobs.
    pub serving: usize,
    /// Jobs waiting, its own.
    pub queued: usize,
    /// Of these, those that are owed a token.
    pub claims: usize,
    /// For at most so many slots to become free would a job of it have to wait if it came now and
    /// the bucket were under its share.
    pub bound: usize,
    /// Its longest wait so far of a job under its share, in slots.
    pub longest_wait: u64,
    /// Jobs under their share that had to wait for more slots than they were told. Always 0.
    pub violations: u64,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Places of buckets that were removed, in that order.
    free: VecDeque<u32>,
    line: Line,
    lending: Lending,
    /// Whether entitlements are kept: not where what becomes free helps only some.
    claiming: bool,
    /// There is more than the root.
    grown: bool,
    /// Waiting jobs that not every server may take.
    restricted: usize,
    /// Where the search among all buckets goes on.
    cursor: u32,
}

#[derive(Debug)]
struct Node {
    exists: bool,
    parent: u32,
    settings: Bucket,
    /// In requests.
    assured: u32,
    /// What the buckets below leave of it.
    own_share: u32,
    ceiling: u32,
    /// Tokens held by its own jobs, and by those below too.
    own_held: u32,
    held: u32,
    /// Claims of its own jobs, and those below too, as far as the ceilings there allow (for the
    /// root, nobody asks).
    own_claims: u32,
    claims: u32,
    /// What is used of its parent's share: tokens held and promised here, and below at least what
    /// is assured there.
    weight_within: u32,
    /// The part of that which is its own: tokens held and promised.
    own_weight: u32,
    /// Own jobs that wait, and those of them that every server may take.
    queued: u32,
    open: u32,
    /// Buckets below (or itself) that have a job and are below their ceiling.
    waiting: Bits,
    /// ... that have a job without a claim, and are below their ceiling with all claims.
    claimable: Bits,
    /// ... that have a job that is entitled to one.
    entitled: Bits,
    /// Whose turn it is.
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

    /// What is promised would be below the ceiling too.
    fn may_promise(&self) -> bool {
        self.held + self.claims < self.ceiling
    }

    /// The claims that may become tokens besides those held.
    fn promised(&self) -> u32 {
        self.claims.min(self.ceiling.saturating_sub(self.held))
    }
}

impl Tree {
    /// Only a root, that has nothing yet.
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

    /// So much can be served at once from now on.
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

    /// Keeps entitlements from now on, or none any more.
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
        // Not at once: somebody may still have the number of the one that was there.
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

    /// The bucket to which everything goes if this one is removed.
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

    /// Removes a bucket that has no jobs waiting any more; its tokens are its parent's.
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

    /// Buckets, each before those below it.
    fn parents_first(&self) -> Vec<u32> {
        let mut order = vec![ROOT];
        let mut next = 0;
        while let Some(parent) = order.get(next).copied() {
            order.extend(self.children(parent));
            next += 1;
        }
        order
    }

    /// Works out all shares, sums and sets anew. Claims that are still entitled keep their place.
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
                // A parent with less than one for each child is no reason to break a ceiling.
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

    // === Jobs that wait

    /// The bucket of a ticket.
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

    /// A job waits; every server may take it if it is open.
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

    /// A waiting job has gone, without a token: it is over, or a worker has taken it besides
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
            // The last that was promised something is that no more: those before it move up.
            self.line.withdraw(bucket.0);
            self.promise(bucket.0, false);
        }
        self.mark_up(bucket.0);
        self.fill();
    }

    // === Whose turn it is

    /// Whether a job that is new may have a token, so many slots being free (and one among them).
    pub(super) fn admits(&self, bucket: BucketId, free: usize) -> bool {
        !self.grown || (self.is_below_ceilings(bucket.0) && self.is_left(bucket.0, free))
    }

    /// Somebody is owed a token, and could have it.
    pub(super) fn owes(&self) -> bool {
        self.first_claim().is_some()
    }

    /// Whether one more job of this bucket may wait though the queue of all is full: it would be
    /// owed a token, or it comes while as many as are its own are served still, and will be.
    pub(super) fn has_place(&self, bucket: BucketId) -> bool {
        let node = &self.nodes[bucket.0 as usize];
        self.grown && (node.queued < node.own_share || self.claiming && self.is_entitled(bucket.0))
    }

    /// The first in the line who is below all ceilings.
    fn first_claim(&self) -> Option<u32> {
        let first = self.line.first()?;
        if self.is_below_ceilings(first) {
            return Some(first);
        }
        self.line.first_of(|bucket| self.is_below_ceilings(bucket))
    }

    /// The bucket whose turn it is, of those with a job that the taker may have; so many slots are
    /// free, and one among them.
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
            // Who is entitled stands in the line, so there is nothing for anyone, unless a job is
            // open to some servers only.
            _ if self.claiming && self.restricted == 0 => None,
            _ => self.search(free, takes),
        }
    }

    /// Whose turn it is to be lent a slot: at each bucket one after the other.
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

    /// The turn of [`Self::whose_turn`] is over.
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

    /// Looks at every bucket: when the one whose turn it is has no job for the taker, or needs more
    /// than is left.
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

    /// A job that did not wait has a token. `overtakes`: one that is owed a token could have been
    /// served in its place.
    pub(super) fn take(&mut self, bucket: BucketId, overtakes: bool) {
        if overtakes {
            // Which never happens, and would be a violation for sure.
            self.line.note_slot();
        }
        self.hold(bucket.0, true);
        self.mark_up(bucket.0);
    }

    /// A job that waited has a token.
    pub(super) fn grant(&mut self, bucket: BucketId, open: bool) {
        let node = &mut self.nodes[bucket.0 as usize];
        node.queued -= 1;
        node.open -= u32::from(open);
        self.restricted -= usize::from(!open);
        if self.grown {
            // Whether the first in the line could have had it.
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

    /// A token comes back.
    pub(super) fn release(&mut self, bucket: BucketId) {
        self.hold(bucket.0, false);
        self.mark_up(bucket.0);
        if self.grown {
            self.fill();
        }
    }

    // === Looking

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
