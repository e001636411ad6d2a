//! Where a request goes: what the listener answers itself, then the route, then the cluster's queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::balance::BucketId;
use crate::exchange::{Admission, Answer, Client, Destination, Exchange, Hold, Service};
use crate::fault::Fault;
use crate::filter::client_key::client_key;
use crate::http::{RequestHead, TargetForm};
use crate::plan::{ClientKey, ErrorPage, Plan};
use crate::proto::deadline::parse_deadline;
use crate::upstream::{Cluster, Clusters};

/// The way from a parsed head to a cluster.
#[derive(Debug)]
pub struct Pipeline {
    clusters: Arc<Clusters>,
    table: ArcSwap<Table>,
}

/// Which request goes where, of one plan. It is there as long as requests are that were admitted by it.
#[derive(Debug)]
pub struct Table {
    plan: Arc<Plan>,
    /// In the plan's order.
    entries: Vec<Entry>,
}

/// What is to be known of a cluster when a request is admitted to it.
#[derive(Debug)]
struct Entry {
    number: usize,
    root_patience: Duration,
    buckets: Vec<(BucketId, Duration)>,
    client_key: ClientKey,
    deadline_field: Option<String>,
    pipelines: bool,
}

impl Table {
    /// Of this plan, whose clusters have these numbers and run already.
    pub fn new(plan: Arc<Plan>, running: &[(usize, Arc<Cluster>)]) -> Self {
        let entry = |(cluster, (number, running)): (&Arc<crate::plan::Cluster>, &(usize, Arc<Cluster>))| {
            let ids = running.bucket_ids(cluster);
            let patience = cluster.buckets.iter().map(|bucket| bucket.queue_timeout);
            Entry {
                number: *number,
                root_patience: cluster.queue_timeout,
                buckets: ids.into_iter().zip(patience).collect(),
                client_key: cluster.client_key.clone(),
                deadline_field: cluster.deadline_field.clone(),
                pipelines: cluster.pipeline > 1,
            }
        };
        let entries = plan.clusters.iter().zip(running).map(entry).collect();
        Self { plan, entries }
    }

    fn destination(
        &self,
        authority: &[u8],
        path: &[u8],
        peer: Option<SocketAddr>,
        (buffer, head): (&[u8], &RequestHead),
    ) -> Option<Destination> {
        let route = self.plan.routes.find(authority, path)?;
        let entry = self.entries.get(route.cluster)?;
        let (bucket, patience) = route
            .bucket
            .and_then(|place| entry.buckets.get(place).copied())
            .unwrap_or_else(|| (BucketId::default(), entry.root_patience));
        let time = entry.deadline_field.as_deref().and_then(|name| {
            let mut fields = head.fields.iter();
            let field = fields.find(|field| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()))?;
            parse_deadline(field.value.of(buffer))
        });
        let key = client_key(&entry.client_key, peer.map(|peer| peer.ip()), buffer, head);
        Some(Destination {
            cluster: entry.number,
            bucket,
            patience,
            key,
            affinity: key,
            time,
            pipelines: entry.pipelines,
        })
    }
}

impl Pipeline {
    /// By this table, to these clusters.
    pub fn new(clusters: Arc<Clusters>, table: Table) -> Self {
        Self {
            clusters,
            table: ArcSwap::from_pointee(table),
        }
    }

    /// Goes by another table from now on. Answers the old one.
    pub fn set_table(&self, table: Table) -> Arc<Table> {
        self.table.swap(Arc::new(table))
    }
}

impl Service for Pipeline {
    fn admit(&self, client: &Client, buffer: &[u8], head: &RequestHead) -> Admission {
        let listener = client.listener();
        let path = head.path.of(buffer);
        if let Some(health_path) = &listener.health_path
            && path == health_path.as_bytes()
        {
            return Admission::Answer(Answer::health(client.hub().is_leaving()));
        }
        let authority = head.authority.of(buffer);
        if let Some(port) = listener.redirect_https {
            return Admission::Answer(redirect(authority, port, buffer, head));
        }
        // The asterisk of OPTIONS asks about the server as a whole.
        let path = if head.form == TargetForm::Asterisk { b"/" } else { path };
        let found = self
            .table
            .load()
            .destination(authority, path, client.peer(), (buffer, head));
        match found {
            Some(destination) => Admission::Cluster(destination),
            None => Admission::Answer(Answer::fault(Fault::NoRoute)),
        }
    }

    fn submit(&self, exchange: Exchange) {
        let number = exchange.destination.cluster;
        let mut held = Some(exchange);
        self.clusters.with(number, |cluster| {
            if let Some(exchange) = held.take() {
                cluster.offer(exchange);
            }
        });
        if let Some(mut exchange) = held {
            // Its cluster was removed a while ago. This cannot come to pass while a table leads there.
            exchange.fault = Some(Fault::Internal);
            let client = Arc::clone(&exchange.client);
            client.cut(true, exchange);
        }
    }

    fn cancel(&self, cluster: usize, id: u64) {
        self.clusters.with(cluster, |cluster| cluster.cancel(id));
    }

    fn error_page(&self, cluster: usize, status: u16) -> Option<ErrorPage> {
        let page = |cluster: &Arc<Cluster>| ErrorPage::find(&cluster.plan().error_pages, status).cloned();
        self.clusters.with(cluster, page).flatten()
    }

    fn hold(&self) -> Hold {
        self.table.load_full()
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
