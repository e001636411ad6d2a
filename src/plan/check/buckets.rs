//! The tree of shares of a cluster.

use crate::balance::{self, Share};
use crate::base::text::nearest;

use super::objection::{BucketKey, Objection, Subject};

/// The bucket that is the whole cluster.
pub const ROOT: &str = "root";

/// What adding up may add.
const TOLERANCE: f64 = 1e-6;

/// A bucket as it was written, before it is known what its parent is.
#[derive(Clone, Copy, Debug)]
pub struct DraftBucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// The name of its parent; `None` is the root.
    pub parent: Option<&'a str>,
    /// What it is given.
    pub share: balance::Bucket,
}

/// Returns what is wrong with this bucket taken alone, the `i`th of this cluster. `queue_limit` is
/// the cluster's.
pub fn check_bucket(
    cluster: usize,
    i: usize,
    bucket: &DraftBucket<'_>,
    queue_limit: usize,
) -> Vec<Objection> {
    let about = |key| Subject::Bucket(cluster, i, key);
    let mut objections = Vec::new();
    if bucket.name == ROOT {
        let text = "\"root\" is already the name of the whole cluster";
        let objection = Objection::error(about(BucketKey::Name), text);
        objections.push(objection.hint("names must differ"));
    }
    let balance::Bucket {
        assured,
        ceiling,
        queue_limit: own,
    } = bucket.share;
    if own > queue_limit {
        let text = format!("is more than may wait in the whole cluster, which is {queue_limit}");
        let objection = Objection::warning(about(BucketKey::QueueLimit), text);
        objections.push(objection.hint("raise the cluster's queue.limit, or leave it out"));
    }
    if matches!(ceiling, Share::Requests(0)) || matches!(ceiling, Share::Part(part) if part == 0.0)
    {
        let text = "is nothing: what comes into this bucket would never be served";
        let objection = Objection::error(about(BucketKey::Ceiling), text);
        objections.push(objection.hint("raise it, or leave it out"));
    } else if exceeds(assured, ceiling) {
        let text = "is more than the bucket's `ceiling`";
        let objection = Objection::error(about(BucketKey::Assured), text);
        objections.push(objection.hint("raise `ceiling` or lower this"));
    }
    objections
}

/// Returns whether one is more than the other for certain: two of different kinds cannot be
/// compared.
fn exceeds(one: Share, other: Share) -> bool {
    match (one, other) {
        (Share::Part(one), Share::Part(other)) => one > other + TOLERANCE,
        (Share::Requests(one), Share::Requests(other)) => one > other,
        _ => false,
    }
}

/// Finds the place in the list of each bucket's parent; `None` is the root, or a parent that there
/// is not.
pub fn find_parents(
    cluster: usize,
    buckets: &[DraftBucket<'_>],
) -> (Vec<Option<usize>>, Vec<Objection>) {
    let mut objections = Vec::new();
    let mut parents = Vec::new();
    for (i, bucket) in buckets.iter().enumerate() {
        let name = bucket.parent.filter(|name| *name != ROOT);
        let found = name.and_then(|name| buckets.iter().position(|other| other.name == name));
        if let Some(name) = name.filter(|_| found.is_none()) {
            let subject = Subject::Bucket(cluster, i, BucketKey::Parent);
            let text = format!("the cluster has no bucket \"{name}\"");
            let hint = unknown_hint(name, buckets.iter().map(|bucket| bucket.name));
            objections.push(Objection::error(subject, text).hint(hint));
        }
        parents.push(found);
    }
    (parents, objections)
}

/// Returns what was probably meant by a bucket that there is not.
pub fn unknown_hint<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.chain([ROOT]).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("there is: {}", names.join(", ")),
    }
}

/// Finds an order in which each bucket stands behind its parent, else as they are written: the new
/// place of each. Those that are below themselves have none, and there is an objection for each
/// circle, about its first bucket.
pub fn parents_first(
    cluster: usize,
    buckets: &[DraftBucket<'_>],
    parents: &[Option<usize>],
) -> (Vec<Option<usize>>, Vec<Objection>) {
    let mut places: Vec<Option<usize>> = vec![None; parents.len()];
    let mut placed = 0;
    loop {
        let before = placed;
        for (i, parent) in parents.iter().enumerate() {
            if places[i].is_none() && parent.is_none_or(|parent| places[parent].is_some()) {
                places[i] = Some(placed);
                placed += 1;
            }
        }
        if placed == before {
            break;
        }
    }
    let objections = circles(cluster, buckets, parents, &places);
    (places, objections)
}

fn circles(
    cluster: usize,
    buckets: &[DraftBucket<'_>],
    parents: &[Option<usize>],
    placed: &[Option<usize>],
) -> Vec<Objection> {
    let mut objections = Vec::new();
    let mut told = vec![false; buckets.len()];
    for start in (0..buckets.len()).filter(|i| placed[*i].is_none()) {
        let mut way = vec![start];
        while let Some(next) = way.last().and_then(|last| parents[*last])
            && !way.contains(&next)
        {
            way.push(next);
        }
        // Where it goes on to is where the circle begins: others only lead into it.
        let closes = way.last().and_then(|last| parents[*last]) == Some(start);
        if closes && !told[start] {
            let names: Vec<_> = way
                .iter()
                .map(|i| format!("\"{}\"", buckets[*i].name))
                .collect();
            let below = names.join(" below ");
            let text = format!("is below itself: {below} below {}", names[0]);
            let subject = Subject::Bucket(cluster, start, BucketKey::Parent);
            let objection = Objection::error(subject, text);
            objections.push(objection.hint("one of them must be below \"root\""));
            way.into_iter().for_each(|i| told[i] = true);
        }
    }
    objections
}

/// A bucket whose parent is known.
#[derive(Clone, Copy, Debug)]
pub struct PlacedBucket<'a> {
    /// The bucket.
    pub draft: DraftBucket<'a>,
    /// The place of its parent in this list, before its own.
    pub parent: Option<usize>,
    /// The place at which it was written.
    pub written: usize,
}

/// Returns what is wrong with the shares together. `capacity` is that of all servers.
pub fn check_shares(
    cluster: usize,
    buckets: &[PlacedBucket<'_>],
    capacity: usize,
) -> Vec<Objection> {
    let mut objections = Vec::new();
    // In requests, if every server could be used: what each is assured, and what its children have
    // been assured so far.
    let mut have: Vec<f64> = Vec::new();
    let mut given = vec![(0.0, 0.0); buckets.len() + 1];
    for bucket in buckets {
        let about = |key| Subject::Bucket(cluster, bucket.written, key);
        let (parent, share) = (bucket.parent, bucket.draft.share);
        let whole = parent.map_or(capacity as f64, |parent| have[parent]);
        let (parts, requests) = &mut given[parent.map_or(0, |parent| parent + 1)];
        let (part, own) = match share.assured {
            Share::Part(part) => (part, part * whole),
            Share::Requests(requests) => (0.0, f64::from(requests)),
        };
        have.push(own);
        let (parts_before, requests_before) = (*parts, *requests);
        *parts += part;
        *requests += own;
        let of = parent.map_or(ROOT, |parent| buckets[parent].draft.name);
        // Said of the one that is too much, not of all that follow.
        if *parts > 1.0 + TOLERANCE && parts_before <= 1.0 + TOLERANCE {
            let sum = crate::base::units::format_percent(*parts);
            let text =
                format!("is too much: buckets below \"{of}\" are assured {sum} of it together");
            let objection = Objection::error(about(BucketKey::Assured), text);
            objections.push(objection.hint("100% is all that there is"));
        } else if *parts <= 1.0 + TOLERANCE
            && *requests > whole + TOLERANCE
            && requests_before <= whole + TOLERANCE
            && capacity > 0
        {
            let text = format!(
                "is too much: buckets below \"{of}\" are assured {requests:.0} requests at once \
                 together, and it {whole:.0}"
            );
            let hint =
                "each gets less, in proportion; lower them, or raise what they are a part of";
            objections.push(Objection::warning(about(BucketKey::Assured), text).hint(hint));
        }
        if let Share::Requests(ceiling) = share.ceiling
            && ceiling as usize > capacity
            && capacity > 0
        {
            let text = format!("is more than all servers take at once, which is {capacity}");
            let objection = Objection::warning(about(BucketKey::Ceiling), text);
            objections.push(objection.hint("leave it out, or write percents"));
        }
    }
    objections
}
