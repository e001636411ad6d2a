//! The tree, case by case, and its guarantee against a separate count.

use proptest::prelude::*;

use super::*;
use crate::balance::random::Random;

fn part(assured: f64, ceiling: f64) -> Bucket {
    Bucket {
        assured: Share::Part(assured),
        ceiling: Share::Part(ceiling),
        ..Bucket::default()
    }
}

const MAIN: BucketId = BucketId(2);
const UPLOAD: BucketId = BucketId(3);
const VIP: BucketId = BucketId(1);
const ALL: BucketId = BucketId(ROOT);

/// Returns a tree of ten tokens: vip .1/.3, main .5/.7, and upload .5/.5 below main.
fn tree(lending: Lending) -> Tree {
    let mut tree = Tree::new(lending, true);
    tree.resize(10);
    assert_eq!(tree.add(ALL, part(0.1, 0.3)), Ok(VIP));
    assert_eq!(tree.add(ALL, part(0.5, 0.7)), Ok(MAIN));
    assert_eq!(tree.add(MAIN, part(0.5, 0.5)), Ok(UPLOAD));
    tree
}

fn shares(tree: &Tree, bucket: BucketId) -> (usize, usize) {
    let counts = tree.counts(bucket);
    (counts.assured, counts.ceiling)
}

/// A cluster with a fixed number of workers: a job begins where there is room, and waits otherwise.
struct Bench {
    tree: Tree,
    free: usize,
}

impl Bench {
    fn new(tree: Tree) -> Self {
        let free = tree.size();
        Self { tree, free }
    }

    /// Adds a job. Returns whether it begins at once.
    fn come(&mut self, bucket: BucketId) -> bool {
        let begins = self.free > 0 && self.tree.admits(bucket, self.free);
        if begins {
            self.tree.take(bucket, false);
            self.free -= 1;
        } else {
            self.tree.join(bucket, true);
        }
        self.tree.check();
        begins
    }

    /// Adds `jobs` jobs. Returns how many begin.
    fn come_all(&mut self, bucket: BucketId, jobs: usize) -> usize {
        (0..jobs).filter(|_| self.come(bucket)).count()
    }

    /// Ends a job of this bucket. Returns the buckets whose jobs begin.
    fn end(&mut self, bucket: BucketId) -> Vec<u32> {
        self.release(bucket);
        std::iter::from_fn(|| self.give()).collect()
    }

    fn release(&mut self, bucket: BucketId) {
        self.tree.release(bucket);
        self.free += 1;
    }

    /// Begins a waiting job, if one may. Returns its bucket.
    fn give(&mut self) -> Option<u32> {
        let next = (self.free > 0)
            .then(|| self.tree.next(self.free, |_| true))
            .flatten()?;
        self.tree.grant(next, true);
        self.free -= 1;
        self.tree.check();
        Some(next.0)
    }

    /// Returns the slots that are used or reserved in a bucket.
    fn weight(&self, bucket: BucketId) -> usize {
        let below = self.tree.children(bucket.0).map(BucketId);
        let below = below.map(|child| self.weight(child).max(self.tree.counts(child).assured));
        self.tree.counts(bucket).serving + below.sum::<usize>()
    }

    /// Returns whether one more job of this bucket may be served, by what is held alone.
    fn may_begin(&self, bucket: BucketId) -> bool {
        let parent = |bucket: &BucketId| BucketId(self.tree.nodes[bucket.0 as usize].parent);
        let way = std::iter::successors(Some(bucket), |bucket| Some(parent(bucket)));
        let way = way.take_while(|bucket| *bucket != ALL).collect::<Vec<_>>();
        let counts = |bucket: &BucketId| self.tree.counts(*bucket);
        self.free > 0
            && way
                .iter()
                .all(|bucket| counts(bucket).held < counts(bucket).ceiling)
            && (self.tree.lending == Lending::WorkConserving
                || way
                    .iter()
                    .any(|bucket| self.weight(*bucket) < counts(bucket).assured)
                || self.free > self.weight(ALL) - counts(&ALL).held)
    }
}

#[test]
fn shares_follow_the_size_and_the_settings() {
    let mut tree = tree(Lending::default());
    let all = |tree: &Tree| [VIP, MAIN, UPLOAD].map(|bucket| shares(tree, bucket));
    assert_eq!(all(&tree), [(1, 3), (5, 7), (2, 3)]);
    tree.resize(100);
    assert_eq!(all(&tree), [(10, 30), (50, 70), (25, 35)]);
    tree.resize(10);
    assert_eq!(tree.set(MAIN, part(0.6, 0.7)), Ok(()));
    assert_eq!(all(&tree), [(1, 3), (6, 7), (3, 3)]);
    assert_eq!(tree.set(MAIN, part(0.5, 0.8)), Ok(()));
    assert_eq!(all(&tree), [(1, 3), (5, 8), (2, 4)]);
    tree.resize(0);
    assert_eq!(all(&tree), [(0, 0), (0, 0), (0, 0)]);
}

#[test]
fn impossible_trees_are_rejected() {
    let mut tree = tree(Lending::default());
    assert_eq!(
        tree.add(ALL, part(0.5, 0.6)),
        Err(Rejection::TooMuchAssured)
    );
    assert_eq!(
        tree.set(VIP, part(0.6, 0.6)),
        Err(Rejection::TooMuchAssured)
    );
    assert_eq!(tree.add(ALL, part(0.2, 0.1)), Err(Rejection::InvalidShare));
    assert_eq!(tree.add(ALL, part(0.2, 1.1)), Err(Rejection::InvalidShare));
    assert_eq!(
        tree.add(ALL, part(f64::NAN, 1.0)),
        Err(Rejection::InvalidShare)
    );
    assert_eq!(
        tree.add(BucketId(9), part(0.0, 1.0)),
        Err(Rejection::UnknownBucket)
    );
    assert_eq!(tree.set(ALL, part(0.0, 1.0)), Err(Rejection::Root));
    assert_eq!(tree.heir(MAIN), Err(Rejection::HasChildren));
    assert_eq!(tree.heir(ALL), Err(Rejection::Root));
    assert_eq!(tree.heir(UPLOAD), Ok(MAIN));
}

#[test]
fn nobody_gets_more_than_the_ceiling() {
    let mut bench = Bench::new(tree(Lending::WorkConserving));
    assert_eq!(bench.come_all(VIP, 5), 3);
    assert_eq!(bench.come_all(UPLOAD, 5), 3);
    // Four more fill main's seven tokens.
    assert_eq!(bench.come_all(MAIN, 6), 4);
    assert_eq!(bench.come_all(ALL, 1), 0);
    assert_eq!(
        bench.end(VIP),
        [0],
        "the root has nothing of the four that are its own"
    );
    assert_eq!(bench.end(VIP), [VIP.0]);
}

#[test]
fn idle_shares_are_lent_and_come_back_first() {
    let mut tree = Tree::new(Lending::WorkConserving, true);
    tree.resize(4);
    let (one, two) = (tree.add(ALL, part(0.5, 1.0)), tree.add(ALL, part(0.5, 1.0)));
    let (one, two) = (one.expect("a bucket"), two.expect("a bucket"));
    let mut bench = Bench::new(tree);
    assert_eq!(bench.come_all(one, 10), 4);
    assert_eq!(bench.come_all(two, 3), 0);
    assert_eq!(bench.tree.counts(two).claims, 2);
    assert_eq!(bench.end(one), [two.0]);
    assert_eq!(bench.end(one), [two.0]);
    // Both have their share now. A bucket that loses a slot gets it back.
    assert_eq!(bench.end(one), [one.0]);
    assert_eq!(bench.end(two), [two.0]);
}

#[test]
fn reserved_shares_stay_free() {
    let mut bench = Bench::new(tree(Lending::Reserve));
    // One slot for vip and five for main are reserved.
    assert_eq!(bench.come_all(ALL, 10), 4);
    assert_eq!(bench.come_all(VIP, 3), 1);
    assert_eq!(bench.come_all(UPLOAD, 4), 3);
    assert_eq!(bench.come_all(MAIN, 4), 2);
    assert_eq!(bench.free, 0);
    // A slot that the root gives back is free for borrowers; one of main's is main's.
    assert_eq!(bench.end(MAIN), [MAIN.0]);
    let borrower = bench.end(ALL);
    assert_eq!(borrower.len(), 1);
    assert_ne!(borrower, [UPLOAD.0], "upload is at its ceiling");
}

#[test]
fn what_the_children_leave_is_their_parents_own() {
    let mut bench = Bench::new(tree(Lending::WorkConserving));
    assert_eq!(bench.come_all(MAIN, 7), 7);
    assert_eq!(bench.come_all(VIP, 3), 3);
    assert_eq!(bench.come_all(ALL, 2), 0);
    assert_eq!(bench.tree.counts(ALL).claims, 2);
    assert_eq!(bench.come_all(VIP, 2), 0);
    assert_eq!(bench.end(MAIN), [ROOT]);
    assert_eq!(bench.end(MAIN), [ROOT]);
}

#[test]
fn removing_a_bucket_leaves_its_tokens_with_its_parent() {
    let mut bench = Bench::new(tree(Lending::WorkConserving));
    bench.come_all(UPLOAD, 2);
    bench.tree.remove(UPLOAD);
    bench.tree.check();
    assert_eq!(
        (
            bench.tree.counts(MAIN).held,
            bench.tree.counts(MAIN).serving
        ),
        (2, 2)
    );
    assert_eq!(bench.tree.resolve(UPLOAD), ALL);
    bench.end(MAIN);
    bench.end(MAIN);
    assert_eq!(
        (bench.tree.counts(MAIN).held, bench.tree.counts(ALL).held),
        (0, 0)
    );
}

#[test]
fn a_client_that_leaves_costs_its_bucket_no_place_in_the_line() {
    let mut tree = Tree::new(Lending::WorkConserving, true);
    tree.resize(4);
    let buckets =
        [0.5, 0.5, 0.0].map(|assured| tree.add(ALL, part(assured, 1.0)).expect("a bucket"));
    let [one, two, bulk] = buckets;
    let mut bench = Bench::new(tree);
    bench.come_all(bulk, 4);
    for bucket in [one, two, one, two] {
        bench.come(bucket);
    }
    bench.tree.leave(one, true);
    bench.tree.check();
    let order = (0..3).flat_map(|_| bench.end(bulk)).collect::<Vec<_>>();
    assert_eq!(order, [one.0, two.0, two.0]);
}

#[test]
fn those_who_borrow_take_turns() {
    let mut tree = Tree::new(Lending::WorkConserving, true);
    tree.resize(1);
    let buckets = [0; 3].map(|_| tree.add(ALL, part(0.0, 1.0)).expect("a bucket"));
    let mut bench = Bench::new(tree);
    assert!(bench.come(buckets[0]));
    for bucket in buckets {
        bench.come_all(bucket, 3);
    }
    let mut last = buckets[0];
    let mut turns = Vec::new();
    for _ in 0..9 {
        let next = bench.end(last);
        last = BucketId(next[0]);
        turns.push(last.0);
    }
    assert_eq!(turns[..3], turns[3..6]);
    turns[..3].sort_unstable();
    assert_eq!(turns[..3], buckets.map(|bucket| bucket.0));
}

/// Makes a tree of eight tokens, all of them outer's. Below outer is inner (1, at most 2), below
/// that tight (1, at most 1), and below that last (1, at most 1).
fn nested(lending: Lending) -> (Tree, [BucketId; 4]) {
    let requests = |assured, ceiling| Bucket {
        assured: Share::Requests(assured),
        ceiling: Share::Requests(ceiling),
        ..Bucket::default()
    };
    let mut tree = Tree::new(lending, true);
    tree.resize(8);
    let mut parent = ALL;
    let buckets = [
        part(1.0, 1.0),
        requests(1, 2),
        requests(1, 1),
        requests(1, 1),
    ]
    .map(|settings| {
        parent = tree.add(parent, settings).expect("a bucket");
        parent
    });
    (tree, buckets)
}

#[test]
fn a_claim_that_a_ceiling_holds_up_keeps_back_nobody_else() {
    let (tree, [_, inner, tight, last]) = nested(Lending::Reserve);
    let mut bench = Bench::new(tree);
    assert!(bench.come(tight));
    assert!(!bench.come(last), "its parent is at the ceiling");
    assert_eq!(bench.tree.counts(last).claims, 1);
    assert!(
        bench.come(inner),
        "outer has less than it is assured, inner less than its ceiling"
    );
    assert_eq!(bench.end(tight), [last.0]);
}

#[test]
fn a_claim_that_a_ceiling_holds_up_costs_nobody_a_claim() {
    let (mut tree, [_, inner, tight, last]) = nested(Lending::WorkConserving);
    let bulk = tree.add(ALL, part(0.0, 1.0)).expect("a bucket");
    let mut bench = Bench::new(tree);
    assert_eq!(bench.come_all(bulk, 10), 8);
    assert!(!bench.come(tight));
    assert_eq!(bench.end(bulk), [tight.0]);
    assert!(!bench.come(last), "its parent is at the ceiling");
    assert!(!bench.come(inner));
    let claims = [inner, last].map(|bucket| bench.tree.counts(bucket).claims);
    assert_eq!(claims, [1, 1]);
    assert_eq!(bench.end(bulk), [inner.0], "before the borrowers");
    assert!(!bench.come(inner));
    assert_eq!(bench.tree.counts(inner).claims, 0, "it has its ceiling");
    assert_eq!(bench.end(tight), [last.0]);
}

/// A job of a bucket without children that is under its share when it comes waits for a bounded
/// number of slots that it could have used: what all other buckets lack of their assured shares,
/// and the jobs before it in its own bucket. The test counts what happens and does not use the
/// tree's counts.
fn guarantee(seed: u64) {
    let mut random = Random::new(seed);
    let size = 4 + random.below(20) as usize;
    let mut tree = Tree::new(Lending::WorkConserving, true);
    tree.resize(size);
    let mut parents = vec![ALL];
    for _ in 0..1 + random.below(6) {
        let parent = parents[random.below(parents.len() as u64) as usize];
        let assured = random.below(6) as f64 / 10.0;
        let ceiling = [1.0, 1.0, 0.5, assured][random.below(4) as usize].max(assured);
        if let Ok(bucket) = tree.add(parent, part(assured, ceiling)) {
            parents.push(bucket);
        }
    }
    let leaves = parents
        .iter()
        .copied()
        .filter(|bucket| tree.children(bucket.0).next().is_none());
    let leaves = leaves.collect::<Vec<_>>();
    let mut bench = Bench::new(tree);
    // For each bucket its waiting jobs, first come first served: how many slots each may see pass,
    // if it has a promise.
    let mut waiting: Vec<VecDeque<Option<usize>>> = vec![Default::default(); 16];
    let mut running = Vec::new();
    for _ in 0..300 {
        if random.below(10) < 6 {
            let bucket = parents[random.below(parents.len() as u64) as usize];
            let counts = bench.tree.counts(bucket);
            let lacking = |bucket: BucketId| {
                let counts = bench.tree.counts(bucket);
                let node = &bench.tree.nodes[bucket.0 as usize];
                let whole = counts.assured.saturating_sub(counts.held);
                match leaves.contains(&bucket) {
                    true => whole,
                    // Its own share is a claim of its own, and the root lacks nothing else.
                    false if bucket == ALL => {
                        (node.own_share as usize).saturating_sub(counts.serving)
                    }
                    false => whole + (node.own_share as usize).saturating_sub(counts.serving),
                }
            };
            let is_leaf = leaves.contains(&bucket) && bucket != ALL;
            let under = is_leaf && counts.held + counts.queued < counts.assured;
            let allowed = parents
                .iter()
                .filter(|other| **other != bucket)
                .map(|other| lacking(*other));
            let allowed = allowed.sum::<usize>() + counts.queued;
            if bench.come(bucket) {
                running.push(bucket);
            } else {
                waiting[bucket.0 as usize].push_back(under.then_some(allowed));
            }
        } else if !running.is_empty() {
            let ends = running.swap_remove(random.below(running.len() as u64) as usize);
            bench.release(ends);
            loop {
                let able = parents
                    .iter()
                    .copied()
                    .filter(|bucket| bench.tree.is_below_ceilings(bucket.0));
                let able = able.collect::<Vec<_>>();
                let Some(id) = bench.give() else { break };
                running.push(BucketId(id));
                waiting[id as usize]
                    .pop_front()
                    .expect("a served job has waited");
                for bucket in able {
                    for left in waiting[bucket.0 as usize].iter_mut().flatten() {
                        *left = left.checked_sub(1).expect("a guarantee is kept");
                    }
                }
            }
        }
    }
    for bucket in &parents {
        assert_eq!(bench.tree.counts(*bucket).violations, 0);
    }
}

/// No slot is free beside a job that may have it, in deep trees with shares and ceilings of a few
/// tokens.
fn diligence(seed: u64, lending: Lending) {
    let mut random = Random::new(seed);
    let mut tree = Tree::new(lending, true);
    tree.resize(3 + random.below(6) as usize);
    // A bucket that may lend what it does not need itself.
    let mut buckets = vec![ALL, tree.add(ALL, part(1.0, 1.0)).expect("a bucket")];
    for _ in 0..2 + random.below(3) {
        // The trees are deep rather than broad.
        let parent = buckets[buckets.len() - 1 - usize::from(random.below(4) == 0)];
        let assured = random.below(3) as u32;
        let settings = Bucket {
            assured: Share::Requests(assured),
            ceiling: Share::Requests(assured + random.below(2) as u32),
            ..Bucket::default()
        };
        buckets.push(tree.add(parent, settings).expect("a bucket"));
    }
    let mut bench = Bench::new(tree);
    let mut running = Vec::new();
    for _ in 0..200 {
        let bucket = buckets[random.below(buckets.len() as u64) as usize];
        let queued = bench.tree.queued(bucket) > 0;
        match random.below(10) {
            0..6 => running.extend(bench.come(bucket).then_some(bucket)),
            6..9 if !running.is_empty() => {
                let ends = running.swap_remove(random.below(running.len() as u64) as usize);
                running.extend(bench.end(ends).into_iter().map(BucketId));
            }
            9 if queued => bench.tree.leave(bucket, true),
            _ => {}
        }
        bench.tree.check();
        for bucket in &buckets {
            let idles = bench.tree.queued(*bucket) > 0 && bench.may_begin(*bucket);
            assert!(!idles, "a slot is free beside a job of {bucket:?}");
            assert_eq!(bench.tree.counts(*bucket).violations, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_slot_is_free_beside_a_job_that_may_have_it(seed: u64, reserve: bool) {
        diligence(seed, if reserve { Lending::Reserve } else { Lending::WorkConserving });
    }

    #[test]
    fn the_guarantee_is_kept(seed: u64) {
        guarantee(seed);
    }
}
