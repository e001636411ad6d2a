//! Sums over the tree, and the sets of buckets whose turn it can be, kept up to date as tokens are
//! taken and come back.

use crate::balance::change::Lending;

use super::{Node, ROOT, Tree};

impl Tree {
    /// Returns whether no bucket on the way up is at its ceiling. (The root has none: free slots
    /// limit it.)
    pub(super) fn is_below_ceilings(&self, mut id: u32) -> bool {
        while id != ROOT {
            let node = &self.nodes[id as usize];
            if !node.has_room() {
                return false;
            }
            id = node.parent;
        }
        true
    }

    /// Returns whether a job of this bucket is entitled: the bucket, or one on its way up, has less
    /// than its assured share.
    pub(super) fn is_entitled(&self, id: u32) -> bool {
        if self.is_under_own_share(id) {
            return true;
        }
        let mut id = id;
        while id != ROOT {
            if self.is_under_share(id) {
                return true;
            }
            let node = &self.nodes[id as usize];
            if !node.may_promise() {
                return false;
            }
            id = node.parent;
        }
        false
    }

    pub(super) fn is_under_own_share(&self, id: u32) -> bool {
        let node = &self.nodes[id as usize];
        self.lending == Lending::WorkConserving && node.own_held + node.own_claims < node.own_share
    }

    /// Returns whether a bucket has less than its assured share, so that one more below it does not
    /// matter to the buckets above.
    pub(super) fn is_under_share(&self, id: u32) -> bool {
        let node = &self.nodes[id as usize];
        match self.lending {
            Lending::WorkConserving => node.held + node.claims < node.assured,
            Lending::Reserve => node.weight_within < node.assured,
        }
    }

    /// Returns whether a free slot is left for a job of this bucket. Other buckets may have
    /// reserved the free ones.
    pub(super) fn is_left(&self, id: u32, free: usize) -> bool {
        if self.lending == Lending::WorkConserving || self.is_entitled(id) {
            return true;
        }
        let root = &self.nodes[ROOT as usize];
        free > root.weight_within.saturating_sub(root.held) as usize
    }

    /// Counts a token (or counts it out) on the whole way up, and the room that it leaves for
    /// claims.
    pub(super) fn hold(&mut self, id: u32, more: bool) {
        let step = |count: &mut u32| {
            *count = if more {
                *count + 1
            } else {
                count.saturating_sub(1)
            }
        };
        step(&mut self.nodes[id as usize].own_held);
        let mut up = id;
        let mut below = 0;
        while up != ROOT {
            let node = &mut self.nodes[up as usize];
            // Usually there are no claims here.
            if node.claims == 0 && below == 0 {
                step(&mut node.held);
            } else {
                let before = node.promised();
                step(&mut node.held);
                node.claims = node.claims.saturating_add_signed(below);
                below = node.promised() as i32 - before as i32;
            }
            up = node.parent;
        }
        step(&mut self.nodes[ROOT as usize].held);
        if self.grown {
            self.weigh_up(id);
        }
    }

    /// Counts a claim (or counts it out), from here up as far as the ceilings allow.
    pub(super) fn promise(&mut self, id: u32, more: bool) {
        let step = |count: &mut u32| *count = if more { *count + 1 } else { *count - 1 };
        step(&mut self.nodes[id as usize].own_claims);
        let mut up = id;
        while up != ROOT {
            let node = &mut self.nodes[up as usize];
            let before = node.promised();
            step(&mut node.claims);
            if node.promised() == before {
                break;
            }
            up = node.parent;
        }
        self.weigh_up(id);
    }

    /// Updates what is used of the shares, from here up as far as it makes a difference.
    pub(super) fn weigh_up(&mut self, mut id: u32) {
        if self.lending == Lending::WorkConserving {
            return;
        }
        let node = &mut self.nodes[id as usize];
        let own = node.own_held + node.own_claims;
        let mut more = i64::from(own) - i64::from(node.own_weight);
        node.own_weight = own;
        while more != 0 {
            let node = &mut self.nodes[id as usize];
            let before = node.weight_within.max(node.assured);
            node.weight_within = (i64::from(node.weight_within) + more) as u32;
            more = i64::from(node.weight_within.max(node.assured)) - i64::from(before);
            if id == ROOT {
                break;
            }
            id = node.parent;
        }
    }

    /// Computes what is used of a share from the buckets directly below.
    pub(super) fn weigh(&mut self, id: u32) {
        let weight = |node: &Node| node.weight_within.max(node.assured);
        let below: u32 = self
            .children(id)
            .map(|child| weight(&self.nodes[child as usize]))
            .sum();
        let node = &mut self.nodes[id as usize];
        node.own_weight = node.own_held + node.own_claims;
        node.weight_within = below + node.own_weight;
    }

    pub(super) fn mark_up(&mut self, mut id: u32) {
        if !self.grown {
            return;
        }
        loop {
            self.mark(id);
            if id == ROOT {
                break;
            }
            id = self.nodes[id as usize].parent;
        }
    }

    /// Updates the sets that contain this bucket: its own, for its own jobs, and its parent's.
    pub(super) fn mark(&mut self, id: u32) {
        let under_own = self.is_under_own_share(id);
        let under = id != ROOT && self.is_under_share(id);
        let node = &mut self.nodes[id as usize];
        let unclaimed = node.open > node.own_claims;
        node.waiting.set(id, node.queued > 0);
        node.claimable.set(id, unclaimed);
        node.entitled.set(id, unclaimed && under_own);
        if id == ROOT {
            return;
        }
        let (room, parent) = (node.has_room(), node.parent);
        let waiting = room && !node.waiting.is_empty();
        let entitled = !node.entitled.is_empty() || (under && !node.claimable.is_empty());
        let claimable = node.may_promise() && !node.claimable.is_empty();
        let parent = &mut self.nodes[parent as usize];
        parent.waiting.set(id, waiting);
        parent.claimable.set(id, claimable);
        parent.entitled.set(id, entitled);
    }

    /// Gives every entitled job a claim.
    pub(super) fn fill(&mut self) {
        if !self.claiming {
            return;
        }
        while let Some(bucket) = self.next_entitled() {
            self.line.append(bucket);
            self.promise(bucket, true);
            self.mark_up(bucket);
        }
    }

    /// Returns the next bucket with an entitled job. Entitled buckets below the same bucket take
    /// turns.
    pub(super) fn next_entitled(&mut self) -> Option<u32> {
        let mut id = ROOT;
        loop {
            let node = &mut self.nodes[id as usize];
            // An entitled bucket below this one is next. If there is none, this bucket itself is
            // under its share, and any bucket below is next.
            let next = node.entitled.next_from(node.cursor).or_else(|| {
                (id != ROOT)
                    .then(|| node.claimable.next_from(node.cursor))
                    .flatten()
            })?;
            node.cursor = next + 1;
            if next == id {
                return Some(id);
            }
            id = next;
        }
    }
}
