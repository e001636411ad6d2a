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

use crate::plan::check::{BucketKey, ClusterKey, Subject, Whole, check_whole};
use crate::plan::{Listener, Plan};
use crate::route::{Route, RouteTable};
use cluster::ReadCluster;
use problem::{Complaint, Location, Problems};
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
        let place = Location {
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
    let has_state = process.state.is_some();
    check_together(target, &listeners, &clusters, &routes, has_state);
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

/// Tells what only shows when all parts are seen together.
fn check_together(
    table: &Table<'_>,
    listeners: &[Listener],
    clusters: &[ReadCluster],
    routes: &[Route],
    has_state: bool,
) {
    let problems = table.problems();
    let known: Vec<_> = clusters.iter().map(|read| &read.cluster).collect();
    let written_buckets: Vec<_> = clusters
        .iter()
        .map(|read| read.written_buckets.clone())
        .collect();
    let objections = check_whole(&Whole {
        listeners,
        clusters: &known,
        routes,
        written_buckets: &written_buckets,
        has_state,
        is_wrong: problems.fatal(),
    });
    for objection in objections {
        problems.object(objection, |subject| place_of(table, clusters, subject));
    }
}

/// Where this subject stands in the file, as far as whole clusters know.
fn place_of(table: &Table<'_>, clusters: &[ReadCluster], subject: Subject) -> Option<Location> {
    let place = match subject {
        Subject::Plan => table.place(),
        Subject::Cluster(i) => &clusters.get(i)?.place,
        Subject::ClusterKey(i, ClusterKey::ClientKey) => &clusters.get(i)?.client_key,
        Subject::ClusterKey(i, ClusterKey::StickyOffline) => {
            clusters.get(i)?.sticky_offline.as_ref()?
        }
        Subject::ServerAddress(i, at) => &clusters.get(i)?.addresses.get(at)?.place,
        Subject::Bucket(i, at, BucketKey::Name) => clusters.get(i)?.buckets.get(at)?,
        _ => return None,
    };
    Some(place.clone())
}
