//! What must be true of the tree at any time.

use super::{Node, ROOT, Tree};
use crate::balance::BucketId;
use crate::balance::change::Lending;

impl Tree {
    /// Checks that every sum and set agrees with the buckets.
    pub(in crate::balance) fn check(&self) {
        for id in self.ids() {
            let BucketId(id) = id;
            let node = &self.nodes[id as usize];
            let children = self.children(id).collect::<Vec<_>>();
            let sum = |of: &dyn Fn(&Node) -> u32| {
                children
                    .iter()
                    .map(|child| of(&self.nodes[*child as usize]))
                    .sum::<u32>()
            };
            assert_eq!(node.held, node.own_held + sum(&|child| child.held));
            assert!(node.open <= node.queued);
            if !self.grown {
                assert_eq!(self.line.len(), 0);
                continue;
            }
            assert!(id == ROOT || node.claims == node.own_claims + sum(&Node::promised));
            assert!(node.own_claims <= node.open);
            if self.lending == Lending::Reserve {
                let own = node.own_held + node.own_claims;
                assert_eq!(
                    node.weight_within,
                    own + sum(&|child| child.weight_within.max(child.assured))
                );
            }
            assert!(
                !self.claiming || node.open == node.own_claims || !self.is_entitled(id),
                "{id} has its claims"
            );
            let live = |which: &dyn Fn(&Node) -> bool| {
                children
                    .iter()
                    .filter(|child| which(&self.nodes[**child as usize]))
                    .count()
            };
            let room = |child: &Node| child.held < child.ceiling;
            let waiting = live(&|child| room(child) && !child.waiting.is_empty());
            assert_eq!(node.waiting.len(), waiting + usize::from(node.queued > 0));
            let claimable = live(&|child| child.may_promise() && !child.claimable.is_empty());
            assert_eq!(
                node.claimable.len(),
                claimable + usize::from(node.open > node.own_claims)
            );
            assert!(!self.claiming || node.entitled.is_empty() || id != ROOT);
        }
        let claims = self
            .nodes
            .iter()
            .filter(|node| node.exists)
            .map(|node| node.own_claims as usize);
        assert_eq!(
            self.line.len(),
            if self.grown { claims.sum::<usize>() } else { 0 }
        );
    }
}
