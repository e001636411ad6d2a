//! What is wrong with a plan, apart from how it was written down: names that are taken, shares that
//! do not add up, parents that there are not, what no request ever reaches.
//!
//! Everything here is pure. An [`Objection`] is about a [`Subject`], a thing of the plan. `config`
//! knows where that stands in a file, and maps subjects to lines.

mod buckets;
mod cluster;
mod firsts;
mod objection;
#[cfg(test)]
mod tests;
mod whole;

pub use buckets::{
    DraftBucket, PlacedBucket, ROOT, check_bucket, check_shares, find_parents, parents_first,
    unknown_hint,
};
pub use cluster::check_cluster;
pub use firsts::Firsts;
pub use objection::{BucketKey, ClusterKey, Objection, Severity, Subject};
pub use whole::{Whole, check_whole};
