//! `[[cluster]]` and its servers.

use super::listener::{Names, unique_name};
use super::problem::{Complaint, Location, Spot};
use super::process::saturate;
use super::reader::Table;
use super::value::parse_server;
use super::{buckets, health, idle, pages, scheduler};
use crate::balance::{Admin, Lending, Role, Schedule};
use crate::plan::check::{ClusterKey, Firsts, Subject, check_cluster};
use crate::plan::{
    Binding, Cluster, ClusterTimeout, Connect, On5xx, OnClientAbort, OnUnavailable, Server,
    ServerAddress,
};

/// A cluster, and where it was said.
pub(super) struct ReadCluster {
    pub(super) cluster: Cluster,
    pub(super) place: Location,
    /// Its servers' addresses, each with its place.
    pub(super) addresses: Vec<Spot<ServerAddress>>,
    /// Its buckets' names, as they were written, and where each of the plan's was written.
    pub(super) buckets: Vec<Location>,
    pub(super) written_buckets: Vec<usize>,
    /// Where it says whose a request is.
    pub(super) client_key: Location,
    /// Where it says that servers are kept offline, if it does.
    pub(super) sticky_offline: Option<Location>,
}

/// Reads all clusters; `capacity` goes before what they say of their servers.
pub(super) fn read_all(
    root: &Table<'_>,
    max_sessions: usize,
    capacity: Option<usize>,
) -> Vec<ReadCluster> {
    let tables = root.tables("cluster");
    if !root.meant("cluster") {
        let complaint = Complaint::new("there is no cluster");
        root.problems().error(
            root.place(),
            complaint.hint("say where requests go: [[cluster]], or --server"),
        );
    }
    let mut names = Names::default();
    tables
        .iter()
        .enumerate()
        .map(|(i, table)| read(table, i, max_sessions, capacity, &mut names))
        .collect()
}

fn read(
    table: &Table<'_>,
    i: usize,
    max_sessions: usize,
    capacity: Option<usize>,
    names: &mut Names,
) -> ReadCluster {
    let name = unique_name(table, names, Subject::ClusterName);
    let schedule = scheduler::schedule(table);
    let (mut servers, addresses) = servers(table, i, table.count("capacity"), schedule);
    if let Some(capacity) = capacity {
        servers
            .iter_mut()
            .for_each(|server| server.capacity = capacity);
    }
    let (queue, retry) = (table.table("queue"), table.table("retry"));
    let health = health::read(table);
    let mut cluster = Cluster {
        name,
        servers,
        admin: admin(table),
        schedule,
        buckets: Vec::new(),
        lending: Lending::of_word(table.word("lending")).unwrap_or_default(),
        client_key: scheduler::client_key(table),
        binding: Binding::of_word(table.word("binding")).unwrap_or(Binding::Late),
        connect: Connect::of_word(table.word("connect")).unwrap_or_default(),
        keep: table.duration("keep"),
        lane: table.count("lane"),
        pipeline: table.count("pipeline"),
        queue_limit: queue
            .count_if_any("limit")
            .map_or(max_sessions, |spot| saturate(spot.value)),
        queue_timeout: queue.duration("timeout"),
        deadline_field: scheduler::deadline_field(table),
        attempts: u32::try_from(retry.count("attempts")).unwrap_or(u32::MAX),
        retry_budget: retry.percent("budget"),
        retry_back_off: retry.duration("back_off"),
        on_5xx: On5xx::of_word(table.word("on_5xx")).unwrap_or_default(),
        on_unavailable: OnUnavailable::of_word(table.word("on_unavailable"))
            .unwrap_or(OnUnavailable::Refuse),
        on_client_abort: OnClientAbort::of_word(table.word("on_client_abort"))
            .unwrap_or(OnClientAbort::Close),
        health,
        timeout: timeout(&table.table("timeout")),
        response_head: saturate(table.table("limit").size("head")),
        response_fields: table.table("limit").count("response_fields"),
        error_pages: pages::read(table, &pages::OF_CLUSTERS),
    };
    let (buckets, written_buckets) = buckets::read(table, i, &mut cluster);
    // What servers have wrong addresses, the cluster does not know.
    if addresses.len() == table.tables("server").len() {
        for objection in check_cluster(i, &cluster) {
            table
                .problems()
                .object(objection, |subject| place_of(table, &addresses, subject));
        }
    }
    idle::of_cluster(table, &cluster);
    let sticky = cluster.health.settings.sticky_offline;
    ReadCluster {
        place: table.place().clone(),
        addresses,
        buckets,
        written_buckets,
        client_key: table.place_of("client_key"),
        sticky_offline: sticky.then(|| table.place_within("health", "sticky_offline")),
        cluster,
    }
}

fn admin(table: &Table<'_>) -> Admin {
    Admin::of_word(table.word("admin")).unwrap_or_default()
}

fn servers(
    table: &Table<'_>,
    cluster: usize,
    capacity: usize,
    schedule: Schedule,
) -> (Vec<Server>, Vec<Spot<ServerAddress>>) {
    let tables = table.tables("server");
    if !table.meant("server") {
        let complaint =
            Complaint::new("the cluster has no server").hint("[[cluster.server]] with an address");
        table.problems().error(table.place(), complaint);
    }
    let mut servers = Vec::new();
    let mut addresses: Vec<Spot<ServerAddress>> = Vec::new();
    let mut names = Names::default();
    let mut firsts = Firsts::default();
    for table in &tables {
        // All of it, so that a wrong address hides nothing else.
        let named = table
            .has("name")
            .then(|| unique_name(table, &mut names, |i| Subject::ServerName(cluster, i)));
        let text = table.text("address");
        let capacity = table
            .count_if_any("capacity")
            .map_or(capacity, |spot| saturate(spot.value));
        let weight = table.count_if_any("weight").map_or(1, |spot| spot.value);
        let role = Role::of_word(table.word("role")).unwrap_or_default();
        let (admin, protected) = (admin(table), table.flag("protected"));
        let Some(text) = text else { continue };
        let address = match parse_server(&text.value) {
            Ok(address) => address,
            Err(complaint) => {
                table.problems().error(&text.place, complaint);
                continue;
            }
        };
        let own = Subject::ServerAddress(cluster, addresses.len());
        addresses.push(Spot {
            value: address.clone(),
            place: text.place.clone(),
        });
        if let Some(objection) = firsts.add_server(&address, own) {
            let place_of = |subject| match subject {
                Subject::ServerAddress(_, i) => addresses.get(i).map(|spot| spot.place.clone()),
                _ => None,
            };
            table.problems().object(objection, place_of);
        }
        servers.push(Server {
            name: named.unwrap_or_else(|| text.value.clone()),
            address,
            capacity,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            role,
            admin,
            protected,
        });
    }
    idle::of_servers(table, &tables, schedule);
    (servers, addresses)
}

/// Where this subject stands in the file, as far as the cluster knows.
fn place_of(
    table: &Table<'_>,
    addresses: &[Spot<ServerAddress>],
    subject: Subject,
) -> Option<Location> {
    match subject {
        Subject::ClusterKey(_, ClusterKey::Servers) => Some(table.place_of("server")),
        Subject::ClusterKey(_, ClusterKey::Binding) => Some(table.place_of("binding")),
        Subject::ClusterKey(_, ClusterKey::ClientKey) => Some(table.place_of("client_key")),
        Subject::ServerAddress(_, at) => addresses.get(at).map(|spot| spot.place.clone()),
        _ => None,
    }
}

fn timeout(table: &Table<'_>) -> ClusterTimeout {
    ClusterTimeout {
        connect: table.duration("connect"),
        send: table.duration("send"),
        first_byte: table.duration("first_byte"),
        read: table.duration("read"),
        stream: table.duration("stream"),
        abort: table.duration("abort"),
    }
}
