//! Where a request goes: what the listener answers itself, then the route, then the cluster's queue.

use std::sync::Arc;

use crate::exchange::{Admission, Answer, Client, Exchange, Service};
use crate::fault::Fault;
use crate::http::{RequestHead, TargetForm};
use crate::plan::Plan;
use crate::upstream::Cluster;

/// The way from a parsed head to a cluster.
#[derive(Debug)]
pub struct Pipeline {
    plan: Arc<Plan>,
    clusters: Vec<Arc<Cluster>>,
}

impl Pipeline {
    /// For this plan; its clusters in its order.
    pub fn new(plan: Arc<Plan>, clusters: Vec<Arc<Cluster>>) -> Self {
        Self { plan, clusters }
    }
}

impl Service for Pipeline {
    fn admit(&self, client: &Client, buffer: &[u8], head: &RequestHead) -> Admission {
        let listener = client.listener();
        let path = head.path.of(buffer);
        if let Some(health_path) = &listener.health_path
            && path == health_path.as_bytes()
        {
            return Admission::Answer(Answer::health(client.hub().is_draining()));
        }
        let authority = head.authority.of(buffer);
        if let Some(port) = listener.redirect_https {
            return Admission::Answer(redirect(authority, port, buffer, head));
        }
        // The asterisk of OPTIONS asks about the server as a whole.
        let path = if head.form == TargetForm::Asterisk { b"/" } else { path };
        match self.plan.routes.find(authority, path) {
            Some(route) => Admission::Cluster(route.cluster),
            None => Admission::Answer(Answer::fault(Fault::NoRoute)),
        }
    }

    fn submit(&self, exchange: Exchange) {
        let cluster = exchange.cluster.and_then(|cluster| self.clusters.get(cluster));
        if let Some(cluster) = cluster {
            cluster.offer(exchange);
        }
    }

    fn cancel(&self, cluster: usize, id: u64) {
        if let Some(cluster) = self.clusters.get(cluster) {
            cluster.cancel(id);
        }
    }
}

/// The same place over https. HTTP/1.0 may not say which host that would be.
fn redirect(authority: &[u8], port: u16, buffer: &[u8], head: &RequestHead) -> Answer {
    // A port is what follows the last colon, unless that colon is inside an IPv6 address.
    let host = match authority.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !authority[colon..].contains(&b']') => &authority[..colon],
        _ => authority,
    };
    if host.is_empty() {
        return Answer::fault(Fault::BadRequest);
    }
    let mut location = Vec::with_capacity(host.len() + 64);
    location.extend_from_slice(b"https://");
    location.extend_from_slice(host);
    if port != 443 {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    match head.path_and_query.of(buffer) {
        b"" | b"*" => location.push(b'/'),
        path => location.extend_from_slice(path),
    }
    Answer::redirect(location)
}
