//! Where a request goes: what the listener answers itself, then the route, then the cluster's
//! queue.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::balance::BucketId;
use crate::exchange::{Admission, Answer, Client, Destination, Exchange, Promise, Service};
use crate::fault::Fault;
use crate::filter::client_key::client_keys;
use crate::filter::who::who;
use crate::http::{RequestHead, TargetForm};
use crate::plan::{ClientKey, ErrorPage, Listener, Plan};
use crate::proto::deadline::parse_deadline;
use crate::route::Route;
use crate::route::path::{self, PathRoom};
use crate::upstream::{Cluster, Clusters, Controller};

/// The way from a parsed head to a cluster.
#[derive(Debug)]
pub struct Pipeline {
    clusters: Arc<Clusters>,
    /// A [`Table`].
    table: ArcSwap<Promise>,
}

/// Which request goes where, of one plan. It is there as long as requests are that were admitted by
/// it and not submitted yet.
#[derive(Debug)]
pub struct Table {
    plan: Arc<Plan>,
    /// In the plan's order.
    entries: Vec<Entry>,
    /// Routes, by host and path, of which a dropped `Upgrade` was told.
    told: Mutex<HashSet<(String, String)>>,
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
    pub fn new(plan: Arc<Plan>, running: &[(usize, Arc<Controller>)]) -> Self {
        let entry = |(cluster, (number, running)): (
            &Arc<crate::plan::Cluster>,
            &(usize, Arc<Controller>),
        )| {
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
        Self {
            plan,
            entries,
            told: Mutex::default(),
        }
    }

    fn destination(&self, asked: &Asked<'_>) -> Option<Destination> {
        let Asked { buffer, head, .. } = *asked;
        let route = self.plan.routes.find(asked.authority, asked.path)?;
        let entry = self.entries.get(route.cluster)?;
        let (bucket, patience) = route
            .bucket
            .and_then(|place| entry.buckets.get(place).copied())
            .unwrap_or_else(|| (BucketId::default(), entry.root_patience));
        let time = entry.deadline_field.as_deref().and_then(|name| {
            let value = head.values_named(name, buffer).next()?;
            parse_deadline(value)
        });
        let is_tunnel = head.upgrade(buffer).is_some_and(|protocol| {
            route.upgrade.allows(protocol) || self.drop_upgrade(route, protocol)
        });
        let who = || who(asked.listener, asked.peer, asked.trusted, buffer, head);
        let keys = client_keys(&entry.client_key, who, buffer, head);
        Some(Destination {
            cluster: entry.number,
            bucket,
            patience,
            key: keys.turns,
            affinity: keys.affinity,
            time,
            pipelines: entry.pipelines && !route.is_stream && !is_tunnel,
            is_stream: route.is_stream,
            is_tunnel,
        })
    }
}

impl Table {
    /// Tells once per route that a client's wish for another protocol is not passed on. Returns
    /// `false`.
    fn drop_upgrade(&self, route: &Route, protocol: &str) -> bool {
        let host = route.host.as_deref().unwrap_or("any host");
        let mut told = self.told.lock();
        if told.insert((host.to_owned(), route.path.clone())) {
            drop(told);
            log::warn!(
                "route {host}{}: a client asked to switch to {protocol:?}, which is not passed on \
                 (route.upgrade)",
                route.path
            );
        }
        false
    }
}

/// What a request asks for, of which host, and for which client.
struct Asked<'a> {
    listener: &'a Listener,
    peer: Option<IpAddr>,
    trusted: bool,
    authority: &'a [u8],
    /// The path as routes see it.
    path: &'a [u8],
    buffer: &'a [u8],
    head: &'a RequestHead,
}

impl Pipeline {
    /// By this table, to these clusters.
    pub fn new(clusters: Arc<Clusters>, table: Table) -> Self {
        Self {
            clusters,
            table: ArcSwap::from_pointee(Box::new(table) as Promise),
        }
    }

    /// Goes by another table from now on. Returns the old one.
    ///
    /// Requests that were admitted by it and are not submitted yet hold on to it. Nothing else
    /// does.
    pub fn set_table(&self, table: Table) -> Arc<Promise> {
        self.table.swap(Arc::new(Box::new(table)))
    }
}

impl Service for Pipeline {
    fn admit(&self, client: &Client, buffer: &[u8], head: &RequestHead) -> Admission {
        let listener = client.listener();
        let mut room = PathRoom::new();
        let seen = match head.form {
            // The asterisk of OPTIONS asks about the server as a whole.
            TargetForm::Asterisk => path::see(b"/", &mut room),
            _ => path::see(head.path.of(buffer), &mut room),
        };
        if let Some(health_path) = &listener.health_path
            && seen.path == health_path.as_bytes()
            && head.form != TargetForm::Asterisk
        {
            return Admission::Answer(Answer::health(client.hub().is_leaving()));
        }
        let authority = head.authority.of(buffer);
        if let Some(port) = listener.redirect_https {
            return Admission::Answer(redirect(authority, port, buffer, head));
        }
        if head.max_forwards == Some(0) {
            return Admission::Answer(Answer::last_hop(head.method));
        }
        let pass = self.table.load();
        let Some(table) = pass.downcast_ref::<Table>() else {
            return Admission::Answer(Answer::fault(Fault::Internal));
        };
        if seen.is_ambiguous && table.plan.routes.looks_at_paths() {
            return Admission::Answer(Answer::fault(Fault::BadRequest));
        }
        let asked = Asked {
            listener,
            peer: client.peer().map(|peer| peer.ip()),
            trusted: client.is_trusted(),
            authority,
            path: seen.path,
            buffer,
            head,
        };
        match table.destination(&asked) {
            Some(destination) => Admission::Cluster(destination, pass),
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
            // Its cluster was removed a while ago. This cannot come to pass while a table leads
            // there.
            exchange.fault = Some(Fault::Internal);
            exchange.cut();
        }
    }

    fn cancel(&self, cluster: usize, id: u64) {
        self.clusters.with(cluster, |cluster| cluster.cancel(id));
    }

    fn error_page(&self, cluster: usize, status: u16) -> Option<ErrorPage> {
        let page =
            |cluster: &Cluster| ErrorPage::find(&cluster.plan().error_pages, status).cloned();
        self.clusters.with(cluster, page).flatten()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// What a table led to: closed once no request can be on the way there.
    struct Goal(AtomicBool);

    #[test]
    fn nobody_is_on_the_way_by_a_table_that_is_gone() {
        const SESSIONS: usize = 4;
        const TABLES: usize = 300;
        let new = || Arc::new(Box::new(Arc::new(Goal(AtomicBool::new(false)))) as Promise);
        let goal = |promise: &Promise| Arc::clone(promise.downcast_ref::<Arc<Goal>>().unwrap());
        let table = ArcSwap::new(new());
        let (stop, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..SESSIONS {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let pass = table.load();
                        let goal = goal(&pass);
                        admitted.fetch_add(1, Ordering::SeqCst);
                        // Between admission and submission, for however long.
                        thread::yield_now();
                        assert!(!goal.0.load(Ordering::SeqCst), "it was closed meanwhile");
                        drop(pass);
                    }
                });
            }
            for _ in 0..TABLES {
                let before = admitted.load(Ordering::SeqCst);
                let old = table.swap(new());
                let (goal, known) = (goal(&old), Arc::downgrade(&old));
                drop(old);
                while known.strong_count() > 0 {
                    thread::yield_now();
                }
                goal.0.store(true, Ordering::SeqCst);
                while admitted.load(Ordering::SeqCst) < before + SESSIONS {
                    thread::yield_now();
                }
            }
            stop.store(true, Ordering::SeqCst);
        });
    }
}
