//! What is wrong with one cluster, its settings seen together.

use crate::balance::{Admin, Role};
use crate::plan::{Binding, ClientKey, Cluster, ServerAddress};

use super::objection::{ClusterKey, Objection, Subject};

/// Returns what is wrong with the cluster at place `i` of the plan's.
pub fn check_cluster(i: usize, cluster: &Cluster) -> Vec<Objection> {
    let about = |key| Subject::ClusterKey(i, key);
    let mut objections = Vec::new();
    let is_enabled = |admin: Admin| admin == Admin::Enabled;
    let mut enabled = cluster
        .servers
        .iter()
        .filter(|server| is_enabled(server.admin))
        .peekable();
    if cluster.servers.is_empty() {
        // That is said where servers are read.
    } else if enabled.peek().is_none() {
        let text = "none of its servers is enabled";
        let hint = "nobody serves its requests until one is";
        objections.push(Objection::warning(about(ClusterKey::Servers), text).hint(hint));
    } else if enabled.all(|server| server.role != Role::Active) {
        let text = "none of its servers that are enabled is active";
        let hint = "without one, all requests go to those on standby, else to backups";
        objections.push(Objection::warning(about(ClusterKey::Servers), text).hint(hint));
    }
    if cluster.health.port.is_some() {
        for (at, server) in cluster.servers.iter().enumerate() {
            if matches!(server.address, ServerAddress::Unix(_)) {
                let text = "is a Unix socket, which has no other port to probe";
                let hint = "leave out health.port, or give this server a cluster of its own";
                let subject = Subject::ServerAddress(i, at);
                objections.push(Objection::error(subject, text).hint(hint));
            }
        }
    }
    if cluster.client_key == ClientKey::None && cluster.schedule.is_hashing() {
        let text = "is nobody's, and the scheduler goes by whose a request is";
        let hint = "write \"address\", \"field:NAME\" or \"cookie:NAME\"";
        objections.push(Objection::warning(about(ClusterKey::ClientKey), text).hint(hint));
    }
    if cluster.binding == Binding::Early && !cluster.buckets.is_empty() {
        let text = "leaves the buckets without guarantees: what becomes free at one server does \
                    not help who waits for another";
        let hint = "what is assured holds with binding = \"late\" alone";
        objections.push(Objection::warning(about(ClusterKey::Binding), text).hint(hint));
    }
    objections
}
