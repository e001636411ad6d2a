//! From a file and flags to a [`Plan`], or to everything that is wrong with them.
//!
//! The text becomes a tree that knows where each value stands (a derive would stop at the first
//! mistake); the tree is walked by the table of keys in `keys`, and what is found is checked
//! against the rest and against the files that it names. No network is needed, and no port.

mod buckets;
mod cluster;
mod flags;
mod form;
mod health;
mod idle;
mod keys;
mod listener;
mod pages;
mod problem;
mod process;
mod reader;
pub mod reference;
mod routes;
mod scheduler;
mod tls;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use flags::Overrides;
pub use problem::{Problem, Severity};

use crate::balance::Schedule;
use crate::plan::{ClientKey, Listener, Plan, Process};
use crate::route::{Route, RouteTable};
use cluster::ReadCluster;
use problem::{Complaint, Place, Problems};
use reader::Table;

/// A plan with what is suspicious about it, or all that is wrong, in the order of the file.
pub type Outcome = Result<(Plan, Vec<Problem>), Vec<Problem>>;

/// Reads a file; flags go before it.
pub fn load(file: &Path, overrides: &Overrides) -> Outcome {
    match std::fs::read_to_string(file) {
        Ok(text) => compile(Some(file), &text, overrides),
        Err(error) => Err(vec![Problem {
            severity: Severity::Error,
            file: Some(file.to_owned()),
            position: None,
            key: String::new(),
            message: format!("cannot be read: {error}"),
            hint: None,
        }]),
    }
}

/// Takes everything from flags; no file is read.
pub fn from_flags(overrides: &Overrides) -> Outcome {
    compile(None, "", overrides)
}

/// Checks a text (of a file, if it is from one) together with flags, and makes the plan.
pub fn compile(file: Option<&Path>, text: &str, overrides: &Overrides) -> Outcome {
    let problems = Problems::new(file, text).of_reload(overrides.is_reload);
    let Some(tree) = parse(text, &problems) else {
        return Err(problems.into_sorted());
    };
    // What flags say takes the same way as the file: written as a text, and read.
    let flag_text = overrides.as_toml();
    let flag_problems = Problems::new(None, &flag_text).of_reload(overrides.is_reload);
    let flag_tree = parse(&flag_text, &flag_problems);

    let plan = {
        let root = Table::root(Some(tree.get_ref()), &problems);
        let flag_root = Table::root(
            flag_tree.as_ref().map(toml::Spanned::get_ref),
            &flag_problems,
        );
        build(&root, &flag_root, overrides)
    };
    let fatal = problems.fatal() || flag_problems.fatal();
    let mut found = problems.into_sorted();
    found.extend(
        flag_problems
            .into_sorted()
            .into_iter()
            .map(|problem| overrides.name_the_flag(problem)),
    );
    if fatal { Err(found) } else { Ok((plan, found)) }
}

/// The tree of a text; `None` if nothing in it can be relied on.
fn parse<'a>(text: &'a str, problems: &Problems<'_>) -> Option<toml::Spanned<DeTable<'a>>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = Place {
            span: Some(error.span().unwrap_or_default()),
            path: String::new(),
        };
        problems.error(&place, Complaint::new(error.message()));
    }
    // After a duplicate key the rest is still what was meant; after a missing quote it is anything.
    errors
        .iter()
        .all(|error| error.message().starts_with("duplicate key"))
        .then_some(tree)
}

fn build<'a>(root: &Table<'a>, flags: &Table<'a>, overrides: &Overrides) -> Plan {
    let process = process::read(root, flags);
    let listeners = listener::read_all(
        if overrides.replace_listeners() {
            flags
        } else {
            root
        },
        process.buffers.size,
    );

    let target = if overrides.servers.is_empty() {
        root
    } else {
        flags
    };
    // The flag is for all servers of the file.
    let capacity = flags
        .tables("cluster")
        .iter()
        .find_map(|table| table.count_if_any("capacity"));
    let capacity = capacity.map(|spot| process::saturate(spot.value));
    let clusters = cluster::read_all(target, process.max_sessions, capacity);
    let routes = routes::read_all(target, &clusters);
    check_together(target, &listeners, &clusters, &routes);
    check_state(target, &process, &clusters);
    let known: Vec<_> = clusters.iter().map(|read| &read.cluster).collect();
    idle::of_process(
        root,
        &process,
        if overrides.servers.is_empty() {
            &known
        } else {
            &[]
        },
    );

    Plan {
        process,
        listeners: listeners.into_iter().map(Arc::new).collect(),
        routes: RouteTable::new(routes),
        clusters: clusters
            .into_iter()
            .map(|read| Arc::new(read.cluster))
            .collect(),
    }
}

/// Complains of what only shows when all parts are seen together.
fn check_together(
    table: &Table<'_>,
    listeners: &[Listener],
    clusters: &[ReadCluster],
    routes: &[Route],
) {
    let problems = table.problems();
    for (i, read) in clusters.iter().enumerate() {
        // A route that is wrong says nothing of what it would lead to.
        if problems.fatal() {
        } else if routes.iter().all(|route| route.cluster != i) {
            let complaint = Complaint::new(format!(
                "no route leads to cluster \"{}\"",
                read.cluster.name
            ));
            problems.warning(&read.place, complaint);
        } else {
            check_buckets(table, i, read, routes);
            check_client_key(table, read, listeners);
        }
        for address in &read.addresses {
            let own = listeners.iter().find(|listener| {
                listener
                    .bind
                    .iter()
                    .any(|bind| listener::reaches(bind, &address.value))
            });
            if let Some(own) = own {
                let complaint = Complaint::new(format!(
                    "is our own listener \"{}\": requests would never arrive",
                    own.name
                ));
                problems.error(&address.place, complaint);
            }
            let elsewhere = clusters[..i].iter().flat_map(|other| &other.addresses);
            if let Some(other) = elsewhere.clone().find(|other| other.value == address.value) {
                let complaint = Complaint::new(format!("is also {}", problems.as_in(&other.place)));
                problems.warning(
                    &address.place,
                    complaint.hint("it gets the connections of both"),
                );
            }
        }
    }
    if !listeners.is_empty()
        && listeners
            .iter()
            .all(|listener| listener.redirect_https.is_some())
    {
        let complaint =
            Complaint::new("every listener redirects to https: no request is ever handed on");
        problems.warning(table.place(), complaint);
    }
}

/// Warns of a client key that nobody may say. (Every listener leads to every cluster, but those
/// that only redirect.)
fn check_client_key(table: &Table<'_>, read: &ReadCluster, listeners: &[Listener]) {
    let cluster = &read.cluster;
    let is_said = matches!(
        cluster.client_key,
        ClientKey::Field(_) | ClientKey::Cookie(_)
    );
    // A server it chooses whoever says it.
    let chooses = matches!(
        cluster.schedule,
        Schedule::Rendezvous { .. } | Schedule::Jump { .. }
    );
    let mut leading = listeners
        .iter()
        .filter(|listener| listener.redirect_https.is_none());
    if is_said && !chooses && leading.all(|listener| listener.forwarded.trusted.is_empty()) {
        let complaint = Complaint::new(
            "has no effect: no listener trusts anybody to say it, so the address counts",
        );
        let hint = "list the proxies in front that set it: [listener.forwarded] trusted = \
                    [\"10.0.0.0/8\"]";
        table
            .problems()
            .warning(&read.client_key, complaint.hint(hint));
    }
}

/// Warns of buckets that no request is ever in.
fn check_buckets(table: &Table<'_>, cluster: usize, read: &ReadCluster, routes: &[Route]) {
    let buckets = &read.cluster.buckets;
    for (i, (bucket, place)) in buckets.iter().zip(&read.buckets).enumerate() {
        let used = routes
            .iter()
            .any(|route| route.cluster == cluster && route.bucket == Some(i));
        let divided = buckets.iter().any(|other| other.parent == Some(i));
        if !used && !divided {
            let complaint = Complaint::new(format!("no route leads to bucket \"{}\"", bucket.name));
            table
                .problems()
                .warning(place, complaint.hint("name it by `bucket` in a [[route]]"));
        }
    }
}

/// Warns of what would be forgotten.
fn check_state(table: &Table<'_>, process: &Process, clusters: &[ReadCluster]) {
    let sticky = clusters
        .iter()
        .filter_map(|read| read.sticky_offline.as_ref());
    for place in sticky.filter(|_| process.state.is_none()) {
        let complaint = Complaint::new("is forgotten at a restart: there is no file for it");
        table
            .problems()
            .warning(place, complaint.hint("say where it is kept: process.state"));
    }
}
