//! Which cluster a request goes to: host, then path. Pure.

/// The routing table of a plan.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// One route. Most specific wins: exact host before the longest `*.` host before any host; then the longest path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `example.org`, or `*.example.org` for every name below it (not itself); lower case, without port. `None` is any.
    pub host: Option<String>,
    /// Path prefix by segment: `/checkout` matches `/checkout` and `/checkout/...`, not `/checkouts`. `/` is any.
    pub path: String,
    /// Place of the cluster in the plan's list.
    pub cluster: usize,
}

impl RouteTable {
    /// A table of these routes; two of the same host and path must not be among them (the first one wins).
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }

    /// The route for this authority (`host`, `host:port`, `[v6]:port`, may be empty; any case of letters, a final dot
    /// does not count) and path (origin form, without query; `*` matches only routes for `/`). No allocation.
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<&Route> {
        let _ = (authority, path);
        todo!()
    }

    /// All routes, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}
