//! `[[route]]`.

use std::collections::HashMap;

use super::problem::{Complaint, Place, nearest};
use super::reader::Table;
use super::value::{parse_host, parse_path};
use crate::route::Route;

/// Reads all routes to clusters of these names; without any, everything goes to the only cluster.
pub(super) fn read_all(root: &Table<'_>, clusters: &[String]) -> Vec<Route> {
    if !root.has("route") {
        if clusters.len() > 1 && !root.meant("route") {
            let complaint = Complaint::new("there is no route, and more than one cluster");
            root.problems()
                .error(root.place(), complaint.hint("say which request goes where: [[route]]"));
        }
        return vec![Route {
            host: None,
            path: "/".to_owned(),
            cluster: 0,
            bucket: None,
        }];
    }
    let tables = root.tables("route");
    let mut routes = Vec::new();
    let mut seen: HashMap<(Option<String>, String), Place> = HashMap::new();
    for table in &tables {
        let problems = table.problems();
        let cluster = cluster(table, clusters);
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
        let named = table.has("host");
        let hosts = table.texts("host", parse_host);
        let mut hosts: Vec<_> = hosts.into_iter().map(|spot| (Some(spot.value), spot.place)).collect();
        if !named {
            hosts.push((None, table.place().clone()));
        }
        for (host, place) in hosts {
            match seen.get(&(host.clone(), path.clone())) {
                Some(first) => {
                    let first = problems.as_in(first);
                    let complaint = Complaint::new(format!("is never reached: same host and path as {first}"));
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
                    bucket: None,
                });
            }
        }
    }
    routes
}

/// The place in the list of the cluster that a route names.
fn cluster(table: &Table<'_>, clusters: &[String]) -> Option<usize> {
    let name = table.text("cluster")?;
    let found = clusters.iter().position(|cluster| *cluster == name.value);
    if found.is_none() {
        let complaint = Complaint::new(format!("there is no cluster \"{}\"", name.value));
        let hint = nearest(&name.value, clusters.iter().map(String::as_str)).map_or_else(
            || format!("there is: {}", clusters.join(", ")),
            |near| format!("did you mean \"{near}\"?"),
        );
        table.problems().error(&name.place, complaint.hint(hint));
    }
    found
}
