//! `[[cluster.bucket]]`: a tree of shares.

use std::collections::HashMap;

use toml::de::DeValue;

use super::form::Kind;
use super::listener::unique_name;
use super::problem::{Complaint, Place, Spot, nearest};
use super::process::saturate;
use super::reader::{Table, count_of, expected, percent_of};
use crate::balance::{self, Share};
use crate::plan::{Bucket, Cluster};

/// The bucket that is the whole cluster.
pub(super) const ROOT: &str = "root";

/// The one for requests of routes that name none.
pub(super) const MAIN: &str = "main";

/// What adding up may add.
const TOLERANCE: f64 = 1e-6;

/// Most requests of a share.
const REQUESTS_MOST: u64 = 1_000_000;

/// A bucket as it is written, with where that is.
struct Written {
    bucket: Bucket,
    name: Place,
    parent: Place,
    assured: Place,
    ceiling: Place,
}

/// Reads the buckets of a cluster into it, each behind its parent; gives the place of each.
pub(super) fn read(table: &Table<'_>, cluster: &mut Cluster) -> Vec<Place> {
    let mut names = HashMap::new();
    let tables = table.tables("bucket");
    let mut written: Vec<_> = tables
        .iter()
        .map(|table| read_one(table, cluster, &mut names))
        .collect();
    for (i, table) in tables.iter().enumerate() {
        written[i].bucket.parent = parent(table, &written);
    }
    let (written, below_themselves) = parents_first(table, written);
    check_shares(table, &written, cluster);
    // There is no plan with those below themselves, but routes may name them.
    let all = written.into_iter().chain(below_themselves);
    let (buckets, places) = all.map(|one| (one.bucket, one.name)).unzip();
    cluster.buckets = buckets;
    places
}

fn read_one(
    table: &Table<'_>,
    cluster: &Cluster,
    names: &mut HashMap<String, Spot<String>>,
) -> Written {
    let problems = table.problems();
    let name = unique_name(table, names);
    if name == ROOT {
        let complaint = Complaint::new("\"root\" is already the name of the whole cluster");
        problems.error(&table.place_of("name"), complaint.hint("names must differ"));
    }
    let queue = table.table("queue");
    let queue_limit = queue
        .count_if_any("limit")
        .map_or(cluster.queue_limit, |limit| {
            let most = cluster.queue_limit;
            if saturate(limit.value) > most {
                let complaint = Complaint::new(format!(
                    "is more than may wait in the whole cluster, which is {most}"
                ));
                problems.warning(
                    &limit.place,
                    complaint.hint("raise the cluster's queue.limit, or leave it out"),
                );
            }
            saturate(limit.value)
        });
    let (assured, ceiling) = (share(table, "assured", 0.0), share(table, "ceiling", 1.0));
    if matches!(ceiling, Share::Requests(0)) || matches!(ceiling, Share::Part(part) if part == 0.0)
    {
        let complaint =
            Complaint::new("is nothing: what comes into this bucket would never be served");
        problems.error(
            &table.place_of("ceiling"),
            complaint.hint("raise it, or leave it out"),
        );
    } else if exceeds(assured, ceiling) {
        let complaint = Complaint::new("is more than the bucket's `ceiling`");
        problems.error(
            &table.place_of("assured"),
            complaint.hint("raise `ceiling` or lower this"),
        );
    }
    Written {
        bucket: Bucket {
            name,
            parent: None,
            share: balance::Bucket {
                assured,
                ceiling,
                queue_limit,
            },
            queue_timeout: queue
                .duration_if_any("timeout")
                .unwrap_or(cluster.queue_timeout),
        },
        name: table.place_of("name"),
        parent: table.place_of("parent"),
        assured: table.place_of("assured"),
        ceiling: table.place_of("ceiling"),
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

/// Returns whether one is more than the other for certain: of two of different kinds nobody knows.
fn exceeds(one: Share, other: Share) -> bool {
    match (one, other) {
        (Share::Part(one), Share::Part(other)) => one > other + TOLERANCE,
        (Share::Requests(one), Share::Requests(other)) => one > other,
        _ => false,
    }
}

/// Place in the list of the bucket that another names as its parent.
fn parent(table: &Table<'_>, written: &[Written]) -> Option<usize> {
    let name = table.text("parent").filter(|name| name.value != ROOT)?;
    let names = || written.iter().map(|one| one.bucket.name.as_str());
    let found = names().position(|other| other == name.value);
    if found.is_none() {
        let complaint = Complaint::new(format!("the cluster has no bucket \"{}\"", name.value));
        let hint = unknown_hint(&name.value, names());
        table.problems().error(&name.place, complaint.hint(hint));
    }
    found
}

/// What was probably meant by a bucket that there is not.
pub(super) fn unknown_hint<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.chain([ROOT]).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("there is: {}", names.join(", ")),
    }
}

/// In an order in which each stands behind its parent, else as they are written; and those that are
/// below themselves.
fn parents_first(table: &Table<'_>, written: Vec<Written>) -> (Vec<Written>, Vec<Written>) {
    let parents: Vec<_> = written.iter().map(|one| one.bucket.parent).collect();
    let mut new_place: Vec<Option<usize>> = vec![None; written.len()];
    let mut placed = 0;
    loop {
        let before = placed;
        for (i, parent) in parents.iter().enumerate() {
            if new_place[i].is_none() && parent.is_none_or(|parent| new_place[parent].is_some()) {
                new_place[i] = Some(placed);
                placed += 1;
            }
        }
        if placed == before {
            break;
        }
    }
    complain_of_circles(table, &written, &parents, &new_place);
    let mut placed: Vec<_> = written.into_iter().zip(&new_place).collect();
    placed.sort_by_key(|(_, place)| place.unwrap_or(usize::MAX));
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (mut one, place) in placed {
        one.bucket.parent = one.bucket.parent.and_then(|parent| new_place[parent]);
        if place.is_some() {
            good.push(one);
        } else {
            bad.push(one);
        }
    }
    (good, bad)
}

/// Once for each circle, at its first bucket.
fn complain_of_circles(
    table: &Table<'_>,
    written: &[Written],
    parents: &[Option<usize>],
    placed: &[Option<usize>],
) {
    let mut told = vec![false; written.len()];
    for start in (0..written.len()).filter(|i| placed[*i].is_none()) {
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
                .map(|i| format!("\"{}\"", written[*i].bucket.name))
                .collect();
            let below = names.join(" below ");
            let complaint = Complaint::new(format!("is below itself: {below} below {}", names[0]));
            table.problems().error(
                &written[start].parent,
                complaint.hint("one of them must be below \"root\""),
            );
            way.into_iter().for_each(|i| told[i] = true);
        }
    }
}

/// Complains of siblings that are assured more than there is; each stands behind its parent.
fn check_shares(table: &Table<'_>, written: &[Written], cluster: &Cluster) {
    let problems = table.problems();
    let capacity: usize = cluster.servers.iter().map(|server| server.capacity).sum();
    // In requests, if every server could be used: what each is assured, and what its children have
    // been assured so far.
    let mut have: Vec<f64> = Vec::new();
    let mut given = vec![(0.0, 0.0); written.len() + 1];
    for one in written {
        let Bucket { parent, share, .. } = &one.bucket;
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
        let of = parent.map_or(ROOT, |parent| &written[parent].bucket.name);
        // Said of the one that is too much, not of all that follow.
        if *parts > 1.0 + TOLERANCE && parts_before <= 1.0 + TOLERANCE {
            let sum = crate::base::units::format_percent(*parts);
            let complaint = Complaint::new(format!(
                "is too much: buckets below \"{of}\" are assured {sum} of it together"
            ));
            problems.error(&one.assured, complaint.hint("100% is all that there is"));
        } else if *parts <= 1.0 + TOLERANCE
            && *requests > whole + TOLERANCE
            && requests_before <= whole + TOLERANCE
            && capacity > 0
        {
            let complaint = Complaint::new(format!(
                "is too much: buckets below \"{of}\" are assured {requests:.0} requests at once \
                 together, and it {whole:.0}"
            ));
            problems.warning(
                &one.assured,
                complaint.hint(
                    "each gets less, in proportion; lower them, or raise what they are a part of",
                ),
            );
        }
        if let Share::Requests(ceiling) = share.ceiling
            && ceiling as usize > capacity
            && capacity > 0
        {
            let complaint = Complaint::new(format!(
                "is more than all servers take at once, which is {capacity}"
            ));
            problems.warning(
                &one.ceiling,
                complaint.hint("leave it out, or write percents"),
            );
        }
    }
}
