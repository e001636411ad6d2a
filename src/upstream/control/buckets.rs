//! Buckets that come, change and go.

use std::time::Instant;

use crate::balance::{BucketId, Change, Share};
use crate::plan;

use super::controller::Controller;
use super::roster::{Roster, RunningBucket};

impl Controller {
    /// The numbers of the buckets of `plan`, which the cluster has, in the plan's order.
    pub fn bucket_ids(&self, plan: &plan::Cluster) -> Vec<BucketId> {
        let roster = self.roster();
        let id = |name: &str| {
            named(&roster.buckets, name).map_or_else(BucketId::default, |bucket| bucket.id)
        };
        plan.buckets.iter().map(|bucket| id(&bucket.name)).collect()
    }

    /// Brings the buckets to those of a plan.
    pub(super) fn adjust_buckets(
        &self,
        roster: &mut Roster,
        wanted: &[plan::Bucket],
        now: Instant,
    ) {
        // From below: a bucket is removed when none is below it.
        for name in gone(&roster.buckets, wanted).iter().rev() {
            let place = roster
                .buckets
                .iter()
                .position(|bucket| bucket.plan.name == *name);
            if let Some(place) = place {
                let bucket = roster.buckets.remove(place);
                self.apply(roster, Change::RemoveBucket(bucket.id), now);
            }
        }
        for (id, share) in changed(&mut roster.buckets, wanted) {
            self.apply(roster, Change::SetBucket(id, share), now);
        }
        let mut ordered: Vec<RunningBucket> = Vec::new();
        for bucket in wanted {
            let known = roster
                .buckets
                .iter()
                .position(|running| running.plan.name == bucket.name);
            if let Some(place) = known {
                ordered.push(roster.buckets.remove(place));
                continue;
            }
            let parent = parent(wanted, bucket);
            let parent_id = parent
                .and_then(|name| named(&ordered, name))
                .map_or_else(BucketId::default, |parent| parent.id);
            let outcome = self.apply(roster, Change::AddBucket(parent_id, bucket.share), now);
            if let Some(id) = outcome.and_then(|outcome| outcome.bucket) {
                ordered.push(RunningBucket {
                    id,
                    plan: bucket.clone(),
                    parent: parent.map(str::to_owned),
                });
            }
        }
        roster.buckets = ordered;
    }
}

fn named<'a>(buckets: &'a [RunningBucket], name: &str) -> Option<&'a RunningBucket> {
    buckets.iter().find(|bucket| bucket.plan.name == name)
}

/// The name of a bucket's parent; `None` is the root.
fn parent<'a>(wanted: &'a [plan::Bucket], bucket: &plan::Bucket) -> Option<&'a str> {
    let parent = wanted.get(bucket.parent?)?;
    Some(&parent.name)
}

/// The names of buckets that are to go, parents before children. A bucket whose parent is another
/// one than before goes too, and so does one whose parent goes.
fn gone(running: &[RunningBucket], wanted: &[plan::Bucket]) -> Vec<String> {
    let stays = |running: &RunningBucket| {
        wanted.iter().any(|bucket| {
            bucket.name == running.plan.name && parent(wanted, bucket) == running.parent.as_deref()
        })
    };
    let mut gone: Vec<String> = Vec::new();
    for bucket in running {
        let loses_parent = bucket
            .parent
            .as_ref()
            .is_some_and(|parent| gone.contains(parent));
        if loses_parent || !stays(bucket) {
            gone.push(bucket.plan.name.clone());
        }
    }
    gone
}

/// Notes the wanted settings in the buckets that are there. Returns the shares that are different,
/// those that ask for less first: what is taken from one bucket may be what another one gets.
fn changed(
    running: &mut [RunningBucket],
    wanted: &[plan::Bucket],
) -> Vec<(BucketId, crate::balance::Bucket)> {
    let mut changes = Vec::new();
    for running in running {
        let Some(bucket) = wanted
            .iter()
            .find(|bucket| bucket.name == running.plan.name)
        else {
            continue;
        };
        if bucket.share != running.plan.share {
            let growth = fraction(bucket.share.assured) - fraction(running.plan.share.assured);
            changes.push((growth, running.id, bucket.share));
        }
        running.plan = bucket.clone();
    }
    changes.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    changes
        .into_iter()
        .map(|(_, id, share)| (id, share))
        .collect()
}

/// What counts towards the sum that the shares of siblings must not exceed.
fn fraction(share: Share) -> f64 {
    match share {
        Share::Part(part) => part,
        Share::Requests(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use crate::balance::Bucket;

    use super::*;

    fn bucket(name: &str, parent: Option<usize>, assured: f64) -> plan::Bucket {
        plan::Bucket {
            name: name.to_owned(),
            parent,
            share: Bucket {
                assured: Share::Part(assured),
                ceiling: Share::Part(1.0),
                queue_limit: 10,
            },
            queue_timeout: std::time::Duration::from_secs(1),
        }
    }

    fn running(plan: &[plan::Bucket]) -> Vec<RunningBucket> {
        let run = |(place, bucket): (usize, &plan::Bucket)| RunningBucket {
            id: BucketId(place as u32 + 1),
            plan: bucket.clone(),
            parent: parent(plan, bucket).map(str::to_owned),
        };
        plan.iter().enumerate().map(run).collect()
    }

    #[test]
    fn a_bucket_goes_with_its_parent_and_when_it_gets_another_one() {
        let old = [
            bucket("a", None, 0.5),
            bucket("b", Some(0), 0.5),
            bucket("c", Some(1), 0.5),
            bucket("d", None, 0.5),
        ];
        let running = running(&old);
        assert_eq!(gone(&running, &old), [""; 0]);
        assert_eq!(gone(&running, &[]), ["a", "b", "c", "d"]);
        // `a` is not there any more: what is below it goes, though the plan has it at the root.
        let without = [bucket("b", None, 0.5), bucket("c", Some(0), 0.5)];
        assert_eq!(gone(&running, &without), ["a", "b", "c", "d"]);
        let moved = [
            bucket("d", None, 0.5),
            bucket("a", None, 0.5),
            bucket("b", Some(1), 0.5),
            bucket("c", Some(0), 0.5),
        ];
        assert_eq!(gone(&running, &moved), ["c"]);
    }

    #[test]
    fn shares_that_shrink_are_changed_before_those_that_grow() {
        let mut running = running(&[
            bucket("a", None, 0.2),
            bucket("b", None, 0.8),
            bucket("c", None, 0.0),
        ]);
        let wanted = [
            bucket("a", None, 0.9),
            bucket("b", None, 0.1),
            bucket("c", None, 0.0),
        ];
        let changes = changed(&mut running, &wanted);
        let order: Vec<_> = changes.iter().map(|(id, _)| id.0).collect();
        assert_eq!(order, [2, 1]);
        assert!(changed(&mut running, &wanted).is_empty(), "it is noted");
    }
}
