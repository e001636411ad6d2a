//! Names of what a cluster consists of.

/// A server of the cluster, by its index in the list. A new server takes the number of a removed
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A worker of the cluster, numbered in the order of starts. A new worker takes the number of one
/// that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// A bucket of the cluster. The first is the root, which has the jobs of no other bucket. An
/// unknown bucket stands for the root. The number of a removed bucket is reused only after many
/// more removals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketId(pub u32);
