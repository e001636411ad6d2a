//! Which cluster a request goes to, by host, then path. Pure.

#[doc(hidden)]
pub mod check;
pub mod path;

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::io::Write as _;
use std::net::Ipv6Addr;

/// The longest host name that is looked up. The parser refuses longer ones, so that none can miss
/// its own route.
const LONGEST_HOST: usize = 255;

/// The length of an IPv6 address in eight groups whose last two are written as IPv4.
const LONGEST_ADDRESS: usize = 45;

/// The routing table of a plan.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// The routes, the most specific first.
    routes: Vec<Route>,
    /// Sites by whole name.
    exact: HashMap<Vec<u8>, Site>,
    /// Sites by the end of the name from a dot on, including the dot.
    below: HashMap<Vec<u8>, Site>,
    /// The most dots in a key of `below`.
    below_dots: usize,
    any: Site,
    /// At least one route is not for all paths.
    looks_at_paths: bool,
}

/// One route. The most specific route wins: an exact host before the longest `*.` host before any
/// host, and then the longest path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `example.org`, or `*.example.org` for every name below it (not itself), in lower case and
    /// without port. `None` is any host.
    pub host: Option<String>,
    /// A path prefix by segment: `/checkout` matches `/checkout` and `/checkout/...`, not
    /// `/checkouts`. `/` is any path. The path is spelt as [`path::see`] shows it and has at most
    /// [`path::RULE_MOST`] bytes.
    pub path: String,
    /// The cluster's index in the plan.
    pub cluster: usize,
    /// The bucket's index in the cluster; `None` is the root.
    pub bucket: Option<usize>,
    /// Responses are streams.
    pub is_stream: bool,
    /// Protocols that clients may switch to.
    pub upgrade: Upgrade,
}

/// Protocols that clients may switch to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// All but HTTP/2, which servers are not spoken to in.
    All,
    /// These, in lower case.
    Only(Vec<String>),
}

impl Default for Upgrade {
    fn default() -> Self {
        Self::Only(vec!["websocket".to_owned()])
    }
}

impl Upgrade {
    /// Returns whether a client may switch to this protocol.
    pub fn allows(&self, protocol: &str) -> bool {
        match self {
            Self::All => !protocol.eq_ignore_ascii_case("h2c"),
            Self::Only(names) => names.iter().any(|name| protocol.eq_ignore_ascii_case(name)),
        }
    }
}

impl RouteTable {
    /// Makes a table of these routes. No two of them may have the same host and path (the first one
    /// would win).
    pub fn new(mut routes: Vec<Route>) -> Self {
        for host in routes.iter_mut().filter_map(|route| route.host.as_mut()) {
            host.make_ascii_lowercase();
            host.truncate(without_final_dot(host.as_bytes()).len());
        }
        routes.sort_by(|one, other| specificity(one).cmp(&specificity(other)));
        routes.dedup_by(|later, earlier| later.host == earlier.host && later.path == earlier.path);
        let mut table = Self {
            looks_at_paths: routes.iter().any(|route| route.path != "/"),
            routes,
            ..Self::default()
        };
        for (index, route) in table.routes.iter().enumerate() {
            let site = match route.host.as_deref().map(str::as_bytes) {
                None => &mut table.any,
                Some([b'*', end @ ..]) => {
                    table.below_dots = table.below_dots.max(dots(end).count());
                    table.below.entry(end.to_vec()).or_default()
                }
                Some([b'[', address @ .., b']']) => {
                    table.exact.entry(address.to_vec()).or_default()
                }
                Some(name) => table.exact.entry(name.to_vec()).or_default(),
            };
            site.nodes.push(Node {
                route: index,
                parent: None,
            });
        }
        let sites = table.exact.values_mut().chain(table.below.values_mut());
        for site in sites.chain([&mut table.any]) {
            site.link(&table.routes);
        }
        table
    }

    /// Returns the route for this authority and path (as [`path::see`] shows it). Allocates
    /// nothing.
    ///
    /// The authority is `host`, `host:port` or `[v6]:port`, or empty. Case of letters and a final
    /// dot do not count, and all spellings of an IPv6 address are equal. Where a host has routes
    /// but none for the path, those of the wildcards above it are tried, then those of any host.
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<&Route> {
        let index = self
            .find_by_host(authority, path)
            .or_else(|| self.any.find(path, &self.routes))?;
        self.routes.get(index)
    }

    /// Returns whether the path matters to any route.
    pub fn looks_at_paths(&self) -> bool {
        self.looks_at_paths
    }

    /// Returns all routes, the most specific first: exact hosts, then wildcards from the longest
    /// on, then any host; within each the longest path first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    fn find_by_host(&self, authority: &[u8], path: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        let mut canonical = [0; LONGEST_ADDRESS];
        let host =
            canonical_address(authority, &mut canonical).unwrap_or_else(|| host_of(authority));
        let mut lower = [0; LONGEST_HOST];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let exact = self
            .exact
            .get(&*lower)
            .and_then(|site| site.find(path, &self.routes));
        exact.or_else(|| self.find_below(lower, path))
    }

    fn find_below(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        if self.below.is_empty() {
            return None;
        }
        // Only as many dots as the longest key has are looked up, however many a client sends.
        let superfluous = dots(host).count().saturating_sub(self.below_dots);
        dots(host)
            .skip(superfluous)
            // The star must stand for at least one byte.
            .filter(|dot| *dot > 0)
            .find_map(|dot| self.below.get(&host[dot..])?.find(path, &self.routes))
    }
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Site {
    /// The routes by path, in the order of [`by_segment`].
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The route's index in the table.
    route: usize,
    /// The index in `nodes` of the longest other path that matches this one's path.
    parent: Option<usize>,
}

impl Site {
    /// Sorts the nodes and finds their parents, which stand before them.
    fn link(&mut self, routes: &[Route]) {
        let path = |node: &Node| prefix(&routes[node.route]);
        self.nodes
            .sort_by(|one, other| by_segment(path(one), path(other)));
        for index in 1..self.nodes.len() {
            let mut parent = Some(index - 1);
            while let Some(candidate) = parent
                && !matches(path(&self.nodes[candidate]), path(&self.nodes[index]))
            {
                parent = self.nodes[candidate].parent;
            }
            self.nodes[index].parent = parent;
        }
    }

    /// Returns the route with the longest path that matches.
    ///
    /// In this order, all paths that a prefix matches stand directly behind it. So the prefix is
    /// the last one before `path`, or one of that prefix's parents.
    fn find(&self, path: &[u8], routes: &[Route]) -> Option<usize> {
        let behind = self
            .nodes
            .partition_point(|node| by_segment(prefix(&routes[node.route]), path).is_le());
        let mut place = behind.checked_sub(1);
        while let Some(node) = place.and_then(|place| self.nodes.get(place)) {
            if matches(prefix(&routes[node.route]), path) {
                return Some(node.route);
            }
            place = node.parent;
        }
        None
    }
}

/// Sorts the most specific first.
fn specificity(route: &Route) -> impl Ord {
    let (class, host) = match route.host.as_deref() {
        Some(host) if !host.starts_with('*') => (0, host),
        Some(host) => (1, host),
        None => (2, ""),
    };
    let wildcard = if class == 1 { host.len() } else { 0 };
    (
        class,
        Reverse(wildcard),
        host,
        Reverse(route.path.len()),
        route.path.as_str(),
    )
}

/// Returns the path to match, which is empty for a route for any path.
fn prefix(route: &Route) -> &[u8] {
    match route.path.as_bytes() {
        b"/" => b"",
        path => path,
    }
}

/// Returns whether a path begins with a prefix, by segment.
fn matches(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| {
        let whole_segment = matches!(prefix, [] | [.., b'/']);
        whole_segment || matches!(rest, [] | [b'/', ..])
    })
}

/// Compares paths so that the paths under a path directly follow it: the slash comes before all
/// other bytes.
fn by_segment(one: &[u8], other: &[u8]) -> Ordering {
    let common = one.iter().zip(other).position(|(one, other)| one != other);
    match common {
        None => one.len().cmp(&other.len()),
        Some(place) => match (one[place], other[place]) {
            (b'/', _) => Ordering::Less,
            (_, b'/') => Ordering::Greater,
            (one, other) => one.cmp(&other),
        },
    }
}

/// Returns the IPv6 address of an authority as routes spell it, or `None` for any other authority.
fn canonical_address<'a>(
    authority: &[u8],
    room: &'a mut [u8; LONGEST_ADDRESS],
) -> Option<&'a [u8]> {
    if authority.first() != Some(&b'[') {
        return None;
    }
    let address: Ipv6Addr = str::from_utf8(host_of(authority)).ok()?.parse().ok()?;
    let mut free = &mut room[..];
    write!(free, "{address}").ok()?;
    let left = free.len();
    room.get(..LONGEST_ADDRESS - left)
}

/// Returns the host of an authority, without brackets, port and final dot.
fn host_of(authority: &[u8]) -> &[u8] {
    if let Some(rest) = authority.strip_prefix(b"[") {
        let end = rest
            .iter()
            .position(|byte| *byte == b']')
            .unwrap_or(rest.len());
        return &rest[..end];
    }
    let end = authority
        .iter()
        .position(|byte| *byte == b':')
        .unwrap_or(authority.len());
    without_final_dot(&authority[..end])
}

fn without_final_dot(host: &[u8]) -> &[u8] {
    host.strip_suffix(b".").unwrap_or(host)
}

fn dots(host: &[u8]) -> impl Iterator<Item = usize> {
    host.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'.')
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(host: &str, path: &str, cluster: usize) -> Route {
        Route {
            host: (!host.is_empty()).then(|| host.to_owned()),
            path: path.to_owned(),
            cluster,
            bucket: None,
            is_stream: false,
            upgrade: Upgrade::default(),
        }
    }

    fn table(routes: &[(&str, &str)]) -> RouteTable {
        RouteTable::new(
            routes
                .iter()
                .enumerate()
                .map(|(cluster, (host, path))| route(host, path, cluster))
                .collect(),
        )
    }

    fn find(table: &RouteTable, authority: &str, path: &str) -> Option<usize> {
        table
            .find(authority.as_bytes(), path.as_bytes())
            .map(|route| route.cluster)
    }

    #[test]
    fn an_empty_table_leads_nowhere() {
        assert_eq!(find(&RouteTable::default(), "a", "/"), None);
        assert_eq!(find(&table(&[]), "", "*"), None);
    }

    #[test]
    fn the_most_specific_host_wins() {
        let table = table(&[
            ("", "/"),
            ("*.org", "/"),
            ("*.b.org", "/"),
            ("a.b.org", "/"),
            ("*.c.a.b.org", "/"),
        ]);
        let hosts = [
            ("a.b.org", 3),
            ("x.b.org", 2),
            ("x.a.b.org", 2),
            ("b.org", 1),
            ("org", 0),
            ("", 0),
            ("a.b.com", 0),
        ];
        for (host, cluster) in hosts {
            assert_eq!(find(&table, host, "/"), Some(cluster), "{host}");
        }
        assert_eq!(find(&table, ".b.org", "/"), Some(1));
        assert_eq!(
            find(&table, &format!("{}b.org", "x.".repeat(100)), "/"),
            Some(2)
        );
        assert_eq!(
            find(&table, &format!("{}b.org", "x.".repeat(200)), "/"),
            Some(0)
        );
    }

    #[test]
    fn an_authority_is_more_than_a_name() {
        let table = table(&[
            ("Example.ORG.", "/"),
            ("[2001:DB8::1]", "/"),
            ("*.Example.org", "/"),
        ]);
        for authority in [
            "example.org",
            "EXAMPLE.org:80",
            "example.org.",
            "example.org.:8080",
            "example.org:",
        ] {
            assert_eq!(find(&table, authority, "/"), Some(0), "{authority}");
        }
        for authority in [
            "[2001:db8::1]",
            "[2001:DB8::1]:443",
            "[2001:0db8:0:0::0.0.0.1]",
        ] {
            assert_eq!(find(&table, authority, "/"), Some(1), "{authority}");
        }
        assert_eq!(find(&table, "WWW.example.org.:1", "/"), Some(2));
        for authority in [
            "example.org..",
            "[2001:db8::2]",
            "[",
            "2001:db8::1",
            ":",
            ".",
        ] {
            assert_eq!(find(&table, authority, "/"), None, "{authority}");
        }
    }

    #[test]
    fn the_longest_path_wins_by_segment() {
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/a/b!", "/ab", "/a/x/y", "/d/"];
        let table = table(&paths.map(|path| ("", path)));
        for (path, route) in [
            ("/", "/"),
            ("*", "/"),
            ("", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("/a/b/c/d", "/a/b/c"),
            ("/a/b/d", "/a/b"),
            ("/a/b!", "/a/b!"),
            ("/a/bc", "/a"),
            ("/abc", "/"),
            ("/ab/c", "/ab"),
            ("/a/x", "/a"),
            ("/a/z", "/a"),
            ("/A", "/"),
            ("/d", "/"),
            ("/d/", "/d/"),
            ("/d/e", "/d/"),
        ] {
            assert_eq!(
                find(&table, "any", path).map(|cluster| paths[cluster]),
                Some(route),
                "{path}"
            );
        }
    }

    #[test]
    fn a_host_without_a_fitting_path_falls_back() {
        let table = table(&[
            ("a.org", "/x"),
            ("*.org", "/y"),
            ("*.org", "/x"),
            ("", "/z"),
            ("", "/y"),
        ]);
        for (path, cluster) in [
            ("/x", Some(0)),
            ("/y", Some(1)),
            ("/z", Some(3)),
            ("/w", None),
            ("*", None),
        ] {
            assert_eq!(find(&table, "a.org", path), cluster, "{path}");
        }
    }

    #[test]
    fn the_list_begins_with_the_most_specific() {
        let table = table(&[
            ("", "/"),
            ("", "/a"),
            ("*.b.org", "/"),
            ("a.org", "/"),
            ("*.a.b.org", "/"),
            ("A.org", "/a"),
        ]);
        assert_eq!(
            table.iter().map(|route| route.cluster).collect::<Vec<_>>(),
            [5, 3, 4, 2, 1, 0]
        );
    }

    #[test]
    fn of_two_equal_routes_the_first_wins() {
        let table = table(&[("a", "/"), ("A.", "/"), ("", "/b"), ("", "/b")]);
        assert_eq!(table.iter().count(), 2);
        assert_eq!(
            (find(&table, "a", "/"), find(&table, "b", "/b")),
            (Some(0), Some(2))
        );
    }

    #[test]
    fn thousands_of_routes_are_no_trouble() {
        let routes = (0..4000).map(|number| {
            let host = format!("h{}.example.org", number % 50);
            route(&host, &format!("/p{}/{number}", number % 7), number)
        });
        let table = RouteTable::new(routes.collect());
        for number in 0..4000 {
            let authority = format!("H{}.example.org:80", number % 50);
            assert_eq!(
                find(&table, &authority, &format!("/p{}/{number}/x", number % 7)),
                Some(number)
            );
        }
    }

    /// The rule as documented: of all routes that match, the most specific.
    fn naive<'a>(routes: &'a [Route], host: &str, path: &str) -> Option<&'a Route> {
        let host_rank = |route: &Route| match &route.host {
            None => Some((0, 0)),
            Some(name) => match name.strip_prefix('*') {
                Some(end) => {
                    (host.len() > end.len() && host.ends_with(end)).then_some((1, end.len()))
                }
                None => (name == host).then_some((2, 0)),
            },
        };
        let path_rank = |route: &Route| {
            let fits = route.path == "/"
                || route.path == path
                || path.starts_with(&format!("{}/", route.path));
            fits.then_some(route.path.len())
        };
        let mut best = None;
        for route in routes {
            if let (Some(host), Some(path)) = (host_rank(route), path_rank(route))
                && best.is_none_or(|(rank, _)| (host, path) > rank)
            {
                best = Some(((host, path), route));
            }
        }
        best.map(|(_, route)| route)
    }

    fn host() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(&["a", "b", "org"]), 1..4)
            .prop_map(|labels| labels.join("."))
    }

    fn path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(&["", "a", "b", "ab", "a!", "a-b"]);
        prop::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let host = prop_oneof![
            Just(None),
            host().prop_map(Some),
            host().prop_map(|host| Some(format!("*.{host}")))
        ];
        let path = prop_oneof![
            Just("/".to_owned()),
            path().prop_map(|path| format!("/{}", path.trim_matches('/')))
        ];
        (host, path, 0..100usize).prop_map(|(host, path, cluster)| Route {
            host,
            path,
            cluster,
            bucket: None,
            is_stream: false,
            upgrade: Upgrade::default(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn agrees_with_the_documentation(
            routes in prop::collection::vec(any_route(), 0..12),
            host in host(),
            path in prop_oneof![path(), Just("*".to_owned())],
            spelling in 0..4,
        ) {
            let table = RouteTable::new(routes.clone());
            let authority = match spelling {
                0 => host.clone(),
                1 => host.to_uppercase(),
                2 => format!("{host}:80"),
                _ => format!("{host}.:80"),
            };
            let found = table.find(authority.as_bytes(), path.as_bytes());
            prop_assert_eq!(found, naive(&routes, &host, &path));
        }

        #[test]
        fn no_input_does_harm(
            authority in prop::collection::vec(any::<u8>(), 0..20),
            path in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let table = table(&[("a", "/"), ("*.a", "/b"), ("[::1]", "/")]);
            let _ = table.find(&authority, &path);
        }
    }
}
