//! `[[cluster.bucket]]`: a tree of shares.

use toml::de::DeValue;

use super::form::Kind;
use super::listener::{Names, unique_name};
use super::problem::Location;
use super::process::saturate;
use super::reader::{Table, count_of, expected, percent_of};
use crate::balance::{self, Share};
use crate::plan::check::{
    BucketKey, DraftBucket, Objection, PlacedBucket, Subject, check_bucket, check_shares,
    find_parents, parents_first,
};
use crate::plan::{Bucket, Cluster};

/// The bucket for requests of routes that name none.
pub(super) const MAIN: &str = "main";

/// Most requests of a share.
const REQUESTS_MOST: u64 = 1_000_000;

/// A bucket as it is written, with where that is.
struct Written {
    bucket: Bucket,
    parent: Option<String>,
    places: Places,
}

/// Where the settings of a bucket are.
struct Places {
    name: Location,
    parent: Location,
    assured: Location,
    ceiling: Location,
    queue_limit: Location,
}

impl Written {
    fn draft(&self) -> DraftBucket<'_> {
        DraftBucket {
            name: &self.bucket.name,
            parent: self.parent.as_deref(),
            share: self.bucket.share,
        }
    }
}

impl Places {
    fn of(&self, key: BucketKey) -> &Location {
        match key {
            BucketKey::Name => &self.name,
            BucketKey::Parent => &self.parent,
            BucketKey::Assured => &self.assured,
            BucketKey::Ceiling => &self.ceiling,
            BucketKey::QueueLimit => &self.queue_limit,
        }
    }
}

/// Reads the buckets of the `i`th cluster into it, each behind its parent. Returns the place of
/// each name, as they were written, and for each bucket of the cluster where it was written.
pub(super) fn read(
    table: &Table<'_>,
    i: usize,
    cluster: &mut Cluster,
) -> (Vec<Location>, Vec<usize>) {
    let mut names = Names::default();
    let tables = table.tables("bucket");
    let mut written: Vec<_> = tables
        .iter()
        .map(|table| read_one(table, i, cluster, &mut names))
        .collect();
    let tell = |written: &[Written], objections: Vec<Objection>| {
        for objection in objections {
            table.problems().object(objection, |subject| match subject {
                Subject::Bucket(_, at, key) => {
                    written.get(at).map(|one| one.places.of(key).clone())
                }
                _ => None,
            });
        }
    };
    let drafts: Vec<_> = written.iter().map(Written::draft).collect();
    for (at, draft) in drafts.iter().enumerate() {
        tell(&written, check_bucket(i, at, draft, cluster.queue_limit));
    }
    let (parents, objections) = find_parents(i, &drafts);
    tell(&written, objections);
    let (places, objections) = parents_first(i, &drafts, &parents);
    tell(&written, objections);
    let mut order: Vec<_> = (0..drafts.len()).collect();
    order.sort_by_key(|at| places[*at].unwrap_or(usize::MAX));
    let new_parent = |at: usize| parents[at].and_then(|parent| places[parent]);
    let placed: Vec<_> = order
        .iter()
        .filter(|at| places[**at].is_some())
        .map(|at| PlacedBucket {
            draft: drafts[*at],
            parent: new_parent(*at),
            written: *at,
        })
        .collect();
    let capacity = cluster.servers.iter().map(|server| server.capacity).sum();
    tell(&written, check_shares(i, &placed, capacity));
    // There is no plan with those below themselves, but routes may name them.
    for (at, one) in written.iter_mut().enumerate() {
        one.bucket.parent = new_parent(at);
    }
    let buckets = order.iter().map(|at| written[*at].bucket.clone());
    cluster.buckets = buckets.collect();
    let names = written.into_iter().map(|one| one.places.name);
    (names.collect(), order)
}

fn read_one(table: &Table<'_>, i: usize, cluster: &Cluster, names: &mut Names) -> Written {
    let name = unique_name(table, names, |at| Subject::Bucket(i, at, BucketKey::Name));
    let queue = table.table("queue");
    let queue_limit = queue.count_if_any("limit");
    let places = Places {
        name: table.place_of("name"),
        parent: table.place_of("parent"),
        assured: table.place_of("assured"),
        ceiling: table.place_of("ceiling"),
        queue_limit: queue_limit
            .as_ref()
            .map(|limit| limit.place.clone())
            .unwrap_or_default(),
    };
    Written {
        bucket: Bucket {
            name,
            parent: None,
            share: balance::Bucket {
                assured: share(table, "assured", 0.0),
                ceiling: share(table, "ceiling", 1.0),
                queue_limit: queue_limit.map_or(cluster.queue_limit, |limit| saturate(limit.value)),
            },
            queue_timeout: queue
                .duration_if_any("timeout")
                .unwrap_or(cluster.queue_timeout),
        },
        parent: table.text("parent").map(|name| name.value),
        places,
    }
}

fn share(table: &Table<'_>, name: &str, default: f64) -> Share {
    let part = Kind::Percent(0, 100);
    let share = table.read(name, |_, value| match value {
        DeValue::Integer(_) => {
            let requests = count_of(value, 0, REQUESTS_MOST)?;
            Ok(Share::Requests(u32::try_from(requests).unwrap_or(u32::MAX)))
        }
        DeValue::String(_) => percent_of(&part, value).map(Share::Part),
        _ => {
            Err(expected("a percentage or a number of requests", value).hint("write \"20%\" or 10"))
        }
    });
    share.map_or(Share::Part(default), |spot| spot.value)
}
