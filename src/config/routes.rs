//! `[[route]]`.

use std::collections::HashMap;

use toml::de::DeValue;

use super::buckets::MAIN;
use super::cluster::ReadCluster;
use super::problem::{Complaint, Location};
use super::reader::{Table, expected, text_of};
use super::value::{parse_host, parse_path};
use crate::base::text::nearest;
use crate::plan::check::{ROOT, unknown_hint};
use crate::proto::h1::is_token;
use crate::route::{Route, Upgrade};

/// Reads all routes to these clusters; without any, everything goes to the only one.
pub(super) fn read_all(root: &Table<'_>, clusters: &[ReadCluster]) -> Vec<Route> {
    if !root.has("route") {
        if clusters.len() > 1 && !root.meant("route") {
            let complaint = Complaint::new("there is no route, and more than one cluster");
            root.problems().error(
                root.place(),
                complaint.hint("say which request goes where: [[route]]"),
            );
        }
        return vec![Route {
            host: None,
            path: "/".to_owned(),
            cluster: 0,
            bucket: clusters.first().and_then(|cluster| named(cluster, MAIN)),
            is_stream: false,
            upgrade: Upgrade::default(),
        }];
    }
    let tables = root.tables("route");
    let mut routes = Vec::new();
    let mut seen: HashMap<(Option<String>, String), Location> = HashMap::new();
    for table in &tables {
        let problems = table.problems();
        let cluster = cluster(table, clusters);
        let bucket = bucket(table, cluster.and_then(|cluster| clusters.get(cluster)));
        let path = table.text("path").map_or_else(
            || "/".to_owned(),
            |text| {
                parse_path(&text.value).unwrap_or_else(|complaint| {
                    problems.error(&text.place, complaint);
                    // Unlike any path, so that it is no duplicate too.
                    text.value
                })
            },
        );
        let is_stream = table.flag("stream");
        let upgrade = upgrade(table);
        let named = table.has("host");
        let hosts = table.texts("host", parse_host);
        let mut hosts: Vec<_> = hosts
            .into_iter()
            .map(|spot| (Some(spot.value), spot.place))
            .collect();
        if !named {
            hosts.push((None, table.place().clone()));
        }
        for (host, place) in hosts {
            match seen.get(&(host.clone(), path.clone())) {
                Some(first) => {
                    let first = problems.as_in(first);
                    let complaint =
                        Complaint::new(format!("is never reached: same host and path as {first}"));
                    problems.error(&place, complaint);
                }
                None => {
                    seen.insert((host.clone(), path.clone()), place);
                }
            }
            if let Some(cluster) = cluster {
                routes.push(Route {
                    host,
                    path: path.clone(),
                    cluster,
                    bucket,
                    is_stream,
                    upgrade: upgrade.clone(),
                });
            }
        }
    }
    routes
}

/// Reads which protocols clients may switch to.
fn upgrade(table: &Table<'_>) -> Upgrade {
    let read = table.read("upgrade", |_, value| match value {
        DeValue::Boolean(true) => Ok(Upgrade::All),
        DeValue::Boolean(false) => Ok(Upgrade::Only(Vec::new())),
        DeValue::Array(names) => {
            let names = names.iter().map(|name| protocol(text_of(name.get_ref())?));
            names.collect::<Result<_, _>>().map(Upgrade::Only)
        }
        _ => Err(expected("true, false or a list of names", value)),
    });
    read.map(|spot| spot.value).unwrap_or_default()
}

fn protocol(name: &str) -> Result<String, Complaint> {
    let name = name.to_ascii_lowercase();
    if name == "h2c" {
        let complaint = Complaint::new("servers are not spoken to in HTTP/2");
        return Err(complaint.hint("leave \"h2c\" out"));
    }
    if !is_token(name.as_bytes()) {
        return Err(Complaint::new(format!(
            "\"{name}\" is no name of a protocol"
        )));
    }
    Ok(name)
}

/// The place in the list of the cluster that a route names.
fn cluster(table: &Table<'_>, clusters: &[ReadCluster]) -> Option<usize> {
    let name = table.text("cluster")?;
    let names = || clusters.iter().map(|read| read.cluster.name.as_str());
    let found = names().position(|cluster| cluster == name.value);
    if found.is_none() {
        let complaint = Complaint::new(format!("there is no cluster \"{}\"", name.value));
        let hint = nearest(&name.value, names()).map_or_else(
            || format!("there is: {}", names().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean \"{near}\"?"),
        );
        table.problems().error(&name.place, complaint.hint(hint));
    }
    found
}

/// The place in its cluster's list of the bucket that a route names, or that is for those that name
/// none.
fn bucket(table: &Table<'_>, cluster: Option<&ReadCluster>) -> Option<usize> {
    let name = table.text("bucket");
    let cluster = cluster?;
    let Some(name) = name else {
        return named(cluster, MAIN);
    };
    let found = named(cluster, &name.value);
    if found.is_none() && name.value != ROOT {
        let of = &cluster.cluster.name;
        let complaint =
            Complaint::new(format!("cluster \"{of}\" has no bucket \"{}\"", name.value));
        let names = cluster
            .cluster
            .buckets
            .iter()
            .map(|bucket| bucket.name.as_str());
        table.problems().error(
            &name.place,
            complaint.hint(unknown_hint(&name.value, names)),
        );
    }
    found
}

fn named(cluster: &ReadCluster, name: &str) -> Option<usize> {
    cluster
        .cluster
        .buckets
        .iter()
        .position(|bucket| bucket.name == name)
}
