//! What only shows when all parts of a plan are seen together.

use crate::plan::{BindAddress, ClientKey, Cluster, Listener, ServerAddress};
use crate::route::Route;

use super::objection::{BucketKey, ClusterKey, Objection, Severity, Subject};

/// The parts of a plan, as they were written.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// Where clients come in.
    pub listeners: &'a [Listener],
    /// The clusters. Their buckets stand in their own order.
    pub clusters: &'a [&'a Cluster],
    /// Which request goes where.
    pub routes: &'a [Route],
    /// For each cluster, where each of its buckets was written.
    pub written_buckets: &'a [Vec<usize>],
    /// Servers that are held offline are remembered over a restart.
    pub has_state: bool,
    /// Something is wrong already. Then a route may be left out, and says nothing of what it would
    /// lead to.
    pub is_wrong: bool,
}

/// Returns what is wrong with the parts together.
pub fn check_whole(whole: &Whole<'_>) -> Vec<Objection> {
    let mut objections = Vec::new();
    for i in 0..whole.clusters.len() {
        let is_wrong = |one: &Objection| one.severity == Severity::Error;
        if !whole.is_wrong && !objections.iter().any(is_wrong) {
            whole.check_use(i, &mut objections);
        }
        whole.check_addresses(i, &mut objections);
    }
    let mut listeners = whole.listeners.iter().peekable();
    if listeners.peek().is_some() && listeners.all(|listener| listener.redirect_https.is_some()) {
        let text = "every listener redirects to https: no request is ever handed on";
        objections.push(Objection::warning(Subject::Plan, text));
    }
    for (i, cluster) in whole.clusters.iter().enumerate() {
        if cluster.health.settings.sticky_offline && !whole.has_state {
            let subject = Subject::ClusterKey(i, ClusterKey::StickyOffline);
            let text = "is forgotten at a restart: there is no file for it";
            let hint = "say where it is kept: process.state";
            objections.push(Objection::warning(subject, text).hint(hint));
        }
    }
    objections
}

impl Whole<'_> {
    /// Routes lead to the cluster and its buckets, and its client key may be said.
    fn check_use(&self, i: usize, objections: &mut Vec<Objection>) {
        let cluster = self.clusters[i];
        if self.routes.iter().all(|route| route.cluster != i) {
            let text = format!("no route leads to cluster \"{}\"", cluster.name);
            objections.push(Objection::warning(Subject::Cluster(i), text));
            return;
        }
        for (place, bucket) in cluster.buckets.iter().enumerate() {
            let is_named = |route: &Route| route.cluster == i && route.bucket == Some(place);
            let mut others = cluster.buckets.iter();
            if !self.routes.iter().any(is_named) && !others.any(|one| one.parent == Some(place)) {
                let written = self.written_buckets[i][place];
                let subject = Subject::Bucket(i, written, BucketKey::Name);
                let text = format!("no route leads to bucket \"{}\"", bucket.name);
                let objection = Objection::warning(subject, text);
                objections.push(objection.hint("name it by `bucket` in a [[route]]"));
            }
        }
        self.check_client_key(i, objections);
    }

    /// Every listener leads to every cluster, but those that only redirect.
    fn check_client_key(&self, i: usize, objections: &mut Vec<Objection>) {
        let cluster = self.clusters[i];
        let is_said = matches!(
            cluster.client_key,
            ClientKey::Field(_) | ClientKey::Cookie(_)
        );
        // A server may be chosen by it, whichever client says it.
        let chooses = cluster.schedule.is_hashing();
        let mut leading = self
            .listeners
            .iter()
            .filter(|listener| listener.redirect_https.is_none());
        if is_said && !chooses && leading.all(|listener| listener.forwarded.trusted.is_empty()) {
            let subject = Subject::ClusterKey(i, ClusterKey::ClientKey);
            let text = "has no effect: no listener trusts anybody to say it, so the address counts";
            let hint = "list the proxies in front that set it: [listener.forwarded] trusted = \
                        [\"10.0.0.0/8\"]";
            objections.push(Objection::warning(subject, text).hint(hint));
        }
    }

    /// No server is a listener of the plan, and none is in two clusters.
    fn check_addresses(&self, i: usize, objections: &mut Vec<Objection>) {
        for (j, server) in self.clusters[i].servers.iter().enumerate() {
            let subject = Subject::ServerAddress(i, j);
            let own = self.listeners.iter().find(|listener| {
                let mut addresses = listener.bind.iter();
                addresses.any(|bind| reaches(bind, &server.address))
            });
            if let Some(own) = own {
                let text = format!(
                    "is our own listener \"{}\": requests would never arrive",
                    own.name
                );
                objections.push(Objection::error(subject, text));
            }
            let other = self.clusters[..i]
                .iter()
                .enumerate()
                .find_map(|(at, other)| {
                    let mut servers = other.servers.iter();
                    let place = servers.position(|other| other.address == server.address)?;
                    Some(Subject::ServerAddress(at, place))
                });
            if let Some(other) = other {
                let objection = Objection::warning(subject, "is also").with(other);
                objections.push(objection.hint("it gets the connections of both"));
            }
        }
    }
}

/// Returns whether a connection to `server` would end at a listener of the plan.
fn reaches(bind: &BindAddress, server: &ServerAddress) -> bool {
    match (bind, server) {
        (BindAddress::Tcp(bind), ServerAddress::Tcp(server)) => {
            let (ours, theirs) = (bind.ip(), server.ip());
            bind.port() == server.port()
                && (ours == theirs
                    || (ours.is_unspecified()
                        && theirs.is_loopback()
                        && ours.is_ipv4() == theirs.is_ipv4()))
        }
        (BindAddress::Unix { path: ours }, ServerAddress::Unix(theirs)) => ours == theirs,
        _ => false,
    }
}
